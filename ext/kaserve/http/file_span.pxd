# The types of kaserve/http/file_span.py.

cdef class FileSpan:
    cdef public int fd
    cdef public long long offset, length
    cdef public object _owner
