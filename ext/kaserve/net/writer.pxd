# The types of kaserve/net/writer.py.

cimport cython

from kaserve.http._fast cimport join

cdef int AWAITING, BLOCKED, BROKEN, ENCODED, LOST, SENT

cdef class Writer:
    cdef public object buffer, source
    cdef public list _queue
    cdef public Py_ssize_t moved, queued

    cpdef enqueue(self, bytes data)
    @cython.locals(sent=Py_ssize_t)
    cpdef int flush(self, sock, int flags=*) except -1
    @cython.locals(progress=int)
    cpdef int pump(self, sock) except -1
    cdef int _send_span(self, sock, source) except -1
