# The types of kaserve/telemetry/histogram.py.

cdef class Histogram:
    cdef public tuple bounds
    cdef public double total
    cdef public list _counts
    cdef public Py_ssize_t _here
    cdef public double _high, _low
    cdef public long long _hits

    cpdef add(self, double value)
    cdef _move(self, double value)
