# The types of kaserve/http/framing.py.

cimport cython

from kaserve.http.file_span cimport FileSpan
from kaserve.http.messages cimport Request, Response

cdef int CLOSE, CONTENT_LENGTH, EXPECT, HOP_BY_HOP, KEEP_ALIVE, TRANSFER_ENCODING

cpdef object request_framing(Request request)
cpdef bint check_expectation(Request request) except -1
@cython.locals(known=cython.longlong)
cpdef long long response_framing(Response response, bint declared, bint sends_content, bint is_http_1_0) except? -9
cpdef bint has_content(int status, bint head_only) except -1
cpdef bint asks_to_close(Request request) except -1
cpdef bint persists(Request request, long long framing, bint may_persist) except -1
