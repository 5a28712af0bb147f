# The types of kaserve/handlers/wsgi/task.py.

from kaserve.http.messages cimport Request, Response
from kaserve.handlers.wsgi.start_response cimport StartResponse, new_start_response
from kaserve.handlers.wsgi.environ cimport EnvironBuilder

cdef class WSGITask:
    cdef object _app, _pipe, _space, _upgrade
    cdef public object future
    cdef EnvironBuilder _environ_builder
    cdef Request _request
    cdef StartResponse _start_response
