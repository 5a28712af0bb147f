# The C types of kaserve/http/limits.py.

cdef class Limits:
    cdef public long long body
    cdef public Py_ssize_t chunk_line, empty_lines, field_size, fields, head, request_line, unchecked
