# The types of kaserve/asgi/waiter.py.

cdef int _CANCELLED, _DONE, _PENDING

cdef class Waiter:
    cdef public object _callback, _context, _loop
    cdef public bint _asyncio_future_blocking
    cdef public int _state

    cdef _call(self, bint now)
