# The types of kaserve/handlers/wsgi/environ.py.

cimport cython

from kaserve.http.memo cimport remember
from kaserve.http.messages cimport Request

cdef int CONTENT_LENGTH, TRANSFER_ENCODING

cdef class EnvironBuilder:
    cdef dict _common
    cdef public dict _header_keys, _templates

    cpdef dict build(self, Request request)
    @cython.locals(known=tuple, template=dict, environ=dict, raw_path=str)
    cdef dict _base(self, Request request)
    @cython.locals(template=dict)
    cdef dict _new_template(self, Request request)
    @cython.locals(keys=dict, key=str, name=str, value=str)
    cdef _add_headers(self, dict environ, Request request)
    @cython.locals(key=str)
    cdef str _header_key(self, str name)

cdef _add_input(dict environ, Request request)
