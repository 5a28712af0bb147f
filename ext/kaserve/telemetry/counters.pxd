# The types of kaserve/telemetry/counters.py.

from kaserve.telemetry.histogram cimport Histogram

cdef class Stats:
    cdef public long long accepted, failed, received, requests, sent, unused, used
    cdef public object closed, peers, races_lost, refused
    cdef public Histogram client_closed, gaps, latency, per_connection, statuses

    cpdef request_parsed(self, double gap)
    cpdef response_started(self, int status)
