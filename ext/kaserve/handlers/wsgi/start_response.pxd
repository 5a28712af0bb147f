# The types of kaserve/handlers/wsgi/start_response.py.

cimport cython

from kaserve.http.messages cimport Request, Response, new_response

cdef int _PLAIN, _LENGTH
cdef dict _kinds, _statuses

cdef class StartResponse:
    cdef public object transmit, _length
    cdef public int status
    cdef public bint sent
    cdef public list written, _fields

    cdef _fill(self)
    @cython.locals(fields=list)
    cpdef Response whole(self, Request request, bytes body)

@cython.locals(start=StartResponse)
cpdef StartResponse new_start()
