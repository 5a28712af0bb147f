# The C types of kaserve/net/timerwheel.py.

cdef class Timer:
    cdef public double deadline
    cdef public long long _slot

cdef class Alarm(Timer):
    cdef object _function

cdef class TimerWheel:
    cdef public list _ring
    cdef public set _unexamined
    cdef public double _due, _origin, _tick
    cdef public long long _count, _mask, _next

    cpdef schedule(self, Timer timer, double deadline)
    cpdef cancel(self, Timer timer)
    cpdef list expire(self, double now, long long limit=*)
    cdef double _ticks(self, double time) noexcept
    cdef long long _slot_for(self, double deadline) noexcept
    cdef double _time_of(self, long long slot) noexcept
    cdef _put(self, Timer timer, long long slot)
    cdef _remove(self, Timer timer)
    cdef Timer _take(self, long long last)
    cdef _collect_ring(self, long long last)
    cdef _find_next(self, long long first)
