# The types of kaserve/handlers/wsgi/start_response.py.

cimport cython

from kaserve.http.memo cimport remember
from kaserve.http.messages cimport Request, Response, new_response

cdef int _LENGTH, _ONE_HOP, _OTHER
cdef int CONNECTION, CONTENT_LENGTH, HOP_BY_HOP, TRANSFER_ENCODING
cdef dict _name_kinds, _codes

cpdef bytes to_bytes(data)

cdef class StartResponse:
    cdef public object reason, send, _hop_by_hop, _length
    cdef public int status
    cdef public bint head_sent
    cdef public list written, _fields

    cdef _initialize(self, hop_by_hop)
    @cython.locals(fields=list, kind=int, has_hop_by_hop=bint)
    cdef _set_headers(self, headers)
    @cython.locals(fields=list, response=Response)
    cpdef Response full_response(self, Request request, bytes body)

@cython.locals(start_response=StartResponse)
cpdef StartResponse new_start_response(hop_by_hop)
