# The types of kaserve/handlers/wsgi/environ.py.

cimport cython

from kaserve.http.messages cimport Request

cdef int CONTENT_LENGTH, TRANSFER_ENCODING

cdef class EnvironMaker:
    cdef dict _common
    cdef tuple _ends
    cdef public dict _keys

    @cython.locals(common=dict, environ=dict, raw_path=str, keys=dict, key=str, name=str, value=str)
    cpdef dict make(self, Request request)
