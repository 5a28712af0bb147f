# The types of kaserve/http/target.py.

from kaserve.http.messages cimport Request

cdef int HOST, HOSTS

cpdef resolve_target(Request request)
cdef _check_host(Request request)
cdef _resolve_absolute(Request request)
