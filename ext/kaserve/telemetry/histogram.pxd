# The types of kaserve/telemetry/histogram.py.

cdef class Histogram:
    cdef public tuple bounds
    cdef public double total
    cdef public list _counts
    cdef public Py_ssize_t _index
    cdef public double _high, _low
    cdef public long long _pending

    cpdef add(self, double value)
    cdef _select_bucket(self, double value)
