# The types of kaserve/proxy/forwarded.py.

cimport cython

from kaserve.http.memo cimport remember
from kaserve.http.messages cimport Request

cdef int _MAX_REMEMBERED, _MAX_SIZE

cdef class Introduction:
    cdef public dict _memo
    cdef public bint _shows_prefix
    cdef public str _via

    @cython.locals(lines=bytes)
    cpdef bytes lines(self, Request request)
    cdef bytes _lines_of_trusted(self, Request request, peer)
    cdef bytes _encode(self, Request request, list chain, list elements, str prefix)

cpdef bint claims_to_forward(str name) except -1
cdef str _node(address)
cdef str _element(str node, Request request)
