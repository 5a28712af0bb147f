# The types of kaserve/logs/formats.py.

cimport cython

from kaserve.http.messages cimport Request, Response, host_of
from kaserve.net.connection cimport Connection

cdef class LogClock:
    cdef object _wall
    cdef long long _second
    cdef public int millisecond
    cdef public str clf, iso, zone

    cpdef update(self)

cpdef str escape(str text)
cdef str _quote(str text)

cdef tuple _times(Connection connection)

cdef class Format:
    cdef LogClock _clock
    cdef public bint timed

    cpdef str line(self, Connection connection, Request request, Response response, long long size)

cdef class CommonFormat(Format):
    @cython.locals(when=str, sent=str, host=str, user=str, target=str)
    cdef str _common_line(self, Connection connection, Request request, Response response, long long size)
    cpdef str line(self, Connection connection, Request request, Response response, long long size)

cdef class CombinedFormat(CommonFormat):
    @cython.locals(line=str)
    cpdef str line(self, Connection connection, Request request, Response response, long long size)

cdef class JSONFormat(Format):
    @cython.locals(arrival=double, handler=double, send=double, clock=LogClock, asked=str, user=str)
    cpdef str line(self, Connection connection, Request request, Response response, long long size)

cdef class AtomFormat(Format):
    cdef str _template
    cdef list _atoms

    cpdef str line(self, Connection connection, Request request, Response response, long long size)

@cython.locals(micros="long long")
cdef str _seconds(double seconds)
cdef str _header_value(Request request, str name)
cpdef str _header(Request request, str name)
cpdef str _json_header(Request request, str name)
