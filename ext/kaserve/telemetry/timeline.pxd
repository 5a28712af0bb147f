# The types of kaserve/telemetry/timeline.py.

cdef class Timeline:
    cdef public bint recording
    cdef public double _until
    cdef public list _traces
    cdef list _leaving
    cdef list _unseen
    cdef int _attempts
