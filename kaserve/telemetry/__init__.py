"""What a server counts and remembers, and what follows from it: counters, a timeline, snapshots, advice.

A layer below `net`, which counts into it. Knows the phases of a connection from `http`, and no sockets.
"""
