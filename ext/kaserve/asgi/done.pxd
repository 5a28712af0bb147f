# The types of kaserve/asgi/done.py.

cimport cython

cdef class Done:
    cdef public object _result

    cdef _fill(self, result)

@cython.locals(done=Done)
cpdef new_done(result)
