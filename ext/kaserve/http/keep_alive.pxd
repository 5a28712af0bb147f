# The types of kaserve/http/keep_alive.py.

cdef class KeepAlive:
    cdef public double timeout
    cdef public int announced, minor, requests
    cdef public bint enabled
    cdef public dict _lines, _memory

    cpdef bytes lines(self, int remaining)
