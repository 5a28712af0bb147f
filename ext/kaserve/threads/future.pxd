# The types of kaserve/threads/future.py.

cimport cython

cdef int _PENDING, _RUNNING, _CANCELLED, _DONE

cdef class Outcome:
    cdef public object _lock, _value, _error
    cdef public list _callbacks
    cdef public int _stage

    cpdef bint set_running_or_notify_cancel(self) except -1
    cpdef set_result(self, result)
    cdef _finish(self, value, error)
    cdef _run_callbacks(self)
