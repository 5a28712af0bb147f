# The C types of kaserve/net/wakeup.py.

cdef class Wakeup:
    cdef public object _receiver, _sender
    cdef public bint _is_awake
