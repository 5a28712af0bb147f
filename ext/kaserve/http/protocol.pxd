# The types of kaserve/http/protocol.py.

cimport cython

from kaserve.http._fast cimport encode_head, find_head_end, join, parse_head
from kaserve.http.framing cimport check_expectation, has_content, persists, request_framing, response_framing
from kaserve.http.keep_alive cimport KeepAlive
from kaserve.http.limits cimport Limits
from kaserve.http.messages cimport Request, Response
from kaserve.http.outgoing cimport Outgoing
from kaserve.http.target cimport resolve_target

cdef int BODY, CLOSED, HANDLER, HEAD, IDLE, LINGER, SEND, TUNNEL
cdef int CLOSE, CONNECTION, CONTENT_LENGTH, DATE, HOP_BY_HOP, TRANSFER_ENCODING
cdef int _CR
cdef long long CHUNKED, MAX_INLINE_BODY
cdef bytes _CLOSE_LINES
cdef list _short_length_lines, _status_lines
cdef dict _framing_lines, _length_lines
cdef int _MAX_REMEMBERED

cdef bytes _framing_line(long long framing)

cdef class HTTPProtocol:
    cdef public object _decoder
    cdef public Limits _limits
    cdef public KeepAlive _keep_alive
    cdef public bytes _received
    cdef public Py_ssize_t _scanned, _start
    cdef public long long _allowance, _body_left
    # Together, since each int between pointers would take the space of two in every idle connection.
    cdef public bint ended
    cdef public int _empty_lines_left, phase, served
    cdef public Request request
    cdef public Outgoing outgoing
    cdef public object sink

    cpdef receive(self, bytes data)
    cpdef bint has_received(self) except -1
    @cython.locals(data=bytes, end=Py_ssize_t, request=Request)
    cpdef Request read_head(self)
    cdef _consume(self, Py_ssize_t position)
    cdef bint _skip_empty_lines(self) except -1
    cdef _await_head(self)
    cpdef bint read_body(self) except -1
    cpdef begin_stream(self)
    cpdef read_stream(self)
    cpdef fail_stream(self, error)
    cpdef bint is_body_wanted(self) except -1
    cpdef bint can_find_next(self, Response response, bint sends_content) except -1
    cdef bint _skip_body(self) except -1
    cdef bint _read_on(self, sink) except -1
    cdef bint _end_stream(self, bint may_persist) except -1
    @cython.locals(
        request=Request, lines=bytes, flags=int, framing=cython.longlong, remaining=int,
        head_only=bint, sends_content=bint, declared=bint
    )
    cpdef prepare(self, Outgoing outgoing, Response response, bytes date, bint may_persist)
    @cython.locals(request=Request, lines=bytes)
    cdef _prepare_upgrade(self, Outgoing outgoing, Response response)
    cpdef start(self, Outgoing outgoing)
    cdef bint _begins_with(self, bytes text) except -1
    cdef bytes _strip_hop_by_hop(self, Response response, bytes lines, bint has_trailers)
    @cython.locals(goes_on=bint)
    cpdef finish(self)
    cpdef begin_tunnel(self)
    cpdef bytes take_received(self)
    cdef _release(self)
    @cython.locals(lines=list)
    cdef bytes _status_line(self, int status)
    cdef _abandon_body(self)
