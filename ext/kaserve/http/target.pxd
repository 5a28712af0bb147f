# The types of kaserve/http/target.py.

cimport cython

from kaserve.http.messages cimport Request

cdef int HOST, HOSTS
cdef set _hosts

cpdef resolve_target(Request request)
@cython.locals(host=str)
cdef _check_host(Request request)
cdef _resolve_absolute(Request request)
