# The types of kaserve/net/connection.py.

cimport cython

from kaserve.http.messages cimport Request
from kaserve.http.protocol cimport HTTPProtocol
from kaserve.net.exchange cimport Exchange, begin_exchange
from kaserve.net.reactor cimport Reactor
from kaserve.net.service cimport PhaseTimeout, Service
from kaserve.net.timerwheel cimport Timer
from kaserve.net.writer cimport Writer
from kaserve.telemetry.counters cimport Stats

cdef double _KEEPALIVE_AFTER
cdef int BODY, CLOSED, HANDLER, HANDSHAKE, HEAD, IDLE, LINGER, SEND
cdef int HALF_CLOSE, HANGUP, NOTHING, READ, WRITE
cdef int AWAITING, BROKEN, DONE, LOST
cdef Py_ssize_t _MAX_BUFFERED
cdef int _MAX_LAST_LOOKS, _MAX_REQUESTS_PER_TURN

cdef class Connection(Timer):
    cdef public Service _service
    cdef public object _sock, _trace
    cdef public Writer _writer
    cdef public Exchange _exchange
    cdef public double _idle_allowance, _idle_from, _max_age_at, _opened, _progress_from, _request_started
    cdef public int _interest
    cdef public bint _closing, _race_lost
    cdef public long long _min_progress_left, _queued_before, number
    cdef public HTTPProtocol protocol
    cdef public object client, ending, server
    cdef public int phase

    cpdef ready(self, int events)
    cdef _expire(self)
    @cython.locals(phase=int)
    cdef _expire_request(self)
    @cython.locals(reactor=Reactor)
    cdef _client_leaves(self, int events)
    @cython.locals(exchange=Exchange)
    cdef _end_wait(self)
    cdef _check_progress(self)
    @cython.locals(phase=int, timeout=PhaseTimeout)
    cdef _update_state(self)
    @cython.locals(reactor=Reactor, timeout=PhaseTimeout, now=double)
    cdef _enter(self, int phase)
    cdef _watch(self, int events)
    cdef _shake_hands(self)
    cdef bint _receive(self) except -1
    @cython.locals(exchange=Exchange, protocol=HTTPProtocol, writer=Writer, phase=int, requests_left=int)
    cdef _run(self)
    @cython.locals(exchange=Exchange, protocol=HTTPProtocol, request=Request, gap=double)
    cdef bint _read(self) except -1
    @cython.locals(exchange=Exchange)
    cdef Exchange _begin_exchange(self)
    cdef _start_trace(self)
    cdef bint _may_persist(self) except -1
    cdef _refuse(self, error, ending)
    @cython.locals(exchange=Exchange, service=Service)
    cdef _response_started(self)
    @cython.locals(service=Service)
    cdef _why_last(self)
    @cython.locals(exchange=Exchange, now=double)
    cdef _finish_response(self)
    cdef bint _is_awaiting(self) except -1
    @cython.locals(progress=int)
    cdef bint _flush(self) except -1
    @cython.locals(exchange=Exchange, writer=Writer, progress=int)
    cdef bint _send_body(self) except -1
    @cython.locals(writer=Writer)
    cdef _count_sent(self)
    cdef _fail_response(self, error)
    cdef _finish_idle(self, ending)
    cdef bint _half_close(self) except -1
    cdef _read_late_bytes(self)
    cdef _reset(self, ending)
    cdef _close(self, ending)
