# The types of kaserve/net/connection.py.

cimport cython

from kaserve.http._fast cimport join
from kaserve.http.framing cimport has_body
from kaserve.http.messages cimport FileSpan, Request, Response
from kaserve.http.protocol cimport HTTPProtocol
from kaserve.net.reactor cimport Reactor
from kaserve.net.service cimport Service, PhaseTimeout
from kaserve.telemetry.counters cimport Stats
from kaserve.net.timerwheel cimport Timer

cdef int BODY, CLOSED, HANDLER, HANDSHAKE, HEAD, IDLE, LINGER, SEND
cdef int NOTHING, READ, WRITE
cdef int MAX_INLINE_BODY
cdef Py_ssize_t _MAX_UNSENT
cdef int _MAX_REQUESTS_PER_TURN

cdef class Connection(Timer):
    cdef public Service _service
    cdef public object _awaited, _rejection, _sock, _stream, _track, _unsent
    cdef public Response _response
    cdef public double _accepted, _aged, _began, _called, _moved_at, _promised, _replied, _rested
    cdef public int _interest
    cdef public list _behind
    cdef public Py_ssize_t _behind_size
    cdef public bint _parting
    cdef public long long _needed, _queued, _size, number
    cdef public HTTPProtocol protocol
    cdef public object client, server
    cdef public str ending
    cdef public int phase

    @cython.locals(called=double)
    cpdef tuple times(self)
    cpdef ready(self, int events)
    cdef _expire(self)
    cdef _stall(self)
    cdef _receive(self)
    cdef _shake_hands(self)
    @cython.locals(protocol=HTTPProtocol, phase=int, requests_left=int)
    cdef _run(self)
    @cython.locals(phase=int, waiting=PhaseTimeout)
    cdef _settle(self)
    @cython.locals(reactor=Reactor, waiting=PhaseTimeout, now=double)
    cdef _enter(self, int phase)
    cdef _watch(self, int events)
    cdef bint _read(self) except -1
    cdef _answer(self)
    cdef _await(self, future)
    cdef bint _awaits(self) except -1
    cdef _refuse(self, error)
    @cython.locals(head=bytes, joined=bint, protocol=HTTPProtocol, reactor=Reactor, service=Service)
    cdef _respond(self, Response response, bint wanted)
    @cython.locals(now=double)
    cdef _finish(self)
    cdef _collect(self, bytes data)
    @cython.locals(sent=Py_ssize_t)
    cdef bint _flush(self, int flags=*) except -1
    cdef bint _send_stream(self, stream) except -1
    cdef bytes _advance(self, stream)
    cdef bint _send_span(self, stream, FileSpan span) except -1
    cdef _part(self, str reason)
    cdef bint _half_close(self) except -1
    cdef _discard(self)
    cdef _abort(self, str reason)
    cdef _close(self, str reason)
