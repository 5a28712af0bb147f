# The types of kaserve/asgi/application.py.

cimport cython

from kaserve.asgi.call cimport Call, new_call
from kaserve.asgi.scope cimport ScopeBuilder
from kaserve.asgi.start cimport TaskStarter
from kaserve.http.handler cimport BaseHandler
from kaserve.http.messages cimport Request

cdef object _COROUTINE
cdef int HOP_BY_HOP, _UPGRADE

cdef class ASGI(BaseHandler):
    cdef public object _app, _lifespan, _loop, _mode, _running, _websocket_settings, _websockets
    cdef public ScopeBuilder _scopes
    cdef public TaskStarter _starter

cdef bint _has_one_parameter(app) except -1
