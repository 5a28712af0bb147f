# The types of kaserve/net/request_loop.py.

cimport cython

from kaserve.http.messages cimport Request
from kaserve.http.protocol cimport HTTPProtocol
from kaserve.net.exchange cimport Exchange, begin_exchange
from kaserve.net.service cimport Service
from kaserve.net.timerwheel cimport Timer
from kaserve.net.writer cimport Writer

cdef int BODY, CLOSED, HANDLER, IDLE, LINGER, SEND
cdef int NOTHING, WRITE
cdef int AWAITING, BLOCKED, BROKEN, ENCODED, LOST, SENT
cdef Py_ssize_t _MAX_BUFFERED
cdef int _MAX_REQUESTS_PER_TURN
cdef int _MAX_FILE_BYTES_PER_TURN

cdef class RequestLoop(Timer):
    cdef public Service _service
    cdef public object _sock, _trace
    cdef public Writer _writer
    cdef public Exchange _exchange
    cdef public double _idle_allowance, _idle_from, _max_age_at, _opened, _request_started
    # Together, since each int between pointers would take the space of two in every idle connection.
    cdef public int _file_bytes_left, _interest, phase
    cdef public bint _closing
    cdef public long long _min_progress_left, number
    cdef public HTTPProtocol protocol
    cdef public object client, ending, server

    cpdef ready(self, int events)
    cdef _update_state(self)
    cdef _reset(self, ending)
    cdef _close(self, ending)
    @cython.locals(exchange=Exchange, protocol=HTTPProtocol, writer=Writer, phase=int, requests_left=int)
    cdef _run(self)
    @cython.locals(exchange=Exchange, protocol=HTTPProtocol, request=Request, gap=double)
    cdef bint _read(self) except -1
    @cython.locals(exchange=Exchange)
    cdef Exchange _begin_exchange(self)
    cdef _start_trace(self)
    cdef bint _may_persist(self) except -1
    @cython.locals(exchange=Exchange)
    cdef _refuse(self, error, ending)
    @cython.locals(exchange=Exchange, service=Service)
    cdef _response_started(self)
    @cython.locals(protocol=HTTPProtocol, request=Request, service=Service)
    cdef _why_last(self, Exchange exchange)
    @cython.locals(exchange=Exchange, now=double, service=Service)
    cdef _finish_response(self)
    cdef bint _is_awaiting(self) except -1
    @cython.locals(progress=int)
    cdef bint _flush(self) except -1
    @cython.locals(exchange=Exchange, writer=Writer, progress=int)
    cdef bint _send_body(self) except -1
    @cython.locals(writer=Writer)
    cdef _count_sent(self)
    cdef _fail_response(self, error)
    cdef _cut_off_response(self, ending)
