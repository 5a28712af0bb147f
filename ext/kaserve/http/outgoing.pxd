# The types of kaserve/http/outgoing.py.

cimport cython

from kaserve.http._fast cimport encode_head
from kaserve.http.messages cimport Request, Response

cdef long long CHUNKED

@cython.freelist(16)
cdef class Outgoing:
    cdef public Request _request
    cdef public object _trailers
    cdef public bytes head
    cdef public long long framing, left
    cdef public bint has_content, is_inline, persists

    cpdef bytes encode(self, bytes piece)
    cpdef tuple chunk_frame(self, long long size)
    cpdef bytes end(self)
