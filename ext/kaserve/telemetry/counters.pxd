# The types of kaserve/telemetry/counters.py.

from kaserve.telemetry.histogram cimport Histogram

cdef class Stats:
    cdef public long long accepted, failed, races_lost, received, requests, sent, unused, used
    cdef public object closed, peers, refused
    cdef public Histogram client_closed, gaps, latency, per_connection, statuses

    cpdef request_came(self, double gap)
    cpdef answer_begun(self, int status)
