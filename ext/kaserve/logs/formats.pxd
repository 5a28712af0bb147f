# The types of kaserve/logs/formats.py.

cimport cython

from kaserve.http.messages cimport Request, Response, host_of
from kaserve.net.connection cimport Connection

cdef class LogClock:
    cdef object _wall
    cdef long long _second
    cdef public int millisecond
    cdef public str clf, iso, zone

    cpdef tell(self)

cpdef str escape(str text)
cdef str _quote(str text)

cdef class Format:
    cdef object _users
    cdef LogClock _moment
    cdef public bint timed

    cpdef str line(self, Connection connection, Request request, Response response, long long size)

cdef class Common(Format):
    @cython.locals(clf=str, sent=str, host=str, user=str, target=str)
    cdef str _common(self, Connection connection, Request request, Response response, long long size)
    cpdef str line(self, Connection connection, Request request, Response response, long long size)

cdef class Combined(Common):
    @cython.locals(line=str)
    cpdef str line(self, Connection connection, Request request, Response response, long long size)

cdef class Json(Format):
    @cython.locals(arrival=double, handler=double, send=double, moment=LogClock, asked=str, user=str)
    cpdef str line(self, Connection connection, Request request, Response response, long long size)

cdef class Atoms(Format):
    cdef str _template
    cdef list _atoms

    cpdef str line(self, Connection connection, Request request, Response response, long long size)

@cython.locals(micros="long long")
cdef str _seconds(double seconds)
cdef str _value(Request request, str name)
cpdef str _field(Request request, str name)
cpdef str _json_field(Request request, str name)
