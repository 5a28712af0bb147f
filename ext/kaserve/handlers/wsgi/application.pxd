# The types of kaserve/handlers/wsgi/application.py.

cimport cython

from kaserve.http.handler cimport BaseHandler
from kaserve.http.messages cimport Request, Response
from kaserve.handlers.wsgi.start_response cimport StartResponse, new_start_response
from kaserve.handlers.wsgi.environ cimport EnvironBuilder
from kaserve.handlers.wsgi.task cimport WSGITask

cdef int HOP_BY_HOP

cdef class WSGI(BaseHandler):
    cdef public object _app, _hop_by_hop, _service, _space, _workers
    cdef public EnvironBuilder _environ_builder

@cython.locals(start_response=StartResponse)
cdef Response _call_application(object app, EnvironBuilder environ_builder, hop_by_hop, Request request)
cdef Response _respond(Request request, StartResponse start_response, object result)
