# The types of kaserve/http/keep_alive.py.

from kaserve.http._fast cimport join
from kaserve.http.memo cimport remember

cdef int _MAX_REMEMBERED

cdef class KeepAlive:
    cdef public double timeout
    cdef public int announced, minor, requests
    cdef public bint enabled
    cdef public dict _lines, _memory
    cdef public bytes _prefix

    cpdef bytes lines(self, int remaining)
