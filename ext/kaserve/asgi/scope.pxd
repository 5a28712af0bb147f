# The types of kaserve/asgi/scope.py.

cimport cython

from kaserve.http.messages cimport Request

cdef dict _extensions, _versions

cdef class ScopeBuilder:
    cdef public str _root_path
    cdef public dict state

    @cython.locals(path=str, raw_path=str, root_path=str, scope=dict)
    cpdef dict build(self, Request request)
    @cython.locals(scope=dict)
    cpdef dict build_websocket(self, Request request, list subprotocols)

@cython.locals(headers=list)
cdef list _headers(Request request)
