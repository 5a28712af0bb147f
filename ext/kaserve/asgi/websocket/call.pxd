# The types of kaserve/asgi/websocket/call.py.

cimport cython

from kaserve.asgi.call cimport Call, new_call
from kaserve.asgi.done cimport new_done
from kaserve.asgi.waiter cimport Waiter
from kaserve.asgi.websocket.connection cimport WebSocket
from kaserve.http.messages cimport Request, Response

cdef int _CLOSED, _CONNECTING, _DENIED, _OPEN
cdef int _ABNORMAL, _GOING_AWAY, _INTERNAL_ERROR, _NORMAL

cdef class WebSocketCall:
    cdef public object _loop, _negotiator, _reactor, _settings, future, result
    cdef public list _waiters
    cdef public Call _denial
    cdef public Request _request
    cdef public WebSocket _socket
    cdef public bint _has_connected, _has_left
    cdef public int _state

    @cython.locals(waiter=Waiter)
    cpdef _notify(self, bint now=*)
    cpdef Waiter new_waiter(self)
    cpdef forget(self, Waiter waiter)
    @cython.locals(socket=WebSocket)
    cpdef next_message(self)
    cpdef bint has_room(self) except -1
    cpdef int closed_by_other(self) except -1
    cdef _send_handshake(self, kind, message)
    @cython.locals(socket=WebSocket)
    cdef _accept(self, message)
    @cython.locals(denial=Call)
    cdef _deny(self, kind, message)
    cpdef end(self, task)
    @cython.locals(socket=WebSocket, is_over=bint, cancelled=bint)
    cpdef failed(self, error)
    cdef _returned(self)
    cdef _depart(self)
    cdef _complete(self, result)

cdef _content(message)
cdef int _code(message) except? -1
