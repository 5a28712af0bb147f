# The types of kaserve/net/tunnel.py.

cimport cython

from kaserve.http.protocol cimport HTTPProtocol
from kaserve.http.tunnel cimport Tunnel
from kaserve.net.reactor cimport Reactor
from kaserve.net.service cimport Service
from kaserve.net.writer cimport Writer

cdef int CLIENT_LEAVES, ERROR, HALF_CLOSE, HANGUP, LOST, NOTHING, READ, SENT, WRITE
cdef Py_ssize_t _MAX_JOINED, _MAX_SENT_PER_TURN
cdef long long _UNKNOWN

cdef class OpenTunnel:
    cdef public object _connection, _queue, _sock, ending
    cdef public Tunnel _tunnel
    cdef public Service _service
    cdef public HTTPProtocol _protocol
    cdef public Writer _writer
    cdef public double _moved_at
    cdef public long long _queued_before, sent
    cdef public Py_ssize_t last_size
    cdef public bint _end_told, _fin_waits, _finished, _finishing, _half_closed, _hung_up, _in_turn, _owes_drained
    cdef public bint _scheduled, _waits_for_room, is_lost, is_paused

    cpdef bint write(self, data) except -1
    cdef _schedule(self)
    cpdef begin(self, sock)
    cpdef stop(self)
    cpdef go_on(self, bint received)
    @cython.locals(protocol=HTTPProtocol, tunnel=Tunnel)
    cpdef _deliver(self)
    cdef bint _may_deliver(self) except -1
    cdef _finish(self)
    cpdef int interest(self) except -1
    cpdef bint is_gone(self, int events) except -1
    cpdef double last_moved(self) except? -1
    cpdef hand_over(self)
    cpdef closed(self)
    @cython.locals(writer=Writer, left=Py_ssize_t, progress=int)
    cdef bint _flush(self) except -1
    cdef _next_piece(self)
    @cython.locals(writer=Writer)
    cdef _count_sent(self)
    cdef _lose(self)
    cdef _call(self, function)
