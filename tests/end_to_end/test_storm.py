"""Storms: thousands of hostile visits to real connections, on socket pairs and with a clock that only the test moves.

The clients of tests/net/connection/test_random_clients.py are mostly friendly, and the test knows their responses. Here
the clients are hostile, and two references decide what the responses must be: h11, which parses them as a client, and
the protocol alone, which gets the same bytes in one piece and without a socket. The same must hold over TLS; a client
with a broken handshake gets an alert or nothing.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pytest

from kaserve.http.errors import HTTPError
from kaserve.http.keep_alive import KeepAlive
from kaserve.http.limits import Limits
from kaserve.http.messages import FileSpan, Request, Response, error_response
from kaserve.http.phases import CLOSED, HANDLER, LINGER, Phase
from kaserve.net.connection import Connection
from kaserve.net.exchange import Exchange
from kaserve.net.poller import HANGUP, WRITE
from kaserve.net.service import PHASES, Deadlines
from kaserve.net.tls import TLS, TLSSocket
from tests.fuzz.generate import Rng
from tests.fuzz.handshakes import HANDSHAKES
from tests.fuzz.visits import MALICE, Leaving, Visit, Visits
from tests.tools.connections import holds_response, is_called_again, server_socket, take_response, unsent
from tests.tools.net import Body, Client, Net, file_span, get, open_descriptors
from tests.tools.tls import Veiled, client_context, make_certificate
from tests.tools.wire import IMPLEMENTATIONS, converse, held

CONTENT = bytes(range(256)) * 400
LOW_LIMITS = Limits(request_line=200, fields=10, field_size=300, head=900, body=2000)
MAX_RECEIVED = 64 * 1024 + 32 * 1024  # the longest head, and what arrives with its last byte
MAX_UNSENT = 64 * 1024 + len(CONTENT) + 1024  # responses in the buffer, and the one that exceeded its limit
PATIENCE = 250.0  # seconds: longer than the deadline of any phase
HALF_CLOSE_TIMEOUT = Deadlines().half_close_timeout

Harm = Callable[[Rng], bytes]

CLIENT_CONTEXTS = [client_context(ssl.TLSVersion.TLSv1_2), client_context(ssl.TLSVersion.TLSv1_3)]
ALERT, HANDSHAKE_RECORD = b"\x15", b"\x16"

# The reference protocol is of the same build as the connections.
IMPLEMENTATION = next(each for each in IMPLEMENTATIONS if each.package == "kaserve.http")


@dataclass(eq=False)
class Visitor:
    """A hostile client, the connection that serves it, and what was seen of both."""

    visit: Visit
    client: Client
    connection: Connection
    unsent: list[bytes]
    logged: list[tuple[str, int, int]] = field(default_factory=list)  # method, status, size of content
    seen: list[tuple[str, str, bytes]] = field(default_factory=list)  # by the handler: method, target, body
    gone: bool = False

    @property
    def was_cut_off(self) -> bool:
        """Whether the server ended it with a reset, so that a partial response does not look complete."""
        if isinstance(self.client, Veiled):
            return self.client.truncated
        if self.visit.bare:
            return False
        return server_socket(self.connection).aborted


class Handler:
    """The handler, which has responses of every kind; and the access log, which records them by visitor."""

    timed = False

    def __init__(self) -> None:
        self.pending: list[tuple[Future[Any], Any]] = []
        self.bodies: list[Body] = []
        self.spans: list[FileSpan] = []  # among the pieces of those; the connection must not close them
        self.handled: dict[int, tuple[Request, bytes]] = {}
        self.visitors: dict[Connection, Visitor] = {}

    def __call__(self, request: Request) -> Response | Future[Response]:
        body = content_of(request)
        self.handled[id(request)] = request, body
        kind = len(request.target) % KINDS
        if kind == 0:
            return self.later(respond(request))
        if kind == 1:
            span = file_span(body)
            pieces = Body([b"in ", self.later(b"pieces: "), span, b""])
            self.bodies.append(pieces)
            self.spans.append(span)
            return Response(200, pieces)
        if kind == 2:
            return Response(200, file_span(CONTENT))
        if kind == 5:
            raise HTTPError(403, "no", close=True)
        return respond(request)

    def later(self, what: Any) -> Future[Any]:
        """A Future that `complete_one` completes with `what`."""
        future: Future[Any] = Future()
        self.pending.append((future, what))
        return future

    def complete_one(self) -> None:
        future, what = self.pending.pop(0)
        if future.set_running_or_notify_cancel():
            future.set_result(what)

    def log(self, exchange: Exchange) -> None:
        numbers = {connection.number: visitor for connection, visitor in self.visitors.items()}
        visitor = numbers[exchange.connection_number]
        request, size = exchange.request, exchange.bytes_sent
        method = request.method if request is not None else "GET" if size else "HEAD"  # as far as it could be parsed
        assert exchange.response is not None
        visitor.logged.append((method, exchange.response.status, size))
        _, body = self.handled.pop(id(request), (None, None))
        if request is not None and body is not None:
            visitor.seen.append((request.method, request.target, body))


KINDS = 9


def respond(request: Request) -> Response:
    """The response of `Handler`, or an equal one for a protocol without sockets and Futures."""
    body = content_of(request)
    kind = len(request.target) % KINDS
    if kind == 1:
        return Response(200, [b"in ", b"pieces: ", body])
    if kind == 3:
        return Response(204 if body else 304)
    if kind == 4:
        return error_response(HTTPError(404, "nothing here"))
    if kind == 5:
        return Response(200, b"the last", {"Connection": "close"})
    return Response(200, CONTENT if kind in (2, 7) else body)


def content_of(request: Request) -> bytes:
    body = request.body.read()
    request.body.seek(0)
    return body


class Storm:
    """Concurrent visits to one server. `play` runs them to their end and checks everything that can be checked."""

    def __init__(self, visits: Visits, size: int, *, time_passes: bool, tls: TLS | None = None) -> None:
        self.rng = visits.rng
        self.tls = tls
        self.time_passes = time_passes
        self.handler = Handler()
        self.limits = Limits(body=100_000) if self.rng.one_in(2) else LOW_LIMITS
        self.requests = self.rng.pick((0, 1, 3, 1000))
        self.net = Net(self.handler, limits=self.limits, keep_alive=self.new_keep_alive(), access_log=self.handler)
        self.visitors = [self.connect(visits.next()) for _ in range(size)]

    def new_keep_alive(self) -> KeepAlive:
        return KeepAlive(120, self.requests)

    def connect(self, visit: Visit) -> Visitor:
        send_buffer = self.rng.pick((0, 0, 4096))
        client, connection = self.net.connect(send_buffer=send_buffer, tls=self.tls)
        if self.tls is not None and not visit.bare:
            context = self.rng.pick(CLIENT_CONTEXTS)
            client = Veiled(client.sock, context, self.net.settle)
        visitor = Visitor(visit, client, connection, list(visit.pieces))
        self.handler.visitors[connection] = visitor
        return visitor

    def play(self) -> None:
        try:
            moving = list(self.visitors)
            while moving:
                visitor = self.rng.pick(moving)
                if not self.move(visitor):
                    moving.remove(visitor)
                self.turn()
                self.check_phases()
            self.wait_for_all()
            for visitor in self.visitors:
                self.check_responses(visitor)
                if (
                    not self.time_passes
                    and not visitor.visit.bare
                    and visitor.visit.leaving in (Leaving.STAY, Leaving.FINISH)
                ):
                    self.check_requests(visitor)
            self.check_nothing_is_left()
        finally:
            self.net.close()
            for span in self.handler.spans:
                span.close()

    # Actions.

    def move(self, visitor: Visitor) -> bool:
        """The next action of a visitor. Returns False when there is none."""
        if visitor.visit.reads and not visitor.gone:
            visitor.client.read()
        if visitor.unsent:
            sent = visitor.client.send(visitor.unsent[0])
            if sent < len(visitor.unsent[0]):
                visitor.unsent[0] = visitor.unsent[0][sent:]
                return visitor.visit.reads or sent > 0
            del visitor.unsent[0]
            return True
        if visitor.visit.leaving is Leaving.FINISH and not visitor.client.ended:
            visitor.client.finish()
        elif visitor.visit.leaving in (Leaving.VANISH, Leaving.RESET):
            visitor.client.reset()
            visitor.gone = True
        return False

    def turn(self) -> None:
        if self.handler.pending and self.rng.one_in(2):
            self.handler.complete_one()
        if self.time_passes and self.rng.one_in(8):
            self.net.sleep(self.rng.pick((0.1, 1.0, 7.0, 31.0)))
        elif self.rng.one_in(2):
            self.net.step()
        else:
            self.net.settle()

    def wait_for_all(self) -> None:
        """Clients that read do so until nothing more arrives; then only time passes."""
        readers = [visitor for visitor in self.visitors if visitor.visit.reads and not visitor.gone]
        progress = True
        while progress or self.handler.pending:
            while self.handler.pending:
                self.handler.complete_one()
            self.net.settle()
            progress = sum(len(visitor.client.read()) for visitor in readers) > 0
            self.check_phases()
        self.net.sleep(PATIENCE)
        for visitor in readers:
            visitor.client.read()

    # Invariants.

    def check_phases(self) -> None:
        """Every connection follows the table of phases, has a deadline, and keeps its buffers within limits."""
        for visitor in self.visitors:
            connection, protocol = visitor.connection, visitor.connection.protocol
            phase = Phase(connection.phase)
            assert held(protocol) <= MAX_RECEIVED
            assert len(unsent(connection)) <= MAX_UNSENT
            if phase == CLOSED:
                assert connection not in self.net.service.connections
                assert connection.deadline == math.inf
                assert held(protocol) == len(unsent(connection)) == 0
                continue
            waits_for = PHASES[phase].waits_for
            if isinstance(connection._sock, TLSSocket) and connection._sock.must_write:
                waits_for = WRITE
            interest = self.net.interest(connection)
            assert interest == waits_for or (phase == HANDLER and interest == HANGUP), "HANGUP: after a half-close"
            if phase == HANDLER:
                assert interest != HANGUP or self.net.time_left(connection) <= HALF_CLOSE_TIMEOUT
                assert holds_response(connection) or is_called_again(self.net, connection)
            else:
                assert self.net.time_left(connection) < PATIENCE
            assert phase != LINGER or held(protocol) == 0, "nothing is read after a close"

    def check_responses(self, visitor: Visitor) -> None:
        """h11 can parse them, they are those of the access log, and none follows a close."""
        rest, close = visitor.client.received, False
        if visitor.visit.bare and not visitor.visit.wire[:1].isalpha():
            assert rest[:1] in (b"", ALERT, HANDSHAKE_RECORD), "neither TLS nor silence"
            assert not visitor.logged
            return
        for method, status, size in visitor.logged:
            if not rest and not visitor.client.ended:
                break
            assert not close, "a response after one that says close"
            taken = take_response(rest, method, visitor.client.ended)
            if taken is None:
                assert visitor.was_cut_off or visitor.gone or not visitor.visit.reads, (
                    f"half a response: {rest[:300]!r}"
                )
                return
            body, close, found, rest = taken
            assert found == status
            assert len(body) == size or visitor.was_cut_off
        assert rest == b"", "a response without a request"

    def check_requests(self, visitor: Visitor) -> None:
        """The handler got the requests that the protocol alone finds in the same bytes, sent in one piece."""
        if visitor.was_cut_off or not visitor.visit.reads:
            return
        outcome = converse(
            IMPLEMENTATION,
            [visitor.visit.wire],
            eof=visitor.visit.leaving is Leaving.FINISH,
            handler=respond,
            limits=self.limits,
            keep_alive=self.new_keep_alive(),
        )
        assert visitor.seen == [(seen.method, seen.target, seen.body.encode("latin-1")) for seen in outcome.requests]

    def check_nothing_is_left(self) -> None:
        assert not self.net.service.connections, "a connection outlives its deadlines"
        assert len(self.net.reactor.wheel) == 0
        assert len(self.net.poller.watched) == 1, "the waker alone"
        assert sum(self.net.stats.closed.values()) == self.net.stats.accepted == len(self.visitors)
        assert all(body.closed == 1 for body in self.handler.bodies)


@pytest.mark.parametrize("seed", range(20), ids=lambda seed: f"seed {seed}")
def test_a_storm(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    descriptors = open_descriptors()
    visits = Visits(seed)
    for number in range(15):
        Storm(visits, 10, time_passes=number % 2 == 0).play()
    assert not caplog.records, "an exception reached the reactor"
    assert open_descriptors() == descriptors


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TLS:
    return TLS([make_certificate(tmp_path_factory.mktemp("certificates"), "h", "h")])


@pytest.mark.parametrize("seed", range(10), ids=lambda seed: f"seed {seed}")
def test_a_storm_over_tls(seed: int, tls: TLS, caplog: pytest.LogCaptureFixture) -> None:
    descriptors = open_descriptors()
    visits = Visits(seed, tls=True)
    for number in range(10):
        Storm(visits, 10, time_passes=number % 2 == 0, tls=tls).play()
    assert not caplog.records, "an exception reached the reactor"
    assert open_descriptors() == descriptors


@pytest.mark.parametrize(("kind", "harm"), HANDSHAKES, ids=[kind for kind, _ in HANDSHAKES])
def test_every_broken_handshake_ends_by_its_deadline(
    kind: str, harm: Harm, tls: TLS, caplog: pytest.LogCaptureFixture
) -> None:
    """Each on a connection of its own, by a client that waits; the next client is served."""
    visits = Visits(1)
    for _ in range(10):
        net = Net()
        wire = harm(visits.rng)
        client, connection = net.connect(tls=tls)
        left = wire
        while left and not client.ended:
            left = left[client.send(left) :]
            net.settle()
            client.read()
        net.sleep(PATIENCE)
        client.read()
        assert client.ended
        assert connection.phase == CLOSED
        if wire[:1].isalpha():
            assert net.stats.refused == {400: 1}
            assert client.received.startswith(b"HTTP/1.1 400 ")
        else:
            assert net.stats.requests == 0
            assert client.received[:1] in (b"", ALERT, HANDSHAKE_RECORD)
        other, _ = net.connect(tls=tls)
        other = Veiled(other.sock, CLIENT_CONTEXTS[1], net.settle)
        assert [each.status for each in net.ask(other, get("/"))] == [200]
        net.close()
    assert not caplog.records


@pytest.mark.parametrize(("kind", "harm"), MALICE, ids=[kind for kind, _ in MALICE])
def test_every_hostile_request_gets_a_response(kind: str, harm: Harm) -> None:
    """Each on a connection of its own, by a client that waits: it gets a response unless it sent only empty lines. The
    next client is served."""
    visits = Visits(1)
    for _ in range(10):
        net = Net(limits=Limits(body=100_000))
        wire = harm(visits.rng)
        client, connection = net.connect()
        left = wire
        while left and not client.ended:
            left = left[client.send(left) :]
            net.settle()
            client.read()
        if not client.ended:
            client.finish()
        net.sleep(PATIENCE)
        client.read()
        assert connection.phase == CLOSED
        assert client.received.startswith(b"HTTP/1.1 ") or not wire.strip(b"\r\n")
        other, _ = net.connect()
        assert [each.status for each in net.ask(other, get("/"))] == [200]
        net.close()
