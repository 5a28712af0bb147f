# The types of kaserve/handlers/wsgi/application.py.

cimport cython

from kaserve.http.handler cimport BaseHandler
from kaserve.http.messages cimport Request, Response
from kaserve.handlers.wsgi.start_response cimport StartResponse, new_start
from kaserve.handlers.wsgi.environ cimport EnvironMaker

cdef class WSGI(BaseHandler):
    cdef object _app
    cdef public object _workers
    cdef EnvironMaker _environ
