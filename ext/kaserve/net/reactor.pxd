# The types of kaserve/net/reactor.py.

from kaserve.net.timerwheel cimport TimerWheel

cdef class Reactor:
    cdef public double now
    cdef public bytes date_line
    cdef public TimerWheel wheel
    cdef public list after_turn
    cdef public list _again
    cdef public dict _channels
    cdef public object _calls, _clock, _poller, _waker, _wall
    cdef public long long _date_second
    cdef public bint _running

    cpdef watch(self, fd, channel, int before, int events)
    cpdef double read_clock(self) except? -1
    cpdef step(self, timeout=*)
    cdef _tell_time(self)

cdef class Waker:
    cdef public object _receiver, _sender
