# The types of kaserve/http/framing.py.

cimport cython

from kaserve.http.messages cimport FileSpan, Request, Response

cdef int CLOSE, CONTENT_LENGTH, EXPECT, HOP_BY_HOP, KEEP_ALIVE, TRANSFER_ENCODING

cpdef object request_body(Request request)
cpdef bint check_expectation(Request request) except -1
@cython.locals(known=cython.longlong)
cpdef long long response_body(Request request, Response response, bint declared) except? -9
cpdef bint has_body(Request request, int status) except -1
cpdef bint persists(Request request, long long response_length, bint wanted) except -1
