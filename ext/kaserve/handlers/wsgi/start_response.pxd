# The types of kaserve/handlers/wsgi/start_response.py.

cimport cython

from kaserve.http.memo cimport remember
from kaserve.http.messages cimport Request, Response, new_response

cdef int _OTHER, _LENGTH
cdef dict _name_kinds, _status_codes

cdef class StartResponse:
    cdef public object send, _length
    cdef public int status
    cdef public bint head_sent
    cdef public list written, _fields

    cdef _initialize(self)
    @cython.locals(fields=list)
    cpdef Response full_response(self, Request request, bytes body)

@cython.locals(start_response=StartResponse)
cpdef StartResponse new_start_response()
