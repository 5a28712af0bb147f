# The types of kaserve/asgi/call.py.

cimport cython

from kaserve.asgi.done cimport new_done
from kaserve.asgi.fields cimport ResponseFields, new_fields
from kaserve.http.messages cimport Request, Response, new_response

cdef int _BODY, _COMPLETE, _START, _TRAILERS
cdef int _HAS_BODY

cdef class Call:
    cdef public object _loop, _pieces, _reading, _status, _stream, future, result
    cdef public list _trailers, waiters
    cdef public Request _request
    cdef public Response _response
    cdef public ResponseFields _fields
    cdef public bint _has_left, _has_trailers, _unread
    cdef public int _state

    cdef _fill(self, loop, Request request)
    cpdef end(self, task)
    cpdef next_message(self)
    cdef _read(self, stream)
    cdef _notify(self)
    cdef _send_other(self, kind, message)
    @cython.locals(is_last=bint)
    cdef _add_body(self, message)
    @cython.locals(fields=ResponseFields, length=tuple)
    cdef Response _whole_response(self, bytes body)
    cdef _begin_streaming(self)
    @cython.locals(response=Response, replacement=Response)
    cdef _end_body(self)
    cdef _send_file(self, path)
    cdef _complete(self, result)
    cpdef failed(self, error)
    cdef _returned_early(self)
    cdef _depart(self)
    cdef _give_up(self, error)

@cython.locals(call=Call)
cpdef Call new_call(loop, Request request)
