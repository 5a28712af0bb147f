# The types of kaserve/logs/access.py.

from kaserve.http.messages cimport Request, Response
from kaserve.logs.formats cimport Format, LogClock
from kaserve.net.connection cimport Connection

cdef class AccessLog:
    cdef object _write
    cdef Format _format
    cdef LogClock _clock
    cdef public bint timed
    cdef list _lines

    cpdef log(self, Connection connection, Request request, Response response, long long size)
