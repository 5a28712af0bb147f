# The types of kaserve/http/protocol.py.

cimport cython

from kaserve.http._fast cimport encode_head, find_head_end, join, parse_head
from kaserve.http.framing cimport check_expectation, has_body, persists, request_body, response_body
from kaserve.http.limits cimport Limits
from kaserve.http.messages cimport Request, Response
from kaserve.http.target cimport resolve_target

cdef int BODY, CLOSED, HANDLER, HEAD, IDLE, LINGER, SEND
cdef int CLOSE, CONNECTION, CONTENT_LENGTH, DATE, HOP_BY_HOP, TRANSFER_ENCODING
cdef int _CR
cdef long long CHUNKED
cdef bytes _CLOSE_LINES
cdef list _short_length_lines, _status_lines
cdef dict _length_lines
cdef int _MAX_REMEMBERED

cdef bytes _length_line(long long length)
cdef _remember(dict lines, number, bytes line)

cdef class KeepAlive:
    cdef public double timeout
    cdef public int announced, minor, requests
    cdef public bint enabled
    cdef public dict _lines, _memory

    cpdef bytes lines(self, int remaining)

cdef class HTTPProtocol:
    cdef public object _decoder, _trailers
    cdef public Limits _limits
    cdef public KeepAlive _keep_alive
    cdef public bint _persists
    cdef public bytes _received
    cdef public Py_ssize_t _scanned, _start
    cdef public long long body_left
    cdef public bint ended, sends_body
    cdef public int phase
    cdef public Request request
    cdef public int served
    cdef public object sink

    cpdef receive(self, bytes data)
    @cython.locals(data=bytes, end=Py_ssize_t, size=Py_ssize_t, request=Request)
    cpdef Request read_head(self)
    cdef _consume(self, Py_ssize_t position)
    cdef bint _skip_empty_lines(self) except -1
    cdef _await_head(self)
    cdef _check_lines(self, bytes head)
    cpdef bint read_body(self) except -1
    @cython.locals(request=Request, lines=bytes, flags=int, length=cython.longlong, remaining=int, last=bint)
    cpdef bytes respond(self, Response response, bytes date, bint wanted)
    cdef bytes _leave_out(self, Response response, bytes lines, bint has_trailers)
    cpdef finish(self)
    @cython.locals(lines=list)
    cdef bytes _status_line(self, int status)
    cdef _abandon_body(self)
