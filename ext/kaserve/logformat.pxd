# The types of kaserve/logformat.py.

from kaserve.http.messages cimport Request, Response
from kaserve.net.connection cimport Connection

cdef class Moment:
    cdef object _wall
    cdef long long _second
    cdef public int millisecond
    cdef public str clf, iso, zone

    cpdef tell(self)

cpdef str escape(str text)
cpdef str host_of(address)
cpdef str _common(Moment moment, users, Connection connection, Request request, Response response, long long size)
cpdef str _combined(Moment moment, users, Connection connection, Request request, Response response, long long size)
cpdef str _json(Moment moment, users, Connection connection, Request request, Response response, long long size)
cpdef str _field(Request request, str name)
cpdef str _json_field(Request request, str name)
