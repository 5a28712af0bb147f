# The types of kaserve/apps/wsgi_answer.py.

cimport cython

from kaserve.http.messages cimport Request, Response

cdef int _PLAIN, _LENGTH
cdef dict _kinds, _statuses

cdef class StartResponse:
    cdef public object transmit, _length
    cdef public int status
    cdef public bint sent
    cdef public list written, _fields

    @cython.locals(fields=list)
    cpdef Response whole(self, Request request, bytes body)
