"""What a server counts and remembers, and what follows from it. Knows the phases of HTTP and nothing else."""
