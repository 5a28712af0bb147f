# The C types of kaserve/net/reactor.py.

cimport cython

from kaserve.net.timerwheel cimport TimerWheel

cdef int _MAX_EXPIRED, _READ_WRITE

cdef class Reactor:
    cdef public double last_read, now
    cdef public bytes date_line
    cdef public TimerWheel wheel
    cdef public list after_turn
    cdef public list _again
    cdef public dict _channels
    cdef public object _calls, _clock, _poller, _time, _wakeup
    cdef public long long _date_second
    cdef public unsigned long long _turning_thread
    cdef public bint is_hosted, _running

    cpdef watch(self, fd, channel, int before, int events)
    cpdef double read_clock(self) except? -1
    @cython.locals(ready=list, events=int)
    cpdef step(self, timeout=*)
    cpdef bint make_calls(self) except -1
    cdef _run_calls(self)
    cdef _read_time(self)
