# The types of kaserve/net/stats.py.

cdef class Stats:
    cdef public long long accepted, failed, races_lost, requests
    cdef public object closed, refused
