# The types of kaserve/handlers/wsgi/environ.py.

cimport cython

from kaserve.http.messages cimport Request

cdef int CONTENT_LENGTH, TRANSFER_ENCODING

cdef class EnvironBuilder:
    cdef dict _common
    cdef tuple _last_server
    cdef public dict _header_keys

    cpdef dict build(self, Request request)
    @cython.locals(common=dict, environ=dict, raw_path=str)
    cdef dict _base(self, Request request)
    @cython.locals(common=dict)
    cdef dict _base_of_server(self, Request request)
    @cython.locals(keys=dict, key=str, name=str, value=str)
    cdef _add_headers(self, dict environ, Request request)
    @cython.locals(key=str)
    cdef str _header_key(self, str name)

cdef _add_input(dict environ, Request request)
