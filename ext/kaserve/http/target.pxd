# The C types of kaserve/http/target.py.

from kaserve.http.memo cimport remember
from kaserve.http.messages cimport Request

cdef int HOST, DUPLICATE_HOST
cdef dict _valid_hosts
cdef int _MAX_VALID_HOSTS

cpdef resolve_target(Request request)
cdef _check_host(Request request)
cpdef bint is_host(str value) except -1
cdef _resolve_absolute(Request request)
