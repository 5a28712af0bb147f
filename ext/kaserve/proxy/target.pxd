# The types of kaserve/proxy/target.py.

from kaserve.http.messages cimport Request

cpdef bint has_dot_segments(str path) except -1
cpdef check_path(str path)
cpdef str upstream_target(Request request, str base)
