# The types of kaserve/threads/workers.py.

cdef class Workers:
    cdef public object _queue, _lock, _clock
    cdef public list _threads
    cdef public Py_ssize_t _max_threads, _max_unfinished, _unfinished
    cdef public double _next_search
    cdef public bint _closed
