# The types of kaserve/http/handler.py. BaseHandler is an extension type so that others can derive from it (WSGI); its hooks are
# Python methods all the same.

cdef class BaseHandler:
    pass

cdef class FunctionHandler(BaseHandler):
    cdef public object function
