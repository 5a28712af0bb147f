# The types of kaserve/net/timeline.py.

cdef class Timeline:
    cdef public bint recording
    cdef public double _until
    cdef public list _tracks
