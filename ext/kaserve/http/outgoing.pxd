# The types of kaserve/http/outgoing.py.

from kaserve.http._fast cimport encode_head
from kaserve.http.messages cimport Request

cdef long long CHUNKED

cdef class Outgoing:
    cdef public Request request
    cdef public object trailers
    cdef public bytes head
    cdef public long long framing, left
    cdef public bint has_content, is_inline, is_limit, persists

    cpdef bytes encode(self, piece)  # which may be of a subclass of bytes
    cpdef tuple chunk_frame(self, long long size)
    cpdef bytes end(self)
