# The types of kaserve/logs/formats.py.

cimport cython

from kaserve.http.memo cimport remember
from kaserve.http.messages cimport Request, Response
from kaserve.net.exchange cimport Exchange

cdef class LogClock:
    cdef object _time
    cdef long long _second
    cdef public int millisecond
    cdef public str clf, iso, zone

    cpdef update(self)

cdef dict _escaped, _quoted

@cython.locals(escaped=str)
cpdef str escape(str text)
@cython.locals(quoted=str)
cdef str _quote(str text)
cdef _remember(dict memo, str text, str made)

cdef class Format:
    cdef LogClock _clock
    cdef public bint timed

    cpdef str line(self, Exchange exchange)

cdef class CommonFormat(Format):
    @cython.locals(request=Request, size=cython.longlong, when=str, sent=str, host=str, user=str, target=str)
    cdef str _common_line(self, Exchange exchange)
    cpdef str line(self, Exchange exchange)

cdef class CombinedFormat(CommonFormat):
    @cython.locals(line=str, request=Request)
    cpdef str line(self, Exchange exchange)

cdef class JSONFormat(Format):
    @cython.locals(arrival=double, handler=double, send=double, clock=LogClock, asked=str, user=str, request=Request)
    cpdef str line(self, Exchange exchange)

cdef class PrettyFormat(Format):
    cdef bint _color

    cpdef str line(self, Exchange exchange)

cdef class AtomFormat(Format):
    cdef str _template
    cdef list _atoms

    cpdef str line(self, Exchange exchange)

cdef object _status(Exchange exchange)
cdef str _reason(Exchange exchange)
@cython.locals(micros="long long")
cdef str _seconds(double seconds)
cdef str _header_value(Request request, str name)
cpdef str _header(Request request, str name)
cpdef str _json_header(Request request, str name)
