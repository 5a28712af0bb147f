# The types of kaserve/net/connection.py.

cimport cython

from kaserve.net.exchange cimport Exchange
from kaserve.net.reactor cimport Reactor
from kaserve.net.service cimport PhaseTimeout, Service
from kaserve.net.tunnel_loop cimport TunnelLoop

cdef double _KEEPALIVE_AFTER, _LATE_HANDSHAKE
cdef int BODY, CLOSED, HANDLER, HANDSHAKE, HEAD, IDLE, LINGER, SEND, TUNNEL
cdef int HALF_CLOSE, HANGUP, NOTHING, READ, WRITE
cdef int _MAX_LAST_LOOKS

cdef class Connection(TunnelLoop):
    cdef public bint _race_lost
    cdef public double _progress_from
    cdef public long long _queued_before

    cpdef ready(self, int events)
    cdef _expire(self)
    @cython.locals(had_begun=bint, reactor=Reactor)
    cdef _expire_handshake(self)
    @cython.locals(phase=int)
    cdef _expire_request(self)
    @cython.locals(reactor=Reactor)
    cdef _client_leaves(self, int events)
    @cython.locals(exchange=Exchange)
    cdef _end_wait(self)
    cdef _check_progress(self)
    @cython.locals(phase=int, timeout=PhaseTimeout)
    cdef _update_state(self)
    @cython.locals(reactor=Reactor, timeout=PhaseTimeout, now=double, seconds=double)
    cdef _enter(self, int phase)
    cdef _watch(self, int events)
    cdef _shake_hands(self)
    cdef bint _receive(self, Py_ssize_t size=*) except -1
    cdef _finish_idle(self, ending)
    cdef bint _half_close(self) except -1
    cdef _read_late_bytes(self)
    cdef _reset(self, ending)
    cdef _close(self, ending)
