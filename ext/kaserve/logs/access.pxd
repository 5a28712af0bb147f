# The types of kaserve/logs/access.py.

from kaserve.logs.formats cimport Format, LogClock
from kaserve.net.exchange cimport Exchange

cdef class AccessLog:
    cdef object _write
    cdef Format _format
    cdef LogClock _clock
    cdef public bint timed
    cdef list _lines

    cpdef log(self, Exchange exchange)
