"""Clients that do anything at any time: a state machine of Hypothesis, and what must hold whatever they do."""

from __future__ import annotations

import logging
import re

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from kaserve.http.keep_alive import KeepAlive
from kaserve.http.limits import Limits
from kaserve.http.phases import CLOSED, HANDLER, IDLE, SEND, Phase
from kaserve.net.connection import Connection
from kaserve.net.poller import NOTHING
from kaserve.net.service import PHASES
from tests.tools.connections import (
    CHUNKED_HEAD,
    CONTENT,
    SMALL_BUFFER,
    all_routes,
    holds_response,
    is_called_again,
    server_socket,
    take_response,
    unread,
    unsent,
)
from tests.tools.net import GET, LAST_GET, Client, Net, get, open_descriptors, post

MAX_HELD = 64 * 1024 + len(CONTENT)  # bytes of responses: those in the buffer, and the one that exceeded its limit


class Message:
    """A message of a client, and the response that it must get if it arrives completely."""

    def __init__(self, wire: bytes, status: int = 200, body: bytes = b"hello", method: str = "GET") -> None:
        self.wire = wire
        self.status = status
        self.body = body
        self.method = method

    def __repr__(self) -> str:
        return f"<{self.wire[:50]!r}, {self.status}>"


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


GOOD = [
    Message(GET),
    Message(b"\r\n" + GET),
    Message(get("/bytes"), body=CONTENT),
    Message(get("/file"), body=CONTENT),
    Message(get("/empty"), body=b""),
    Message(get("/pieces"), body=CONTENT),
    Message(get("/counted"), body=CONTENT),
    Message(get("/fails"), 500),
    Message(get("/fails-first"), 500),
    Message(b"HEAD /pieces HTTP/1.1\r\nHost: h\r\n\r\n", method="HEAD", body=b""),
    Message(b"HEAD /file HTTP/1.1\r\nHost: h\r\n\r\n", method="HEAD", body=b""),
    Message(post(b"abc", path="/echo"), method="POST", body=b"abc"),
    Message(post(CONTENT[:20_000], path="/echo"), method="POST", body=CONTENT[:20_000]),
    Message(post(b"abc", "Expect: 100-continue", path="/echo"), method="POST", body=b"abc"),
    Message(CHUNKED_HEAD + chunked(CONTENT[:5000], 700), method="POST", body=CONTENT[:5000]),
    Message(CHUNKED_HEAD + chunked(b"abc", 1), method="POST", body=b"abc"),
    Message(post(CONTENT[:20_000], path="/take"), method="POST", body=CONTENT[:20_000]),
    Message(post(CONTENT[:90_000], path="/mirror"), method="POST", body=CONTENT[:90_000]),
    Message(post(b"abc", "Expect: 100-continue", path="/take"), method="POST", body=b"abc"),
    Message(post(b"abc", "Expect: 100-continue", path="/mirror"), method="POST", body=b"abc"),
    Message(post(CONTENT[:20_000], path="/skip"), method="POST"),
    Message(
        CHUNKED_HEAD.replace(b"/echo", b"/mirror") + chunked(CONTENT[:5000], 70), method="POST", body=CONTENT[:5000]
    ),
    Message(CHUNKED_HEAD.replace(b"/echo", b"/skip") + chunked(CONTENT[:500], 9), method="POST"),
    Message(b"GET /file HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", body=CONTENT),
]
LAST = [
    Message(LAST_GET),
    Message(b"GET /pieces HTTP/1.0\r\n\r\n", body=CONTENT),
    Message(get("/no"), 403),
    Message(get("/last"), body=b"bye"),
    Message(get("/late"), body=b"cut off by a reset"),
    Message(
        CHUNKED_HEAD.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n") + chunked(b"abc", 2),
        method="POST",
        body=b"abc",
    ),
]
BAD = [
    Message(b"GET /\r\n\r\n", 400),
    Message(b"GET / HTTP/1.1\r\n\r\n", 400),
    Message(b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
    Message(b"\x16\x03\x01\x02\x00\x01", 400),
    Message(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\nx", 400, method="POST"),
    Message(CHUNKED_HEAD + b"3\r\nabcd\r\n", 400, method="POST"),
    Message(CHUNKED_HEAD.replace(b"/echo", b"/take") + b"3\r\nabcd\r\n", 400, method="POST"),
    Message(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 999999\r\n\r\n", 413, method="POST"),
    Message(post(b"abc", "Expect: a miracle"), 417, method="POST"),
    Message(post(b"abc", "Expect: 100-continue", path="/unwanted"), 401, method="POST"),
]


class Peer:
    """A random client: what it will send, what it has sent, and the connection that serves it."""

    def __init__(self, client: Client, connection: Connection) -> None:
        self.client = client
        self.connection = connection
        self.sock = server_socket(connection)
        self.messages: list[Message] = []
        self.unsent = b""
        self.gone = False
        self.finished = False
        self.garbled = False

    def check_responses(self) -> None:
        """h11 can parse every response, and each is the one that its request must get."""
        rest = self.client.received
        answered = 0
        close = False
        for message in self.messages:
            if not rest:
                break
            assert not close, "a response after one that says close"
            taken = take_response(rest, message.method, self.client.ended)
            if taken is not None and taken[2] >= 400 and taken[3] and message.method == "HEAD":
                # The error was found before the method was parsed, so that it has content.
                taken = take_response(rest, "GET", self.client.ended)
            if taken is None:
                assert self.sock.aborted or not self.client.ended, f"half a response: {rest[:300]!r}"
                return
            body, close, status, rest = taken
            answered += 1
            if status in (400, 408) and status != message.status:
                assert close, "an incomplete request that did not end the connection"
                continue
            assert status == message.status
            if status == 200 and self.sock.aborted and not rest:
                assert message.body.startswith(body), "more than the body that was cut off"
            elif status == 200:
                assert body == message.body
        assert rest == b"", "a response without a request"
        if self.connection.phase == IDLE and not self.unsent:
            assert answered == len(self.messages)


class AnyClients(RuleBasedStateMachine):
    """Clients of one server that do anything at any time, and the invariants that hold whatever they do."""

    peers = Bundle("peers")

    def __init__(self) -> None:
        super().__init__()
        self.descriptors = open_descriptors()
        self.messages: list[str] = []
        self.listener = logging.Handler()
        self.listener.emit = self._note  # type: ignore[method-assign]  # shorter than a class
        log = logging.getLogger("kaserve")
        log.addHandler(self.listener)
        log.propagate = False
        self.all: list[Peer] = []
        self.net = Net(all_routes(), limits=Limits(body=100_000), keep_alive=KeepAlive(120, 25))

    def _note(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())

    # Actions of clients.

    @initialize(target=peers)
    def connect_first(self) -> MultipleResults[Peer]:
        return multiple(self.new_peer(0), self.new_peer(SMALL_BUFFER))

    @rule(target=peers, send_buffer=st.sampled_from([0, SMALL_BUFFER]))
    def connect(self, send_buffer: int) -> Peer:
        return self.new_peer(send_buffer)

    def new_peer(self, send_buffer: int) -> Peer:
        peer = Peer(*self.net.connect(send_buffer=send_buffer))
        self.all.append(peer)
        return peer

    @rule(peer=peers, messages=st.lists(st.sampled_from(GOOD), min_size=1, max_size=4))
    def ask(self, peer: Peer, messages: list[Message]) -> None:
        """The common case."""
        self.want(peer, messages, None)
        self.send(peer, 1 << 20)
        self.net.step()

    @rule(
        peer=peers, messages=st.lists(st.sampled_from(GOOD), max_size=4), last=st.sampled_from([None] * 8 + LAST + BAD)
    )
    def want(self, peer: Peer, messages: list[Message], last: Message | None) -> None:
        for message in messages if last is None else [*messages, last]:
            peer.messages.append(message)
            peer.unsent += message.wire

    @rule(peer=peers, count=st.integers(70, 200))
    def want_many(self, peer: Peer, count: int) -> None:
        peer.messages += [Message(GET)] * count
        peer.unsent += GET * count

    @precondition(lambda self: self.all[-1].unsent)
    @rule(noise=st.binary(min_size=1, max_size=3), where=st.integers(0, 200))
    def garble(self, noise: bytes, where: int) -> None:
        """Overwrites a byte. The expected responses are unknown from then on."""
        peer = self.all[-1]
        where %= len(peer.unsent)
        peer.unsent = peer.unsent[:where] + noise + peer.unsent[where + 1 :]
        peer.garbled = True

    @rule(peer=peers, most=st.sampled_from([1, 10, 50, 200, 5000, 1 << 20]))
    def send(self, peer: Peer, most: int) -> None:
        if not peer.gone and not peer.finished:
            peer.unsent = peer.unsent[peer.client.send(peer.unsent[:most]) :]

    @rule(peer=peers, most=st.sampled_from([1, 1000, 100_000, 1 << 20]))
    def read(self, peer: Peer, most: int) -> None:
        if not peer.gone:
            peer.client.read(most)

    @rule(peer=peers)
    def converse(self, peer: Peer) -> None:
        """Sends and reads all it can."""
        while not peer.gone:
            before = len(peer.unsent)
            self.send(peer, 1 << 20)
            self.net.settle()
            if not peer.client.read() and len(peer.unsent) == before:
                break

    @rule(peer=peers)
    def finish(self, peer: Peer) -> None:
        if not peer.gone and not peer.finished and not peer.client.ended:
            peer.client.finish()
            peer.finished = True

    @rule(peer=peers)
    def vanish(self, peer: Peer) -> None:
        peer.client.close()
        peer.gone = True

    # Actions of the server, and time.

    @rule()
    def step(self) -> None:
        self.net.step()

    @rule()
    def settle(self) -> None:
        self.net.settle()

    @rule(seconds=st.sampled_from([0.3, 1.5, 6.0, 25.0, 31.0, 61.0, 122.0]))
    def sleep(self, seconds: float) -> None:
        self.net.sleep(seconds)

    @rule(seconds=st.sampled_from([1.5, 31.0, 61.0, 4000.0]))
    def jump(self, seconds: float) -> None:
        """Many deadlines expire in one turn."""
        self.net.clock.advance(seconds)
        self.net.step()

    @rule(peer=peers)
    def race(self, peer: Peer) -> None:
        """Its messages arrive during a turn: after the poll, before the deadlines are checked."""
        self.net.clock.advance(121.5)
        self.net.reactor.call(lambda: self.send(peer, 1 << 20))
        self.net.step()

    @rule(enabled=st.booleans())
    def switch(self, enabled: bool) -> None:
        self.net.service.keep_alive.enabled = enabled

    @rule(peer=peers)
    def drain(self, peer: Peer) -> None:
        self.net.reactor.call(peer.connection.drain)
        self.net.step()

    @rule(peer=peers)
    def call_again_without_need(self, peer: Peer) -> None:
        self.net.reactor.again(peer.connection)
        self.net.step()

    # Invariants.

    @invariant()
    def every_connection_follows_the_table(self) -> None:
        for peer in self.all:
            connection = peer.connection
            if connection.phase == CLOSED:
                assert connection not in self.net.service.connections
                assert self.net.interest(connection) == NOTHING
                assert connection.deadline == float("inf")
                assert unsent(connection) == unread(connection) == b""
                assert peer.sock.fileno() == -1
                continue
            row = PHASES[Phase(connection.phase)]
            assert self.net.interest(connection) == row.waits_for
            if connection.phase == HANDLER:
                assert is_called_again(self.net, connection)
                assert self.net.time_left(connection) <= 30
            else:
                assert self.net.time_left(connection) <= 122
            assert len(unsent(connection)) <= MAX_HELD
            assert len(unread(connection)) <= 2 * 65536
            assert not unsent(connection) or connection.phase == SEND
            if connection.phase == IDLE:
                assert unread(connection) in (b"", b"\r")
                assert not holds_response(connection)

    @invariant()
    def only_the_handler_fails(self) -> None:
        for message in self.messages:
            assert re.match("the handler failed|the response to .* cannot be sent", message), message

    def teardown(self) -> None:
        log = logging.getLogger("kaserve")
        try:
            for peer in self.all:
                self.converse(peer)
                if not peer.garbled:
                    peer.check_responses()
            for peer in self.all:
                self.vanish(peer)
            self.net.sleep(200)
            self.every_connection_follows_the_table()
            self.only_the_handler_fails()
            assert not self.net.service.connections
            assert len(self.net.reactor.wheel) == 0
            assert len(self.net.poller.watched) == 1, "the waker"
            assert sum(self.net.stats.closed.values()) == self.net.stats.accepted == len(self.all)
        finally:
            log.removeHandler(self.listener)
            log.propagate = True
            self.net.close()
        assert open_descriptors() == self.descriptors


AnyClients.TestCase.settings = settings(stateful_step_count=50)

TestAnyClients = AnyClients.TestCase
