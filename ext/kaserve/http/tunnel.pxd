# The types of kaserve/http/tunnel.py.

cdef class Tunnel:
    pass

cdef class TunnelBody:
    cdef public object _tunnel
