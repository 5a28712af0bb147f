# The types of kaserve/http/messages.py.

cimport cython

from kaserve.http.headers cimport field_lines

cdef object _NO_HEADERS
cdef tuple _PLAIN_TEXT, _HTML, _JSON

cdef class Request:
    cdef public str method, target, raw_path, query_string, authority, scheme, mount, remote_user
    cdef public int minor, flags
    cdef public Py_ssize_t field_count
    cdef public object client, on_leave, owner, received, server
    cdef public bint disconnected
    cdef public list _trailers
    cdef public dict _parsed, log_fields
    cdef public object _body, _fields

    cdef _fill(self, str method, str target, int minor, fields, int flags, str host)
    cpdef list values(self, str name)
    cpdef list raw_fields(self)
    cpdef close(self)

cdef class Response:
    cdef public object body, reason, status, trailers
    cdef public list fields

@cython.locals(response=Response)
cpdef Response new_response(status, body, list fields)
@cython.locals(fields=list, given=list)
cdef _typed_response(cls, status, str text, tuple content_type, headers)
