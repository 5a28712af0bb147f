# The types of kaserve/http/target.py.

from kaserve.http.messages cimport Request

cdef int HOST, DUPLICATE_HOST
cdef set _good_hosts

cpdef resolve_target(Request request)
cdef _check_host(Request request)
cpdef bint is_host(str value) except -1
cdef _resolve_absolute(Request request)
