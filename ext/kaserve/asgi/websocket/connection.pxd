# The types of kaserve/asgi/websocket/connection.py.

cimport cython

from kaserve.asgi.websocket.reader cimport MessageReader, encode_frame
from kaserve.http.tunnel cimport Tunnel
from kaserve.net.reactor cimport Reactor

cdef Py_ssize_t _MAX_REASON, _MIN_DEFLATED, _OVERHEAD
cdef int _ABNORMAL, _PONG_FRAME
cdef object _BINARY, _CLOSE, _PONG, _TEXT

cdef class WebSocket(Tunnel):
    cdef public object _alarm, _connection, _extensions, _notify, _ping, _pong, _protocol, _settings
    cdef public object close_code, unread
    cdef public Reactor _reactor
    cdef public MessageReader _reader
    cdef public str close_reason
    cdef public long long _accepted, _pings, _queued
    cdef public Py_ssize_t _unread_size
    cdef public bint _is_blocked, _is_paused

    cpdef take(self)
    @cython.locals(is_text=bint, data=bytes)
    cpdef bint send(self, message) except -1
    cpdef bint has_room(self) except -1
    cpdef close(self, int code, str reason=*)
    @cython.locals(reader=MessageReader, messages=list)
    cpdef received(self, bytes data)
    cdef _take_control(self)
    cdef _write(self, bytes data)
    @cython.locals(data=bytes)
    cdef _send_output(self)
    cdef _finish(self, int code, str reason=*)
    cdef _end(self)
    cdef _schedule(self, double seconds)
    cdef _send_ping(self)
    cdef _note_progress(self)
    @cython.locals(accepted=cython.longlong, queued=cython.longlong, is_complete=bint)
    cdef bint _client_takes_bytes(self) except -1

cdef str _shortened(str reason)
