# The types of kaserve/net/exchange.py.

cimport cython

from kaserve.http.messages cimport Response
from kaserve.http.outgoing cimport Outgoing
from kaserve.http.protocol cimport HTTPProtocol
from kaserve.net.reactor cimport Reactor
from kaserve.net.service cimport Service
from kaserve.net.writer cimport Writer

cdef double MAX_BLOCKING

cdef class Exchange(Outgoing):
    cdef public HTTPProtocol _protocol
    cdef public Service _service
    cdef public Writer _writer
    cdef public object _connection, client, future, rejection, tunnel
    cdef public Response response
    cdef public double called, finished, responded, started
    cdef public long long bytes_sent, connection_number
    cdef public int number

    cdef _fill(
        self, Service service, HTTPProtocol protocol, Writer writer, connection, long long connection_number, client,
        double started
    )
    @cython.locals(called=double)
    cpdef tuple durations(self)
    cpdef begin_body(self)
    @cython.locals(protocol=HTTPProtocol)
    cdef _begin_stream(self, stream)
    cpdef call_handler(self, bint may_persist)
    cpdef refuse(self, error)
    cdef _count_rejection(self, error)
    cpdef respond_failure(self, bint may_persist)
    @cython.locals(protocol=HTTPProtocol, reactor=Reactor, service=Service, writer=Writer)
    cpdef respond(self, Response response, bint may_persist)
    cdef _end_head(self, Response response)
    cpdef start_body(self)
    @cython.locals(service=Service, reactor=Reactor, response=Response, now=double)
    cpdef finish(self)
    cpdef abandon(self)
    @cython.locals(reactor=Reactor, now=double)
    cpdef check_blocking(self)
    @cython.locals(service=Service)
    cdef _report_blocking(self, double now)
    cdef wait_for(self, future)
    cpdef _on_done(self, future)
    cpdef _resume(self)
    cdef bint is_pending(self) except -1

@cython.locals(exchange=Exchange)
cpdef Exchange begin_exchange(
    Service service, HTTPProtocol protocol, Writer writer, connection, long long connection_number, client,
    double started
)
