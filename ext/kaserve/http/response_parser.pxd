# The types of kaserve/http/response_parser.py.

cimport cython

from kaserve.http._fast cimport find_head_end, join
from kaserve.http.limits cimport Limits
from kaserve.http.responses cimport (
    ResponseHead, check_interim, check_switch, parse_response_head, response_length, response_persists
)

cdef long long CHUNKED, TUNNEL, UNTIL_CLOSE
cdef long long _EVERYTHING
cdef bytes _PREFIX

cdef class ResponseParser:
    cdef public Limits _limits
    cdef public bytes _content, _received
    cdef public Py_ssize_t _content_start, _scanned, _start
    cdef public long long _left, length
    cdef public object _decoder
    cdef public str _method
    cdef public list trailers
    cdef public bint _head_due, _may_persist, _upgrade, complete, ended, persists
    cdef public int _interim_left

    cpdef receive(self, bytes data)
    cpdef bint has_received(self) except -1
    @cython.locals(data=bytes, start=Py_ssize_t, end=Py_ssize_t, head=ResponseHead)
    cpdef ResponseHead read_head(self)
    cdef _consume(self, Py_ssize_t position)
    cdef _await_head(self)
    @cython.locals(length=cython.longlong)
    cdef _begin_body(self, ResponseHead head)
    cdef _complete(self)
    cpdef bytes read_body(self, long long most=*)
    cdef bytes _read_counted(self, long long most)
    cdef bytes _read_until_close(self, long long most)
    @cython.locals(data=bytes, start=Py_ssize_t, stop=Py_ssize_t)
    cdef bytes _take(self, long long most)
    @cython.locals(start=Py_ssize_t, stop=Py_ssize_t)
    cdef bytes _read_chunks(self, long long most)
    @cython.locals(pieces=list)
    cdef _decode(self, decoder)
    cpdef bytes take_rest(self)
