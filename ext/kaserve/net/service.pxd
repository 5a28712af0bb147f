# The types of kaserve/net/service.py.

from kaserve.http.keep_alive cimport KeepAlive
from kaserve.http.limits cimport Limits
from kaserve.net.reactor cimport Reactor
from kaserve.telemetry.counters cimport Stats
from kaserve.telemetry.timeline cimport Timeline

cdef class PhaseTimeout:
    cdef public int events
    cdef public double seconds
    cdef public long long min_bytes

    cpdef shorten(self, double seconds)

cdef class Service:
    cdef public Reactor reactor
    cdef public KeepAlive keep_alive
    cdef public Limits limits
    cdef public Stats stats
    cdef public object access_log, blocking, handler, host, new_host, on_close, respond, rng
    cdef public Timeline timeline
    cdef public set connections
    cdef public list lifespans, timeouts, upstreams
    cdef public str scheme
    cdef public double age, idle
    cdef public bint draining, stopping, timed
