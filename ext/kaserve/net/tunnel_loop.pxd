# The types of kaserve/net/tunnel_loop.py.

cimport cython

from kaserve.net.reactor cimport Reactor
from kaserve.net.request_loop cimport RequestLoop

cdef int CLOSED, TUNNEL
cdef int HANGUP, READ, WRITE
cdef int _LARGE_READ, _MAX_LAST_READS, _MAX_READS

cdef class TunnelLoop(RequestLoop):
    cdef bint _receive(self, Py_ssize_t size=*) except -1
    cdef _watch(self, int events)
    cdef _open_tunnel(self)
    cdef _begin_tunnel(self)
    @cython.locals(received=bint)
    cdef _run_tunnel(self, int events)
    cdef _read_on(self, tunnel)
    cdef _read_rest(self, tunnel)
    cdef _end_tunnel(self, tunnel)
    @cython.locals(reactor=Reactor, deadline=double)
    cdef _expire_tunnel(self)
