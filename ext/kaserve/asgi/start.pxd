# The types of kaserve/asgi/start.py.

cdef bint _HAS_EAGER_TASKS
cdef object _running_loop, _task

cdef class TaskStarter:
    cdef public dict _attributes
    cdef public object _capturer, _context, _loop, _step

    cpdef start(self, coroutine)
