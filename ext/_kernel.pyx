# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The system calls of every request, without the overhead of Python's own modules (Linux only).

`Socket` and `Epoll` do what `socket.socket` and `select.epoll` do, as far as `kaserve.net` uses them, with the same
results and exceptions. They differ in three ways:

- `recv` receives into a buffer that is used again, and copies what little arrived. `socket.recv` allocates a bytes
  object of the largest size and shrinks it.
- A call that cannot block keeps the interpreter's lock (GIL). If the lock were released for the microsecond that the
  call takes, another thread could take it and keep it for five milliseconds, the switch interval. Only the wait for
  events releases it.
- `poll` makes the tuple of an event directly. `select.epoll` builds it from a format string.

Together this saves about half a microsecond of the eight that a request takes, and the whole turn of the reactor where
worker threads compete for the lock.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, _PyBytes_Resize
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EAGAIN, EINTR, errno
from posix.unistd cimport close

__all__ = ["Epoll", "Socket", "accept"]

cdef extern from "<sys/socket.h>" nogil:
    struct sockaddr:
        unsigned short sa_family
    struct sockaddr_storage:
        unsigned short ss_family
    int accept4(int fd, sockaddr *address, unsigned int *size, int flags)
    int AF_INET, AF_INET6, SOCK_CLOEXEC, SOCK_NONBLOCK
    ssize_t recv(int fd, void *into, size_t size, int flags)
    ssize_t send(int fd, const void *data, size_t size, int flags)
    int shutdown(int fd, int how)
    int setsockopt(int fd, int level, int option, const void *value, unsigned int size)
    int MSG_NOSIGNAL

cdef extern from "<arpa/inet.h>" nogil:
    struct in_addr:
        pass
    struct in6_addr:
        pass
    struct sockaddr_in:
        unsigned short sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        unsigned short sin6_port
        unsigned int sin6_flowinfo, sin6_scope_id
        in6_addr sin6_addr
    const char *inet_ntop(int family, const void *address, char *text, unsigned int size)
    unsigned short ntohs(unsigned short)
    unsigned int ntohl(unsigned int)

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        unsigned int events
        epoll_data_t data
    int EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int operation, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int most, int milliseconds)

cdef enum:
    MAX_RECEIVED = 64 * 1024
    COPY_LIMIT = 8 * 1024  # less than this is copied out of the buffer; of more the buffer itself becomes the result
    MAX_EVENTS = 1024

# What is received into. One for all sockets: `recv` keeps the interpreter's lock until the bytes are copied out of it.
cdef bytes _buffer = None


cdef class Descriptor:
    """Owns a descriptor, and closes it when it is itself deallocated."""

    cdef int _fd

    def __cinit__(self):
        self._fd = -1  # not 0, which is standard input: without __init__, deallocating would close that

    def fileno(self):
        return self._fd

    def close(self):
        cdef int fd = self._fd
        self._fd = -1
        if fd >= 0:
            close(fd)

    def __dealloc__(self):
        self.close()


cdef class Socket(Descriptor):
    """A connected socket that does not block; a `PlainSocket` of `kaserve.net.sockets`."""

    def __init__(self, sock not None):
        """Takes the descriptor of `sock`, which has none then."""
        self._fd = sock.detach()

    def detach(self):
        """Returns the descriptor, which is the caller's from now on."""
        cdef int fd = self._fd
        self._fd = -1
        return fd

    def recv(self, Py_ssize_t size):
        """Returns at most `size` bytes, and never more than 64 KiB; b"" when the peer has finished sending."""
        global _buffer
        cdef PyObject *received
        cdef ssize_t count
        if _buffer is None:
            _buffer = PyBytes_FromStringAndSize(NULL, MAX_RECEIVED)
        count = recv(self._fd, PyBytes_AS_STRING(_buffer), min(size, MAX_RECEIVED), 0)
        if count < 0:
            PyErr_SetFromErrno(OSError)
        if count < COPY_LIMIT:
            return PyBytes_FromStringAndSize(PyBytes_AS_STRING(_buffer), count)
        received = <PyObject *>_buffer
        Py_INCREF(_buffer)
        _buffer = None  # _PyBytes_Resize demands that there is one reference
        _PyBytes_Resize(&received, count)
        whole = <bytes>received
        Py_DECREF(whole)  # the reference of `received`; `whole` has its own
        return whole

    def send(self, data not None, int flags=0):
        """Sends `data`, bytes or a memoryview of them, and returns how many bytes the kernel took."""
        cdef Py_buffer view
        cdef ssize_t count
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        count = send(self._fd, view.buf, view.len, flags | MSG_NOSIGNAL)
        PyBuffer_Release(&view)
        if count < 0:
            PyErr_SetFromErrno(OSError)
        return count

    def shutdown(self, int how):
        if shutdown(self._fd, how) < 0:
            PyErr_SetFromErrno(OSError)

    def setsockopt(self, int level, int option, bytes value not None):
        if setsockopt(self._fd, level, option, <const char *>value, len(value)) < 0:
            PyErr_SetFromErrno(OSError)


def accept(listening not None):
    """Accepts a connection from the socket `listening`, which does not block.

    `socket.accept` makes an object in Python, and four system calls: accept4, getsockname to check the descriptor, and
    two to make it non-blocking and to set TCP_NODELAY, which the kernel does by itself for a flag and for a listening
    socket that has the option. And at the end of a backlog it raises an exception.

    Returns:
        The Socket, which does not block, and the address of the client as `socket.accept` returns it; "" for a Unix
        socket. None if nobody waits.
    """
    cdef sockaddr_storage address
    cdef unsigned int size = sizeof(address)
    cdef int fd = accept4(listening.fileno(), <sockaddr *>&address, &size, SOCK_CLOEXEC | SOCK_NONBLOCK)
    cdef Socket accepted
    if fd < 0:
        if errno == EAGAIN:  # EWOULDBLOCK is the same on Linux
            return None
        PyErr_SetFromErrno(OSError)
    accepted = Socket.__new__(Socket)
    accepted._fd = fd
    return accepted, _to_name(&address)


cdef object _to_name(sockaddr_storage *address):
    """The address as Python has it."""
    cdef char text[64]
    cdef sockaddr_in *four = <sockaddr_in *>address
    cdef sockaddr_in6 *six = <sockaddr_in6 *>address
    if address.ss_family == AF_INET:
        inet_ntop(AF_INET, &four.sin_addr, text, sizeof(text))
        return (<bytes>text).decode("ascii"), ntohs(four.sin_port)
    if address.ss_family == AF_INET6:
        inet_ntop(AF_INET6, &six.sin6_addr, text, sizeof(text))
        host = (<bytes>text).decode("ascii")
        return host, ntohs(six.sin6_port), ntohl(six.sin6_flowinfo), six.sin6_scope_id
    return ""


cdef class Epoll(Descriptor):
    """A `Poller` of `kaserve.net.poller`, whose events have the values of epoll's."""

    cdef epoll_event _events[MAX_EVENTS]

    def __init__(self):
        self.close()
        self._fd = epoll_create1(EPOLL_CLOEXEC)
        if self._fd < 0:
            PyErr_SetFromErrno(OSError)

    cdef int _control(self, int operation, int fd, unsigned int events) except -1:
        cdef epoll_event event
        event.events = events
        event.data.fd = fd
        if epoll_ctl(self._fd, operation, fd, &event) < 0:
            PyErr_SetFromErrno(OSError)
        return 0

    def register(self, int fd, unsigned int events):
        self._control(EPOLL_CTL_ADD, fd, events)

    def modify(self, int fd, unsigned int events):
        self._control(EPOLL_CTL_MOD, fd, events)

    def unregister(self, int fd):
        self._control(EPOLL_CTL_DEL, fd, 0)

    def poll(self, timeout):
        """Returns pairs of descriptor and events; none if the timeout passed or a signal came."""
        cdef int milliseconds = -1, count, index
        cdef double seconds
        cdef list ready = []
        if timeout is not None:
            seconds = max(<double>timeout, 0.0) * 1000.0
            milliseconds = <int>seconds if seconds < 86400000.0 else 86400000
            milliseconds += milliseconds < seconds  # rounded up: a turn that is too early finds nothing
        # A turn of the compiled reactor need not run any bytecode, so nothing else would call the handlers of signals. It
        # must be before the wait: the byte that a signal wrote into `signal.set_wakeup_fd` may be read already.
        PyErr_CheckSignals()
        with nogil:
            count = epoll_wait(self._fd, self._events, MAX_EVENTS, milliseconds)
        if count < 0 and errno != EINTR:
            PyErr_SetFromErrno(OSError)
        for index in range(count):
            ready.append((self._events[index].data.fd, self._events[index].events))
        return ready
