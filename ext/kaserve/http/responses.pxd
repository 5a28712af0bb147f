# The types of kaserve/http/responses.py.

cimport cython

from kaserve.http._fast cimport parse_head
from kaserve.http.memo cimport remember
from kaserve.http.messages cimport Request

cdef int CLOSE, CONTENT_LENGTH, KEEP_ALIVE, TRANSFER_ENCODING
cdef long long CHUNKED, UNTIL_CLOSE
cdef bytes _ANY_REQUEST_LINE
cdef dict _status_lines
cdef int _MAX_LINE_SIZE, _MAX_STATUS_LINES

cdef class ResponseHead:
    cdef public int flags, minor, status
    cdef public str reason
    cdef public list fields

    cpdef list values(self, str name)

@cython.locals(line_end=Py_ssize_t, line=bytes, lines=bytes, known=tuple, message=Request)
cpdef ResponseHead parse_response_head(bytes data, Py_ssize_t start, Py_ssize_t end)
cdef tuple _parse_status_line(bytes line)
cdef bytes _repaired(bytes lines)
@cython.locals(length=cython.longlong)
cpdef long long response_length(str method, ResponseHead head) except? -9
cdef _check_codings(ResponseHead head)
cdef long long _declared_length(ResponseHead head) except? -9
cpdef bint response_persists(ResponseHead head, long long length) except -1
cdef bint _claims_content(ResponseHead head) except -1
cpdef check_interim(ResponseHead head)
cpdef check_switch(ResponseHead head, bint asked)
