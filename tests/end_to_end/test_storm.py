"""Storms: thousands of hostile visits to real connections, on socket pairs and with a clock that only the test moves.

The state machine of test_net_connection.py plays clients that mostly mean well, and knows what each must be answered.
Here nobody means well, and what the answers must be is learnt from two witnesses: h11, which reads them as a client,
and the protocol alone, which was given the same bytes in one piece and without a socket. Over TLS it must be the same,
and whoever spoils the handshake hears of that, or nothing.
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
from kaserve.http.limits import Limits
from kaserve.http.messages import FileSpan, Request, Response, error_response
from kaserve.http.phases import CLOSED, HANDLER, LINGER, Phase
from kaserve.http.protocol import KeepAlive
from kaserve.net.connection import Connection
from kaserve.net.poller import WRITE
from kaserve.net.service import PHASES
from kaserve.net.tls import TLS, TLSSocket
from tests.fuzz.generate import Rng
from tests.fuzz.handshakes import HANDSHAKES
from tests.fuzz.visits import MALICE, Leaving, Visit, Visits
from tests.tools.connections import take_response
from tests.tools.net import Body, Client, Net, ServerSocket, file_span, get, open_descriptors
from tests.tools.tls import Veiled, client_context, make_certificate
from tests.tools.wire import IMPLEMENTATIONS, converse, held

CONTENT = bytes(range(256)) * 400
LOW_LIMITS = Limits(request_line=200, fields=10, field_size=300, head=900, body=2000)
MAX_RECEIVED = 64 * 1024 + 32 * 1024  # a head that is as long as it may be, and what came with its last byte
MAX_UNSENT = 64 * 1024 + len(CONTENT) + 1024  # answers that are collected, and the one that was too much
PATIENCE = 250.0  # seconds after which nobody is waited for any more, whatever the phase

Harm = Callable[[Rng], bytes]

CLIENTS = [client_context(ssl.TLSVersion.TLSv1_2), client_context(ssl.TLSVersion.TLSv1_3)]
ALERT, HANDSHAKE_RECORD = b"\x15", b"\x16"

# One build at a time: the protocol that bears witness is the one that the connections run on.
HERE = next(each for each in IMPLEMENTATIONS if each.package == "kaserve.http")


@dataclass(eq=False)
class Guest:
    """A visitor, the connection that serves it, and what was seen of both."""

    visit: Visit
    client: Client
    connection: Connection
    unsent: list[bytes]
    logged: list[tuple[str, int, int]] = field(default_factory=list)  # method, status, size of content
    seen: list[tuple[str, str, bytes]] = field(default_factory=list)  # by the handler: method, target, body
    gone: bool = False

    @property
    def was_cut_off(self) -> bool:
        """The server ended it with a reset, so that a part of an answer is not taken for the whole."""
        if isinstance(self.client, Veiled):
            return self.client.truncated
        if self.visit.bare:
            return False
        assert isinstance(self.connection._sock, ServerSocket)
        return self.connection._sock.aborted


class Host:
    """The handler of a storm, which has an answer of every kind; and the access log, which knows whose it was."""

    timed = False

    def __init__(self) -> None:
        self.promised: list[tuple[Future[Any], Any]] = []
        self.bodies: list[Body] = []
        self.spans: list[FileSpan] = []  # among the pieces of those: not the connection's to close
        self.handled: dict[int, tuple[Request, bytes]] = {}
        self.guests: dict[Connection, Guest] = {}

    def __call__(self, request: Request) -> Response | Future[Response]:
        body = content_of(request)
        self.handled[id(request)] = request, body
        kind = len(request.target) % KINDS
        if kind == 0:
            return self.promise(answer(request))
        if kind == 1:
            span = file_span(body)
            pieces = Body([b"in ", self.promise(b"pieces: "), span, b""])
            self.bodies.append(pieces)
            self.spans.append(span)
            return Response(200, pieces)
        if kind == 2:
            return Response(200, file_span(CONTENT))
        if kind == 5:
            raise HTTPError(403, "no", close=True)
        return answer(request)

    def promise(self, what: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.promised.append((future, what))
        return future

    def keep_promise(self) -> None:
        future, what = self.promised.pop(0)
        if future.set_running_or_notify_cancel():
            future.set_result(what)

    def log(self, connection: Connection, request: Request | None, response: Response, size: int) -> None:
        guest = self.guests[connection]
        method = request.method if request is not None else "GET" if size else "HEAD"  # as far as it could be read
        guest.logged.append((method, response.status, size))
        _, body = self.handled.pop(id(request), (None, None))
        if request is not None and body is not None:
            guest.seen.append((request.method, request.target, body))


KINDS = 9


def answer(request: Request) -> Response:
    """What the host answers, or what comes to the same for a protocol without sockets and futures."""
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
    """Some visits at a time to one server. `play` plays them to their end, and checks all that can be checked."""

    def __init__(self, visits: Visits, size: int, *, time_passes: bool, tls: TLS | None = None) -> None:
        self.rng = visits.rng
        self.tls = tls
        self.time_passes = time_passes
        self.host = Host()
        self.limits = Limits(body=100_000) if self.rng.one_in(2) else LOW_LIMITS
        self.requests = self.rng.pick((0, 1, 3, 1000))
        self.net = Net(self.host, limits=self.limits, keep_alive=self.new_keep_alive(), access_log=self.host)
        self.guests = [self.welcome(visits.next()) for _ in range(size)]

    def new_keep_alive(self) -> KeepAlive:
        return KeepAlive(120, self.requests)

    def welcome(self, visit: Visit) -> Guest:
        send_buffer = self.rng.pick((0, 0, 4096))
        client, connection = self.net.connect(send_buffer=send_buffer, tls=self.tls)
        if self.tls is not None and not visit.bare:
            context = self.rng.pick(CLIENTS)
            client = Veiled(client.sock, context, self.net.settle)
        guest = Guest(visit, client, connection, list(visit.pieces))
        self.host.guests[connection] = guest
        return guest

    def play(self) -> None:
        try:
            moving = list(self.guests)
            while moving:
                guest = self.rng.pick(moving)
                if not self.move(guest):
                    moving.remove(guest)
                self.turn()
                self.check_places()
            self.wait_for_everybody()
            for guest in self.guests:
                self.check_answers(guest)
                if (
                    not self.time_passes
                    and not guest.visit.bare
                    and guest.visit.leaving in (Leaving.STAY, Leaving.FINISH)
                ):
                    self.check_requests(guest)
            self.check_nothing_is_left()
        finally:
            self.net.close()
            for span in self.host.spans:
                span.close()

    # What happens.

    def move(self, guest: Guest) -> bool:
        """The next thing that a visitor does; False when there is none."""
        if guest.visit.reads and not guest.gone:
            guest.client.read()
        if guest.unsent:
            sent = guest.client.send(guest.unsent[0])
            if sent < len(guest.unsent[0]):
                guest.unsent[0] = guest.unsent[0][sent:]
                return guest.visit.reads or sent > 0
            del guest.unsent[0]
            return True
        if guest.visit.leaving is Leaving.FINISH and not guest.client.ended:
            guest.client.finish()
        elif guest.visit.leaving in (Leaving.VANISH, Leaving.RESET):
            guest.client.reset()
            guest.gone = True
        return False

    def turn(self) -> None:
        if self.host.promised and self.rng.one_in(2):
            self.host.keep_promise()
        if self.time_passes and self.rng.one_in(8):
            self.net.sleep(self.rng.pick((0.1, 1.0, 7.0, 31.0)))
        elif self.rng.one_in(2):
            self.net.step()
        else:
            self.net.settle()

    def wait_for_everybody(self) -> None:
        """Whoever still reads does so until nothing more comes; then only time passes."""
        readers = [guest for guest in self.guests if guest.visit.reads and not guest.gone]
        progress = True
        while progress or self.host.promised:
            while self.host.promised:
                self.host.keep_promise()
            self.net.settle()
            progress = sum(len(guest.client.read()) for guest in readers) > 0
            self.check_places()
        self.net.sleep(PATIENCE)
        for guest in readers:
            guest.client.read()

    # What must hold.

    def check_places(self) -> None:
        """Every connection is in a phase, waits as the table says and not for ever, and holds no more than it may."""
        for guest in self.guests:
            connection, protocol = guest.connection, guest.connection.protocol
            phase = Phase(connection.phase)
            assert held(protocol) <= MAX_RECEIVED
            assert len(connection._unsent) <= MAX_UNSENT
            if phase == CLOSED:
                assert connection not in self.net.service.connections
                assert connection.deadline == math.inf
                assert held(protocol) == len(connection._unsent) == 0
                continue
            waits_for = PHASES[phase].waits_for
            if isinstance(connection._sock, TLSSocket) and connection._sock.must_write:
                waits_for = WRITE
            assert self.net.interest(connection) == waits_for
            if phase == HANDLER:
                assert connection.deadline == math.inf
                assert connection._awaited is not None or connection in self.net.reactor._again
            else:
                assert self.net.time_left(connection) < PATIENCE
            assert phase != LINGER or held(protocol) == 0, "nothing is read after a close"

    def check_answers(self, guest: Guest) -> None:
        """To h11 they are well-formed, they are those of the log, and nothing follows a close."""
        rest, close = guest.client.received, False
        if guest.visit.bare and not guest.visit.wire[:1].isalpha():
            assert rest[:1] in (b"", ALERT, HANDSHAKE_RECORD), "neither TLS nor silence"
            assert not guest.logged
            return
        for method, status, size in guest.logged:
            if not rest and not guest.client.ended:
                break
            assert not close, "an answer after a close"
            taken = take_response(rest, method, guest.client.ended)
            if taken is None:
                assert guest.was_cut_off or guest.gone or not guest.visit.reads, f"half an answer: {rest[:300]!r}"
                return
            body, close, found, rest = taken
            assert found == status
            assert len(body) == size or guest.was_cut_off
        assert rest == b"", "an answer that nobody asked for"

    def check_requests(self, guest: Guest) -> None:
        """What the protocol makes of the same bytes in one piece is what the handler was asked, over a socket."""
        if guest.was_cut_off or not guest.visit.reads:
            return
        outcome = converse(
            HERE,
            [guest.visit.wire],
            eof=guest.visit.leaving is Leaving.FINISH,
            handler=answer,
            limits=self.limits,
            keep_alive=self.new_keep_alive(),
        )
        assert guest.seen == [(seen.method, seen.target, seen.body.encode("latin-1")) for seen in outcome.requests]

    def check_nothing_is_left(self) -> None:
        assert not self.net.service.connections, "somebody is waited for longer than any deadline"
        assert len(self.net.reactor.wheel) == 0
        assert len(self.net.poller.watched) == 1, "the waker"
        assert sum(self.net.stats.closed.values()) == self.net.stats.accepted == len(self.guests)
        assert all(body.closed == 1 for body in self.host.bodies)


@pytest.mark.parametrize("seed", range(20))
def test_a_storm(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    descriptors = open_descriptors()
    visits = Visits(seed)
    for number in range(15):
        Storm(visits, 10, time_passes=number % 2 == 0).play()
    assert not caplog.records, "no exception is left to the last resort"
    assert open_descriptors() == descriptors


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TLS:
    return TLS([make_certificate(tmp_path_factory.mktemp("certificates"), "h", "h")])


@pytest.mark.parametrize("seed", range(10))
def test_a_storm_over_tls(seed: int, tls: TLS, caplog: pytest.LogCaptureFixture) -> None:
    descriptors = open_descriptors()
    visits = Visits(seed, tls=True)
    for number in range(10):
        Storm(visits, 10, time_passes=number % 2 == 0, tls=tls).play()
    assert not caplog.records, "no exception is left to the last resort"
    assert open_descriptors() == descriptors


@pytest.mark.parametrize(("kind", "harm"), HANDSHAKES, ids=[kind for kind, _ in HANDSHAKES])
def test_no_handshake_of_any_kind_harms(kind: str, harm: Harm, tls: TLS, caplog: pytest.LogCaptureFixture) -> None:
    """Each of them alone, by somebody who waits: it ends by its deadline at the latest, and the next one is served."""
    visits = Visits(1)
    for _ in range(10):
        net = Net()
        wire = harm(visits.rng)
        client, connection = net.connect(tls=tls)
        unsent = wire
        while unsent and not client.ended:
            unsent = unsent[client.send(unsent) :]
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
        other = Veiled(other.sock, CLIENTS[1], net.settle)
        assert [each.status for each in net.ask(other, get("/"))] == [200]
        net.close()
    assert not caplog.records


@pytest.mark.parametrize(("kind", "harm"), MALICE, ids=[kind for kind, _ in MALICE])
def test_malice_of_every_kind_is_answered_or_refused(kind: str, harm: Harm) -> None:
    """Each of them alone, sent by somebody who waits: nobody is left without an answer where there is something to
    answer, and the next visitor finds the server as it was."""
    visits = Visits(1)
    for _ in range(10):
        net = Net(limits=Limits(body=100_000))
        wire = harm(visits.rng)
        client, connection = net.connect()
        unsent = wire
        while unsent and not client.ended:
            unsent = unsent[client.send(unsent) :]
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
