# The types of kaserve/proxy/fields.py.

cimport cython

from kaserve.http._fast cimport encode_head, join
from kaserve.http.memo cimport remember
from kaserve.http.messages cimport Request
from kaserve.http.responses cimport ResponseHead
from kaserve.proxy.forwarded cimport Introduction, claims_to_forward
from kaserve.proxy.target cimport check_path, upstream_target

cdef long long CHUNKED, NO_LENGTH
cdef int CONNECTION, CONTENT_LENGTH, HOP_BY_HOP, TRANSFER_ENCODING
cdef int _MAX_LOOPS, _MAX_REMEMBERED, _MAX_SIZE
cdef tuple _DROPPED
cdef dict _options, _request_lines, _response_fields

cdef class Forwarding:
    cdef public object host, url
    cdef public Introduction introduction
    cdef public str via
    cdef public tuple via_fields

    cpdef str host_of(self, Request request)

cpdef check_request(Request request, Forwarding settings)
cpdef bint may_go_further(Request request) except -1
cpdef long long passed_framing(Request request) except? -9
cdef _check(str text)
@cython.locals(line=bytes)
cdef _add_passed(list lines, Request request)
cdef _named(list values)
cdef bytes _encode_line(tuple field)
cdef bint _is_dropped(str name) except -1
cdef bytes _encode_claim(tuple field)
cdef list _counted(Request request)
cdef bytes _framing_lines(Request request, long long framing)
cdef bytes _connection_lines(Request request, upgrade, persist)
cdef bint _takes_trailers(Request request) except -1
@cython.locals(fields=list, flags=int, passed=tuple)
cdef list _passed_fields(ResponseHead head, Forwarding settings, Request request)
cdef tuple _pass(tuple field, Forwarding settings, Request request)
