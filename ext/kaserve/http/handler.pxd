# The types of kaserve/http/handler.py.

cdef class BaseHandler:
    pass

cdef class FunctionHandler(BaseHandler):
    cdef public object function
