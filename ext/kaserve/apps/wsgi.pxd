# The types of kaserve/apps/wsgi.py.

cimport cython

from kaserve.http.messages cimport Request, Response
from kaserve.apps.wsgi_answer cimport StartResponse, new_start
from kaserve.apps.wsgi_environ cimport EnvironMaker

cdef class WSGI:
    cdef object _app
    cdef public object _workers
    cdef EnvironMaker _environ
