# The functions of ext/_fast.pyx that compiled modules call directly, not through Python.

from kaserve.http.messages cimport Request

cpdef Py_ssize_t find_head_end(bytes data, Py_ssize_t start) except -2
cpdef Request parse_head(bytes data, Py_ssize_t start, Py_ssize_t end)
cpdef tuple encode_head(fields)
cpdef bytes join(pieces)
