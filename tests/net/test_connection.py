"""The connection, on socket pairs and under a fake clock: the table of its phases, its answers, and its ends.

What is expected comes from the design (the picture of the phases, the close policy) and from RFC 9110 and RFC 9112.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import random
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import h11
import pytest
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

from kaserve.http.errors import HTTPError
from kaserve.http.limits import Limits
from kaserve.http.messages import FileSpan, Request, Response
from kaserve.http.phases import BODY, CLOSED, HANDLER, HANDSHAKE, HEAD, IDLE, LINGER, SEND, Phase
from kaserve.http.protocol import MAX_INLINE_BODY, KeepAlive
from kaserve.net.connection import Connection
from kaserve.net.poller import NOTHING, READ, WRITE
from kaserve.net.service import PHASES, Deadlines, Handler
from kaserve.net.sockets import queued_bytes
from tests.tools.net import (
    EPOCH,
    GET,
    HERE,
    LAST_GET,
    PEER,
    Body,
    Client,
    Net,
    Router,
    ServerSocket,
    file_span,
    get,
    hello,
    open_descriptors,
    post,
)

LOOKS = 8  # at an answer that the kernel takes nothing more of, until its deadline
LATE = 0.2  # seconds; the wheel is at most a tick of 0.125 late
KERNEL = 4096  # bytes: a kernel that takes little is a slow client
POST_HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n"
EXPECTING = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
CHUNKED_HEAD = b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Make(Protocol):
    """Makes the one Net of a test, closed afterwards."""

    def __call__(self, handler: Handler = hello, **settings: Any) -> Net: ...


@pytest.fixture
def make(caplog: pytest.LogCaptureFixture) -> Iterator[Make]:
    """And afterwards every descriptor is back, and nothing was logged that the test did not ask for by `faults`."""
    before = open_descriptors()
    nets: list[Net] = []

    def make(handler: Handler = hello, **settings: Any) -> Net:
        net = Net(handler, **settings)
        nets.append(net)
        return net

    yield make
    for net in nets:
        net.close()
        assert not net.service.connections
        assert len(net.reactor.wheel) == 0
    assert open_descriptors() <= before
    assert [record.getMessage() for record in caplog.get_records("call")] == []


@contextmanager
def faults(caplog: pytest.LogCaptureFixture, *expected: str) -> Iterator[None]:
    """What is logged meanwhile, in order; every one of it an error."""
    caplog.clear()
    yield
    messages = [f"{record.getMessage()}\n{record.exc_text or ''}" for record in caplog.records]
    assert len(messages) == len(expected), messages
    for message, pattern in zip(messages, expected, strict=True):
        assert re.search(pattern, message), message
    assert all(record.levelno == logging.ERROR for record in caplog.records)
    caplog.clear()


def spied(connection: Connection) -> ServerSocket:
    sock = connection._sock
    assert isinstance(sock, ServerSocket)
    return sock


def give(net: Net, client: Client, data: bytes) -> None:
    """Sends `data`; whatever can be done about it now is done."""
    client.send(data)
    net.settle()


# The table.


def test_the_table_is_the_picture_of_the_architecture() -> None:
    """docs/architecture.md shows the phases as the code has them."""
    text = (Path(__file__).parent.parent.parent / "docs" / "architecture.md").read_text()
    names = "|".join(phase.name for phase in PHASES)
    row = re.compile(rf"^ +({names}) +(read|write|nothing) {{2,}}(\S.*?) {{2,}}(\S.*?) *$", re.MULTILINE)
    rows = {name: cells for name, *cells in row.findall(text)}
    assert rows.keys() == {phase.name for phase in PHASES}
    for phase, (events, deadline, since, on_expiry) in PHASES.items():
        words = {READ: "read", WRITE: "write", NOTHING: "nothing"}
        written_events, written_deadline, written_expiry = rows[phase.name]
        assert written_events == words[events]
        if deadline:
            assert written_deadline.startswith(deadline)
            assert written_deadline.endswith(since)
            assert written_expiry == on_expiry
        else:
            assert written_deadline.startswith("none")
            assert written_expiry == "-"


def test_the_table_is_that_of_the_design() -> None:
    assert {phase: (row.waits_for, row.deadline) for phase, row in PHASES.items()} == {
        HANDSHAKE: (READ, "header_timeout"),
        IDLE: (READ, "keep_alive"),
        HEAD: (READ, "header_timeout"),
        BODY: (READ, "body_timeout"),
        HANDLER: (NOTHING, ""),
        SEND: (WRITE, "send_timeout"),
        LINGER: (READ, "linger"),
    }


def reach_idle(net: Net, client: Client) -> None:
    client.send(GET)


def reach_head(net: Net, client: Client) -> None:
    client.send(GET + b"G")


def reach_body(net: Net, client: Client) -> None:
    client.send(GET + POST_HEAD + b"12345")


def reach_send(net: Net, client: Client) -> None:
    client.send(GET + get("/large"))


def reach_linger(net: Net, client: Client) -> None:
    client.send(GET + LAST_GET)


REACH: dict[Phase, tuple[Callable[[Net, Client], None], int, float]] = {
    IDLE: (reach_idle, READ, 120 + 1),
    HEAD: (reach_head, READ, 30),
    BODY: (reach_body, READ, 60),
    SEND: (reach_send, WRITE, 60 / LOOKS),
    LINGER: (reach_linger, READ, 5),
}


def large(request: Request) -> Response:
    return Response.text("x" * 1_000_000) if request.path == "/large" else hello(request)


@pytest.mark.parametrize("phase", REACH, ids=lambda phase: phase.name)
def test_a_phase_entered_has_the_interest_and_the_deadline_of_the_table(make: Make, phase: Phase) -> None:
    reach, events, seconds = REACH[phase]
    net = make(large)
    client, connection = net.connect(send_buffer=KERNEL)
    net.clock.advance(7)  # what counts is when the phase is entered
    reach(net, client)
    net.settle()
    assert connection.phase == phase
    assert net.interest(connection) == events
    assert net.time_left(connection) == seconds


def test_a_new_connection_is_idle_from_its_beginning(make: Make) -> None:
    net = make()
    _, connection = net.connect()
    assert connection.phase == IDLE
    assert net.interest(connection) == READ
    assert net.time_left(connection) == 121


@pytest.mark.parametrize("phase", REACH, ids=lambda phase: phase.name)
def test_the_deadline_of_a_phase_is_its_setting(make: Make, phase: Phase) -> None:
    net = make(
        large,
        deadlines=Deadlines(keep_alive=11, header_timeout=12, body_timeout=13, send_timeout=16, linger=15),
    )
    client, connection = net.connect(send_buffer=KERNEL)
    REACH[phase][0](net, client)
    net.settle()
    assert net.time_left(connection) == {IDLE: 11 + 1, HEAD: 12, BODY: 13, SEND: 16 / LOOKS, LINGER: 15}[phase]


# What happens when a deadline passes.


def test_an_idle_connection_closes_silently_after_the_announced_time_and_a_grace(make: Make) -> None:
    """Close policy, point 2: announce T, close at T + 1 s."""
    net = make()
    client, connection = net.connect()
    net.sleep(100)
    (answer,) = net.ask(client, GET)
    assert answer.value("keep-alive").startswith("timeout=120,")
    net.sleep(121 - 0.01)
    assert connection.phase == IDLE
    net.sleep(0.01 + LATE)
    assert connection.phase == LINGER
    assert client.read() == b"", "never a 408 that no request has asked for"
    assert client.ended
    client.close()
    net.settle()
    assert connection.phase == CLOSED
    assert net.stats.closed == {"idle": 1}
    assert net.stats.races_lost.total() == 0


def test_a_connection_that_never_asks_closes_silently_as_well(make: Make) -> None:
    net = make()
    client, _ = net.connect()
    net.sleep(121 + LATE)
    assert client.read() == b""
    assert client.ended
    assert net.stats.requests == 0


def test_the_idle_time_counts_from_the_last_answer(make: Make) -> None:
    net = make()
    client, connection = net.connect()
    for _ in range(5):
        net.sleep(100)
        net.ask(client, GET)
    assert net.time_left(connection) == 121


def test_the_idle_time_counts_from_the_end_of_an_answer_that_took_long(make: Make) -> None:
    """A client that honours the announcement never races (close policy, point 2), however slow the handler was."""

    def slow(request: Request) -> Response:
        net.clock.advance(50)
        return hello(request)

    net = make(slow)
    client, connection = net.connect()
    net.ask(client, GET)
    assert net.time_left(connection) == 121


def test_empty_lines_do_not_keep_a_connection_awake(make: Make) -> None:
    """RFC 9112 §2.2: they are ignored."""
    net = make()
    client, connection = net.connect()
    for _ in range(12):
        client.send(b"\r\n")
        net.sleep(10)
    assert connection.phase == IDLE
    assert net.time_left(connection) == 1
    client.send(b"\r")
    net.sleep(1 + LATE)
    assert client.read() == b""
    assert client.ended


def test_the_deadline_of_a_head_is_absolute_from_its_first_byte(make: Make) -> None:
    net = make()
    client, connection = net.connect()
    net.sleep(50)
    for byte in b"GET / HTTP/1.1\r\nX-Slow: yes-i":
        client.send(bytes([byte]))
        net.sleep(1)
        assert connection.phase == HEAD
    client.send(b"z")
    net.sleep(1 + LATE)
    assert connection.phase == LINGER
    (answer,) = client.answers("GET")
    assert answer.status == 408
    assert not answer.persists
    assert client.ended
    assert net.stats.refused == {408: 1}


def test_a_head_behind_another_request_has_its_own_deadline(make: Make) -> None:
    net = make()
    client, connection = net.connect()
    client.send(GET[:-1])
    net.sleep(20)
    client.send(GET[-1:] + GET[:-1])
    net.settle()
    assert connection.phase == HEAD
    assert net.time_left(connection) == 30


def test_without_a_rate_a_body_is_given_time_anew_by_each_byte(make: Make) -> None:
    """And a 408 with Connection: close when it stands still (RFC 9110 §15.5.9)."""
    net = make(deadlines=Deadlines(min_rate=0))
    client, connection = net.connect()
    client.send(POST_HEAD)
    for _ in range(9):
        net.sleep(59)
        client.send(b"x")
        net.settle()
        assert connection.phase == BODY
        assert net.time_left(connection) == 60
    net.sleep(60 + LATE)
    (answer,) = client.answers("POST")
    assert answer.status == 408
    assert not answer.persists
    assert connection.phase == LINGER
    assert net.stats.refused == {408: 1}


RATE = Deadlines(body_timeout=10, send_timeout=10, min_rate=50)
SHARE = 500  # bytes that start a deadline of RATE anew


def begin_body(net: Net, length: int) -> tuple[Client, Connection]:
    client, connection = net.connect()
    give(net, client, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % length)
    assert connection.phase == BODY
    return client, connection


def test_a_body_at_the_least_rate_arrives(make: Make) -> None:
    net = make(lambda request: Response.text(str(len(request.body.read()))), deadlines=RATE)
    client, connection = begin_body(net, 20 * SHARE)
    for _ in range(20):
        assert connection.phase == BODY
        assert net.time_left(connection) == 10
        for size in (1, SHARE - 1):
            net.sleep(4.9)
            give(net, client, b"x" * size)
    (answer,) = client.answers("POST")
    assert answer.body == b"10000"


def test_a_body_below_the_least_rate_is_408(make: Make) -> None:
    """A byte now and then is no progress."""
    net = make(deadlines=RATE)
    client, connection = begin_body(net, 20 * SHARE)
    for _ in range(9):
        net.sleep(1)
        give(net, client, b"x" * (SHARE // 10))
    give(net, client, b"x" * (SHARE // 10 - 1))
    assert net.time_left(connection) == 1
    net.sleep(1 + LATE)
    (answer,) = client.answers("POST")
    assert answer.status == 408
    assert connection.phase == LINGER


def test_chunks_have_the_same_least_rate(make: Make) -> None:
    net = make(deadlines=RATE)
    client, connection = net.connect()
    give(net, client, CHUNKED_HEAD)
    for _ in range(12):
        give(net, client, b"1\r\nx\r\n")
        net.sleep(1)
    assert connection.phase == LINGER
    assert client.answers("POST")[0].status == 408


def take(net: Net, client: Client, most: int) -> None:
    """Reads `most` bytes; whatever follows from that happens."""
    client.read(most)
    net.settle()


def test_an_answer_at_the_least_rate_is_sent(make: Make) -> None:
    net = make(large, deadlines=RATE)
    client, connection = net.connect(send_buffer=KERNEL)
    give(net, client, get("/large"))
    for _ in range(20):
        net.sleep(9.9)
        assert connection.phase == SEND
        take(net, client, 20 * SHARE)  # as much as makes the kernel take more


def test_an_answer_below_the_least_rate_ends_with_a_reset(make: Make) -> None:
    net = make(large, deadlines=RATE)
    client, connection = net.connect(send_buffer=KERNEL)
    give(net, client, get("/large"))
    for _ in range(11):
        net.sleep(1)
        take(net, client, 3)
    assert connection.phase == CLOSED
    assert net.stats.closed == {"send timeout": 1}


def test_what_a_client_takes_out_of_the_kernel_is_progress_too(make: Make) -> None:
    """Its buffers are so large that a slow client can live on them for longer than the deadline."""
    net = make(lambda request: Response(200, Body(b"x" * 65536 for _ in range(1000))))
    client, connection = net.connect(tcp=True)
    give(net, client, GET)
    fd = connection._sock.fileno()
    for _ in range(2):
        before = queued_bytes(fd)
        while queued_bytes(fd) > before - 30_000:
            client.read(16384)
            assert not net.busy, "the kernel would take more: this shows nothing"
        net.sleep(60 - LATE)
        assert connection.phase == SEND
    net.sleep(60 / LOOKS + 2 * LATE)
    assert connection.phase == CLOSED, "and it is known well enough when that was"


def test_the_answers_to_a_pipeline_have_one_deadline(make: Make) -> None:
    """Another answer behind one that is not taken is no progress."""
    net = make(large, deadlines=RATE)
    client, connection = net.connect(send_buffer=KERNEL)
    give(net, client, get("/large") + GET * 1000)
    while len(client.received) < 990_000:
        take(net, client, 512)
    assert connection.phase == SEND
    for _ in range(13):
        net.sleep(1)
        take(net, client, 10)
    assert connection.phase == CLOSED


def test_without_a_rate_an_answer_is_given_time_anew_by_each_progress_and_then_reset(make: Make) -> None:
    net = make(large, deadlines=Deadlines(min_rate=0))
    client, connection = net.connect(send_buffer=KERNEL)
    client.send(get("/large"))
    net.settle()
    for _ in range(9):
        net.sleep(59)
        assert connection.phase == SEND
        before = len(client.received)
        while not net.busy:  # until the kernel takes more
            client.read(512)
        net.settle()
        assert len(client.received) > before
    net.sleep(60 - 0.01)
    assert connection.phase == SEND
    net.sleep(0.01 + LATE)
    assert connection.phase == CLOSED
    assert net.stats.closed == {"send timeout": 1}


def test_an_answer_that_nobody_takes_ends_with_a_reset(make: Make) -> None:
    """So that the client does not take what it has for the whole."""
    net = make(lambda request: Response(200, Body(b"x" * 65536 for _ in range(1000))))
    client, connection = net.connect(tcp=True)
    client.send(GET)
    net.settle()
    assert connection.phase == SEND
    net.sleep(60 + LATE)
    assert connection.phase == CLOSED
    client.read()
    assert client.was_reset


def test_lingering_is_limited_in_total(make: Make) -> None:
    net = make()
    client, connection = net.connect()
    client.send(LAST_GET)
    for _ in range(5):
        net.settle()
        assert connection.phase == LINGER
        client.send(b"more")
        net.sleep(0.99)
    net.sleep(0.05 + LATE)
    assert connection.phase == CLOSED


def test_lingering_ends_when_the_client_closes_too(make: Make) -> None:
    net = make()
    client, connection = net.connect()
    net.ask(client, LAST_GET)
    assert connection.phase == LINGER
    assert client.ended
    client.finish()
    net.settle()
    assert connection.phase == CLOSED
    assert net.stats.closed == {"last response": 1}


# The last moment of an idle connection.


def meanwhile(net: Net, client: Client, data: bytes) -> None:
    """Lets `data` arrive in the next turn after readiness was asked for, and before the deadlines are looked at."""
    net.reactor.call(lambda: client.send(data))


def test_a_request_that_is_there_at_the_idle_expiry_is_answered_as_the_last_one(make: Make) -> None:
    """Close policy, point 1."""
    net = make()
    client, connection = net.connect()
    net.ask(client, GET)
    net.clock.advance(121 + LATE)
    meanwhile(net, client, GET)
    net.step()
    (answer,) = client.answers("GET")
    assert answer.status == 200
    assert not answer.persists
    assert client.ended
    assert connection.phase == LINGER
    assert net.stats.races_lost.total() == 0


def test_a_request_that_is_ready_at_the_idle_expiry_does_not_even_notice(make: Make) -> None:
    """Readable events come first."""
    net = make()
    client, connection = net.connect()
    net.ask(client, GET)
    client.send(GET)
    net.clock.advance(121 + LATE)
    net.step()
    (answer,) = client.answers("GET")
    assert answer.persists
    assert connection.phase == IDLE
    assert net.time_left(connection) == 121


def test_a_pipeline_that_is_there_at_the_idle_expiry_gets_one_answer_and_no_more(make: Make) -> None:
    """RFC 9112 §9.6: nothing is answered after the response that says close."""
    net = make()
    client, _ = net.connect()
    net.clock.advance(121 + LATE)
    meanwhile(net, client, GET * 3)
    net.settle()
    (answer,) = client.answers("GET")
    assert not answer.persists
    client.send(GET)
    net.settle()
    assert net.stats.races_lost.total() == 0, "a client that was told to stop lost no race"
    client.close()
    net.settle()
    assert net.stats.closed == {"last response": 1}


def test_a_request_that_begins_at_the_idle_expiry_has_the_time_of_any_other(make: Make) -> None:
    net = make()
    client, connection = net.connect()
    net.clock.advance(121 + LATE)
    meanwhile(net, client, GET[:5])
    net.step()
    assert connection.phase == HEAD
    assert net.time_left(connection) == 30
    net.sleep(20)
    (answer,) = net.ask(client, GET[5:], methods=["GET"])
    assert answer.status == 200
    assert not answer.persists


def test_bytes_after_the_idle_close_are_a_lost_race_that_is_counted_once(make: Make) -> None:
    """Close policy, point 6."""
    net = make()
    client, connection = net.connect()
    net.sleep(121 + LATE)
    client.send(GET)
    net.settle()
    client.send(GET)
    net.settle()
    assert net.stats.races_lost.total() == 1
    assert client.read() == b""
    client.close()
    net.settle()
    assert connection.phase == CLOSED
    assert sum(net.stats.closed.values()) == 1


def test_bytes_that_come_with_the_end_of_lingering_are_a_lost_race_too(make: Make) -> None:
    net = make()
    client, connection = net.connect()
    net.sleep(121 + LATE)
    assert connection.phase == LINGER
    net.clock.advance(5 + LATE)
    meanwhile(net, client, GET)
    net.step()
    assert connection.phase == CLOSED
    assert net.stats.races_lost == {"idle": 1}
    assert net.stats.closed == {"idle": 1}


def test_bytes_that_come_when_the_server_aborts_are_a_lost_race_too(make: Make) -> None:
    net = make()
    (client, connection), (silent, other) = net.connect(), net.connect()
    client.send(GET)
    connection.abort()
    other.abort()
    assert net.stats.races_lost == {"shutdown": 1}
    assert net.stats.closed == {"shutdown": 2}
    silent.read()
    assert silent.ended


def test_a_client_that_goes_while_idle_is_no_lost_race(make: Make) -> None:
    net = make()
    client, connection = net.connect()
    net.ask(client, GET)
    client.close()
    net.settle()
    assert connection.phase == CLOSED
    assert net.stats.closed == {"client": 1}
    assert net.stats.races_lost.total() == 0


# Clients that shut down their sending side.


def test_a_client_that_sends_no_more_still_gets_its_answers(make: Make) -> None:
    net = make()
    client, connection = net.connect()
    client.send(GET * 3)
    client.finish()
    net.settle()
    assert [answer.status for answer in client.answers(*["GET"] * 3)] == [200] * 3
    assert client.ended
    assert not client.was_reset
    assert connection.phase == CLOSED


def test_also_those_of_a_pipeline_that_takes_many_turns(make: Make) -> None:
    net = make(lambda request: Response.text(request.path))
    client, _ = net.connect(send_buffer=KERNEL)
    client.send(b"".join(get(f"/{number}") for number in range(200)))
    client.finish()
    for _ in range(1000):
        net.settle()
        client.read(1000)
    answers = client.answers(*["GET"] * 200)
    assert [answer.body for answer in answers] == [f"/{number}".encode() for number in range(200)]
    assert client.ended
    assert not client.was_reset


@pytest.mark.parametrize("start", [GET[:9], GET[:-2], POST_HEAD + b"12345"])
def test_half_a_request_and_an_end_is_400(make: Make, start: bytes) -> None:
    """RFC 9112 §8."""
    net = make()
    client, connection = net.connect()
    client.send(GET + start)
    client.finish()
    net.settle()
    assert [answer.status for answer in client.answers("GET", "POST")] == [200, 400]
    assert connection.phase == CLOSED


# Errors that reach the client.


@pytest.mark.parametrize("tcp", [False, True])
def test_a_refusal_reaches_a_client_that_keeps_sending(make: Make, tcp: bool) -> None:
    """RFC 9112 §9.6: a socket that is closed with unread input sends RST, which destroys the answer on its way."""
    net = make(limits=Limits(body=1000))
    client, connection = net.connect(tcp=tcp)
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4000000\r\n\r\n")
    net.step()
    for _ in range(60):
        client.send(b"x" * 65536)
        net.settle()
    assert connection.phase == LINGER
    client.finish()
    net.settle()
    (answer,) = client.answers("POST")
    assert answer.status == 413
    assert not answer.persists
    assert client.ended
    assert not client.was_reset
    assert net.stats.closed == {"refused": 1}


def test_nothing_is_read_as_a_request_after_a_refusal(make: Make) -> None:
    net = make(router := Router())
    client, _ = net.connect()
    client.send(GET + b"GET /\r\n\r\n" + GET)
    net.settle()
    client.send(GET)
    net.settle()
    assert [answer.status for answer in client.answers("GET", "GET")] == [200, 400]
    assert len(router.requests) == 1


# Many requests.


def test_a_steady_get_never_changes_what_is_waited_for(make: Make) -> None:
    net = make()
    client, _ = net.connect()
    changes = net.poller.changes
    for _ in range(100):
        net.ask(client, GET)
        net.sleep(1)
    assert net.poller.changes == changes


def test_the_answers_to_a_pipeline_leave_in_one_send(make: Make) -> None:
    net = make(lambda request: Response.text(request.path))
    client, connection = net.connect()
    answers = net.ask(client, *(get(f"/{number}") for number in range(20)))
    assert [answer.body for answer in answers] == [f"/{number}".encode() for number in range(20)]
    assert len(spied(connection).sends) == 1


def test_a_large_body_is_not_copied_behind_its_head(make: Make) -> None:
    """The head waits for it, so that they still leave in one segment."""
    net = make(lambda request: Response(200, b"x" * (MAX_INLINE_BODY + 1)))
    client, connection = net.connect(send_buffer=256 * 1024)
    [answer] = net.ask(client, GET)
    assert len(answer.body) == MAX_INLINE_BODY + 1
    (head, flags), (body, none) = spied(connection).sends
    assert head < 1000
    assert body == MAX_INLINE_BODY + 1
    assert (flags, none) == (getattr(socket, "MSG_MORE", 0), 0)


def test_a_head_and_its_body_leave_in_one_send(make: Make) -> None:
    net = make()
    client, connection = net.connect()
    net.ask(client, GET)
    assert len(spied(connection).sends) == 1


def test_a_turn_answers_64_requests_of_a_pipeline_and_the_rest_in_the_next(make: Make) -> None:
    """So that one pipeline does not stop the others."""
    net = make(router := Router())
    client, connection = net.connect()
    client.send(GET * 200)
    other, _ = net.connect()
    other.send(GET)
    counts = []
    while net.busy:
        before = len(router.requests)
        net.step()
        counts.append(len(router.requests) - before)
        if len(counts) == 1:
            assert len(other.answers("GET")) == 1
    assert max(counts) <= 64 + 1
    assert counts[:3] == [65, 64, 64]
    assert len(client.answers(*["GET"] * 200)) == 200
    assert connection.phase == IDLE
    assert net.interest(connection) == READ
    assert net.time_left(connection) == 121


def test_what_has_to_wait_for_the_next_turn_is_not_joined_by_more(make: Make) -> None:
    """No reading while requests that were read wait for their answers: that is the backpressure of a pipeline, also
    for a client that reads as fast as it writes."""
    net = make(router := Router(), keep_alive=KeepAlive(120, 0))
    client, connection = net.connect()
    unsent = GET * 20_000
    most = 0
    for _ in range(50):
        unsent = unsent[client.send(unsent) :]
        before = len(router.requests)
        net.step()
        assert len(router.requests) - before <= 64
        most = max(most, len(connection.protocol._received))
        client.read()
    assert unsent
    assert most <= 2 * 64 * 1024


def test_a_pipeline_that_waits_for_its_turn_has_no_deadline_and_reads_nothing(make: Make) -> None:
    """HANDLER, the row without a deadline: what takes so long is the server's own affair."""
    net = make()
    client, connection = net.connect()
    client.send(GET * 100)
    net.step()
    assert connection.phase == HANDLER
    assert net.interest(connection) == NOTHING
    assert connection.deadline == float("inf")
    assert net.reactor.timeout() == 0.0
    net.clock.advance(1000)
    net.settle()
    assert len(client.answers(*["GET"] * 100)) == 100
    assert connection.phase == IDLE


def test_large_answers_to_a_pipeline_are_sent_before_more_are_made(make: Make) -> None:
    answer = b"x" * 30_000
    net = make(lambda request: Response(200, answer))
    client, connection = net.connect()
    client.send(GET * 200)
    received = most = turns = 0
    while net.busy:
        net.step()
        turns += 1
        most = max(most, len(connection._unsent))
        received += len(client.read())
    assert most < 200 * 1024
    assert [it.body == answer for it in client.answers(*["GET"] * 200)] == [True] * 200
    assert turns < 500
    assert max(size for size, _ in spied(connection).sends) < 200 * 1024


def test_a_pipeline_of_a_client_that_never_reads_is_held_back(make: Make) -> None:
    """50,000 pipelined requests of a client that never reads cost no memory."""
    net = make(lambda request: Response.text(request.path), keep_alive=KeepAlive(120, 0))
    client, connection = net.connect(send_buffer=KERNEL)
    wire = b"".join(get(f"/{number}") for number in range(5000))
    sent = client.send(wire)
    net.settle()
    sent += client.send(wire[sent:])
    net.settle()
    assert connection.phase == SEND
    assert net.interest(connection) == WRITE, "it does not read"
    assert len(connection._unsent) < 200 * 1024
    assert len(connection.protocol._received) < 200 * 1024
    for _ in range(10_000):
        client.read(65536)
        sent += client.send(wire[sent:])
        net.settle()
        assert len(connection._unsent) < 200 * 1024
        assert len(connection.protocol._received) < 200 * 1024
        if client.received.endswith(b"/4999"):
            break
    answers = client.answers(*["GET"] * 5000)
    assert [answer.body for answer in answers] == [f"/{number}".encode() for number in range(5000)]


def test_an_idle_connection_holds_no_buffers(make: Make) -> None:
    net = make()
    client, connection = net.connect()
    for _ in range(50):
        net.ask(client, GET)
        net.ask(client, post(b"x" * 1000))
    protocol = connection.protocol
    assert connection.phase == IDLE
    assert connection._unsent == b""
    assert connection._response is None
    assert connection._stream is None
    assert connection._awaited is None
    assert protocol._received == b""
    assert protocol.request is None
    assert protocol.sink is None
    assert protocol._decoder is None


# Bodies of answers.


def test_a_large_body_of_bytes_arrives_whole_over_short_writes(make: Make) -> None:
    content = random.Random(1).randbytes(1_500_000)
    net = make(lambda request: Response(200, content))
    client, connection = net.connect(send_buffer=KERNEL)
    client.send(GET * 2)
    answers = read_slowly(net, client, 2)
    assert [answer.body == content for answer in answers] == [True, True]
    assert len(spied(connection).sends) > 10
    assert connection.phase == IDLE


def read_slowly(net: Net, client: Client, count: int, seed: int = 0) -> list[Any]:
    """The answers to `count` GETs, read in pieces of random sizes."""
    chance = random.Random(seed)
    while True:
        net.settle()
        if not client.read(chance.choice([1, 100, 5000, 100_000])):
            return list(client.answers(*["GET"] * count))


def test_a_file_arrives_whole_over_short_writes(make: Make) -> None:
    content = random.Random(2).randbytes(5 * 1024 * 1024)
    net = make(lambda request: Response(200, file_span(content, 1000, 4_000_000)))
    client, connection = net.connect(send_buffer=65536)
    client.send(GET * 2)
    answers = read_slowly(net, client, 2)
    assert [answer.body == content[1000:4_001_000] for answer in answers] == [True, True]
    assert connection.phase == IDLE


def test_a_turn_sends_a_bounded_part_of_a_file(make: Make) -> None:
    """A fast reader of a large file does not stop the others."""
    content = bytes(8 * 1024 * 1024)
    net = make(lambda request: Response(200, file_span(content)))
    client, connection = net.connect(tcp=True, send_buffer=16 * 1024 * 1024)
    client.send(GET)
    net.step()
    assert connection._stream is not None
    span = connection._stream.span
    assert isinstance(span, FileSpan)
    assert span.length >= 7 * 1024 * 1024


def test_an_empty_file(make: Make) -> None:
    net = make(lambda request: Response(200, file_span(b"")))
    client, connection = net.connect(tcp=True)
    answers = net.ask(client, GET, GET)
    assert [answer.body for answer in answers] == [b"", b""]
    assert [answer.framing for answer in answers] == ["length", "length"]
    assert connection.phase == IDLE


def test_a_head_waits_for_its_file_only_if_something_follows(make: Make) -> None:
    """MSG_MORE joins the head with the first bytes of the file; with nothing behind it the kernel would hold the head
    back for 200 ms."""
    spans = [file_span(b""), file_span(b"content")]
    net = make(lambda request: Response(200, spans.pop(0)))
    client, connection = net.connect(tcp=True)
    net.ask(client, GET)
    ((_, flags),) = spied(connection).sends
    assert not flags & socket.MSG_MORE
    net.ask(client, GET)
    _, (_, flags) = spied(connection).sends
    assert flags & socket.MSG_MORE


def test_a_file_that_cannot_be_read_ends_the_connection(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A disk that fails, or no file at all; that is no fault of the client."""
    reader, writer = os.pipe()
    os.close(writer)
    span = FileSpan(reader, 0, 7)
    net = make(lambda request: Response(200, span))
    client, connection = net.connect()
    with faults(caplog, "a file could not be sent[^$]*Illegal seek"):
        client.send(GET)
        net.settle()
    assert connection.phase == CLOSED
    assert spied(connection).aborted
    assert net.stats.closed == {"failed": 1}
    assert span.fd == -1


@pytest.mark.parametrize("remaining", [0, 500, 700_000])
def test_a_file_that_shrinks_ends_the_connection(make: Make, remaining: int, caplog: pytest.LogCaptureFixture) -> None:
    """What is missing is never made up, and never taken from elsewhere."""
    content = random.Random(3).randbytes(1_000_000)
    span = file_span(content)
    net = make(lambda request: Response(200, span))
    client, connection = net.connect(tcp=True)
    os.truncate(span.fd, remaining)
    with faults(caplog, "shorter"):
        client.send(GET * 2)
        while connection.phase != CLOSED:
            net.settle()
            client.read()
    head, _, body = client.received.partition(b"\r\n\r\n")
    assert b"Content-Length: 1000000" in head or client.received == b""
    assert content[:remaining].startswith(body)
    client.read()
    assert client.was_reset
    assert span.fd == -1


def test_an_iterable_is_pulled_only_as_fast_as_the_client_reads(make: Make) -> None:
    body = Body(bytes([number]) * 10_000 for number in range(200))
    net = make(lambda request: Response(200, body))
    client, connection = net.connect(send_buffer=KERNEL)
    client.send(GET)
    net.settle()
    held = body.pulled
    assert held < 20
    while body.pulled < 100:
        client.read(5000)
        net.settle()
        assert body.pulled - len(client.received) / 10_000 < 20
        assert connection.phase == SEND
    closed_early = body.closed
    (answer,) = read_slowly(net, client, 1)
    assert answer.framing == "chunked"
    assert answer.body == b"".join(bytes([number]) * 10_000 for number in range(200))
    assert (closed_early, body.closed) == (0, 1)
    assert connection.phase == IDLE


def test_an_iterable_of_any_length_is_sent_in_bounded_turns(make: Make) -> None:
    body = Body(b"x" for _ in range(1000))
    net = make(lambda request: Response(200, body))
    client, _ = net.connect()
    client.send(GET)
    pulled = 0
    while net.busy:
        net.step()
        client.read()
        assert body.pulled - pulled <= 64
        pulled = body.pulled
    assert client.answers("GET")[0].body == b"x" * 1000


def test_each_piece_reaches_the_client_before_the_next_is_pulled(make: Make) -> None:
    """A piece never waits for the one behind it: the handler may take its time over that."""
    seen: list[bytes] = []

    def pieces() -> Iterator[bytes]:
        yield b"first"
        client.read()
        seen.append(client.received[-10:])
        yield b"second"

    net = make(lambda request: Response(200, pieces()))
    client, _ = net.connect()
    client.send(GET)
    net.settle()
    assert seen == [b"5\r\nfirst\r\n"]


def test_empty_pieces_do_not_end_a_body(make: Make) -> None:
    """RFC 9112 §7.1: a chunk of size zero would."""
    net = make(lambda request: Response(200, [b"", b"a", b"", b"", b"b", b""]))
    client, _ = net.connect()
    for answer in net.ask(client, GET, GET):
        assert answer.body == b"ab"


@pytest.mark.parametrize("body", [[], [b""]])
def test_an_iterable_without_content(make: Make, body: list[bytes]) -> None:
    net = make(lambda request: Response(200, body))
    client, _ = net.connect()
    assert [answer.body for answer in net.ask(client, GET, GET)] == [b"", b""]


def test_an_iterable_to_http_1_0_ends_with_the_connection(make: Make) -> None:
    """RFC 9112 §6.3 step 8: there is no other way."""
    body = Body([b"a", b"b"])
    net = make(lambda request: Response(200, body))
    client, connection = net.connect(tcp=True)
    (answer,) = net.ask(client, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert answer.framing == "close"
    assert answer.body == b"ab"
    assert client.ended
    assert not client.was_reset
    assert connection.phase == LINGER
    assert body.closed == 1


def test_an_iterable_with_a_length(make: Make) -> None:
    body = Body([b"abc", b"def"])
    net = make(lambda request: Response(200, body, {"Content-Length": "6"}))
    client, _ = net.connect()
    (answer,) = net.ask(client, GET)
    assert answer.framing == "length"
    assert answer.body == b"abcdef"
    assert answer.persists
    assert body.closed == 1


def test_a_body_that_is_too_long_is_cut_off_and_said_so(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    for pieces in ([b"abcdefgh"], [b"abc", b"defgh"], [b"abcde", b"fgh"], [b"abcde", b"", b"f", b"gh"]):
        body = Body(pieces)
        net = make(lambda request, body=body: Response(200, body, {"Content-Length": "5"}))  # type: ignore[misc]
        client, _ = net.connect()
        with faults(caplog, "longer than its Content-Length"):
            (answer,) = net.ask(client, GET)
        assert answer.body == b"abcde"
        assert body.closed == 1


def test_a_body_that_never_ends_is_cut_off_as_well(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    body = Body(iter(lambda: b"x", b""))
    net = make(lambda request: Response(200, body, {"Content-Length": "100"}))
    client, connection = net.connect()
    client.send(GET)
    with faults(caplog, "longer than its Content-Length"):
        (answer,) = read_slowly(net, client, 1)
    assert answer.body == b"x" * 100
    assert body.closed == 1
    assert body.pulled < 200
    assert connection.phase != SEND


@pytest.mark.parametrize("pieces", [[], [b"abc"], [b"ab", b"cd"]])
def test_a_body_that_is_too_short_ends_with_a_reset(
    make: Make, pieces: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """The wrong number of bytes is never sent silently: no further answer may stand in for the rest."""
    body = Body(pieces)
    net = make(lambda request: Response(200, body, {"Content-Length": "5"}))
    client, connection = net.connect(tcp=True)
    with faults(caplog, "1 bytes shorter|2 bytes shorter|5 bytes shorter"):
        client.send(GET * 2)
        net.settle()
    assert connection.phase == CLOSED
    client.read()
    assert client.was_reset
    assert client.received.count(b"HTTP/1.1") <= 1
    assert body.closed == 1
    assert net.stats.failed == 1


@pytest.mark.parametrize("status", [200, 204, 304])
@pytest.mark.parametrize("length", ["", "5"])
def test_no_content_is_pulled_where_there_is_none(make: Make, status: int, length: str) -> None:
    """RFC 9112 §6.3 step 1."""
    if length and status == 204:
        pytest.skip("RFC 9110 §8.6")
    body = Body([b"abcde"])
    net = make(lambda request: Response(status, body, {"Content-Length": length} if length else {}))
    client, connection = net.connect()
    (answer,) = net.ask(client, b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.status == status
    assert answer.persists
    assert body.pulled == 0
    assert body.closed == 1
    assert connection.phase == IDLE


def test_the_file_of_a_head_is_closed_and_not_sent(make: Make) -> None:
    span = file_span(b"content")
    net = make(lambda request: Response(200, span))
    client, _ = net.connect()
    (answer,) = net.ask(client, b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.value("content-length") == "7"
    assert span.fd == -1


# close() of a body, once and in every case. (It is called at the end of the good cases above.)


def test_a_body_is_closed_when_the_client_vanishes(make: Make) -> None:
    body = Body(b"x" * 10_000 for _ in range(1000))
    net = make(lambda request: Response(200, body))
    client, connection = net.connect(tcp=True, send_buffer=KERNEL)
    client.send(GET)
    net.settle()
    assert connection.phase == SEND
    client.reset()
    net.settle()
    assert connection.phase == CLOSED
    assert body.closed == 1
    assert net.stats.closed == {"reset": 1}


def test_a_body_is_closed_when_the_deadline_passes(make: Make) -> None:
    body = Body(b"x" * 10_000 for _ in range(1000))
    net = make(lambda request: Response(200, body))
    client, _ = net.connect()
    client.send(GET)
    net.sleep(60 + LATE)
    assert body.closed == 1


def test_a_body_is_closed_when_the_server_aborts(make: Make) -> None:
    body = Body(b"x" * 10_000 for _ in range(1000))
    net = make(lambda request: Response(200, body))
    client, connection = net.connect()
    client.send(GET)
    net.settle()
    connection.abort()
    connection.abort()
    assert body.closed == 1
    assert net.stats.closed == {"shutdown": 1}


def test_a_body_is_closed_once_though_its_answer_to_head_is_cut_off(make: Make) -> None:
    """It is closed as soon as it is clear that nobody wants it, and not again when the connection ends."""
    body = Body([b"x"])
    filling = b"x" * 16_150  # four times, so that the answer to HEAD is the one that fills the turn

    net = make(lambda request: Response(200, body if request.method == "HEAD" else filling))
    client, connection = net.connect(send_buffer=KERNEL)
    client.send(GET * 4 + b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
    net.settle()
    assert body.closed == 1
    connection.abort()
    assert body.closed == 1


def test_a_body_whose_head_cannot_be_sent_is_closed(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    body = Body([b"x"])
    net = make(lambda request: Response(200, body, {"X-Split": "a\r\nb"}))
    client, connection = net.connect()
    with faults(caplog, "cannot be sent"):
        (answer,) = net.ask(client, GET)
    assert answer.status == 500
    assert answer.persists
    assert body.closed == 1
    assert connection.phase == IDLE


def test_a_close_that_fails_harms_nobody(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn(Body):
        def close(self) -> None:
            raise RuntimeError("the handler's own fault")

    net = make(lambda request: Response(200, Stubborn([b"x"])))
    client, connection = net.connect()
    with faults(caplog, "closing", "closing"):
        assert [answer.body for answer in net.ask(client, GET, GET)] == [b"x", b"x"]
    assert connection.phase == IDLE


# Handlers that fail.


def test_an_exception_is_a_500_that_keeps_the_connection(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    net = make(Router(bad=ZeroDivisionError("secret")))
    client, connection = net.connect()
    with faults(caplog, r"the handler failed on <Request GET /bad HTTP/1.1>[^$]*ZeroDivisionError: secret"):
        first, second = net.ask(client, get("/bad"), GET)
    assert first.status == 500
    assert first.persists
    assert b"secret" not in first.body
    assert b"Traceback" not in first.body
    assert second.status == 200
    assert net.stats.failed == 1
    assert net.stats.requests == 2
    assert connection.phase == IDLE


@pytest.mark.parametrize("fault", [GeneratorExit, asyncio.CancelledError, pytest.fail.Exception])
def test_so_is_what_is_no_exception(fault: type[BaseException], make: Make, caplog: pytest.LogCaptureFixture) -> None:
    def handler(request: Request) -> Response:
        raise fault("the handler's own")

    net = make(handler)
    client, connection = net.connect()
    with faults(caplog, "the handler failed on <Request GET / "):
        [answer] = net.ask(client, GET)
    assert (answer.status, connection.phase) == (500, IDLE)


@pytest.mark.parametrize("fault", [KeyboardInterrupt, SystemExit])
def test_what_may_come_from_a_signal_is_for_the_program(fault: type[BaseException], make: Make) -> None:
    """In the main thread, where a Ctrl-C may meet a handler of a server that somebody else's loop turns."""

    def handler(request: Request) -> Response:
        raise fault

    net = make(handler)
    client, connection = net.connect()
    client.send(GET)
    with pytest.raises(fault):
        net.step()
    connection.abort()


def test_an_http_error_is_its_status_and_closes(make: Make) -> None:
    net = make(Router(no=HTTPError(405, "only GET", (("Allow", "GET"),))))
    client, connection = net.connect()
    (answer,) = net.ask(client, get("/no"), GET, methods=["GET"])
    assert answer.status == 405
    assert answer.value("allow") == "GET"
    assert not answer.persists
    assert client.ended
    assert connection.phase == LINGER
    assert net.stats.refused == {405: 1}


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "text",
        b"bytes",
        (200, b""),
        Response(200, "text"),  # type: ignore[arg-type]
        Response(200, ["text"]),  # type: ignore[list-item]
        Response(200, bytearray(b"text")),  # type: ignore[arg-type]
        Response(200, 5),  # type: ignore[arg-type]
        Response(200, None),  # type: ignore[arg-type]
        Response(100),
        Response(99),
        Response(600),
        Response(200, b"four", {"Content-Length": "5"}),
        Response(200, b"four", {"Content-Length": "four"}),
        Response(200, [b"four"], {"Content-Length": "-1"}),
        Response(200, b"", {"A b": "c"}),
        Response(200, b"", {"X": "a\nb"}),
        Response(200, b"", {"X": "€"}),
        Response(200, b"", [("X", 5)]),  # type: ignore[list-item]
    ],
    ids=repr,
)
def test_what_is_no_answer_is_a_500_that_keeps_the_connection(
    make: Make, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    net = make(lambda request: answer if request.path == "/bad" else hello(request))
    client, connection = net.connect()
    first, second = net.ask(client, get("/bad"), GET)
    assert caplog.records
    assert all(record.levelno == logging.ERROR for record in caplog.records)
    caplog.clear()
    assert first.status == 500
    assert first.persists
    assert second.status == 200
    assert net.stats.failed == 1
    assert connection.phase == IDLE


def test_a_body_that_fails_at_its_first_piece_is_a_500_that_keeps_the_connection(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    body = Body([b"x"], fails_after=0)
    net = make(Router(bad=Response(200, body)))
    client, connection = net.connect()
    with faults(caplog, "cannot be sent[^$]*the handler's own fault"):
        first, second = net.ask(client, get("/bad"), GET)
    assert first.status == 500
    assert first.persists
    assert second.status == 200
    assert body.closed == 1
    assert net.stats.failed == 1
    assert connection.phase == IDLE


@pytest.mark.parametrize("fails_after", [1, 5, 40])
def test_a_body_that_fails_later_ends_with_a_reset(
    make: Make, fails_after: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The end of the body must not look like one (RFC 9112 §8)."""
    body = Body([b"x"] * 100, fails_after=fails_after)
    net = make(lambda request: Response(200, body))
    client, connection = net.connect(tcp=True)
    with faults(caplog, "failed while answering[^$]*the handler's own fault"):
        client.send(GET * 2)
        net.settle()
    assert connection.phase == CLOSED
    client.read()
    assert client.was_reset
    assert b"0\r\n\r\n" not in client.received
    assert body.closed == 1
    assert net.stats.failed == 1
    assert net.stats.closed == {"failed": 1}


def test_a_piece_that_is_no_bytes_ends_with_a_reset(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    for fields in ({}, {"Content-Length": "10"}):
        body = Body([b"x", "text"])  # type: ignore[list-item]
        net = make(lambda request, body=body, fields=fields: Response(200, body, fields))  # type: ignore[misc]
        client, connection = net.connect()
        with faults(caplog, "failed while answering"):
            client.send(GET)
            net.settle()
        assert connection.phase == CLOSED
        assert spied(connection).aborted
        assert body.closed == 1


# Answers, and pieces of answers, that come later.


def test_an_answer_that_comes_later_keeps_the_connection_and_stops_nobody(make: Make) -> None:
    later: Future[Response] = Future()
    net = make(lambda request: later if request.path == "/later" else hello(request))
    client, connection = net.connect()
    other, _ = net.connect()
    give(net, client, get("/later") + get("/next"))
    assert client.read() == b""
    assert connection.phase == HANDLER
    assert net.interest(connection) == NOTHING
    assert net.time_left(connection) == float("inf")
    assert not net.busy  # nobody asks again and again
    [answer] = net.ask(other, GET)
    assert answer.body == b"hello"
    later.set_result(Response.text("at last"))
    net.settle()
    assert [answer.body for answer in client.answers("GET", "GET")] == [b"at last", b"hello"]
    assert connection.phase == IDLE


def test_an_answer_may_come_from_another_thread(make: Make) -> None:
    later: Future[Response] = Future()
    net = make(lambda request: later)
    client, connection = net.connect()
    give(net, client, GET)
    thread = threading.Thread(target=lambda: later.set_result(Response.text("from afar")))
    thread.start()
    thread.join()
    assert net.busy  # the reactor has been woken
    net.settle()
    [answer] = client.answers("GET")
    assert answer.body == b"from afar"
    assert connection.phase == IDLE


def test_an_answer_that_is_there_already_is_not_waited_for(make: Make) -> None:
    later: Future[Response] = Future()
    later.set_result(Response.text("at once"))
    net = make(lambda request: later)
    client, _ = net.connect()
    client.send(GET)
    net.step()
    [answer] = client.answers("GET")
    assert answer.body == b"at once"


def test_an_answer_that_fails_later_is_a_500_that_keeps_the_connection(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    later: Future[Response] = Future()
    net = make(lambda request: later)
    client, connection = net.connect()
    give(net, client, GET)
    with faults(caplog, "the handler failed on <Request GET / "):
        later.set_exception(RuntimeError("the handler's own fault"))
        net.settle()
    [answer] = client.answers("GET")
    assert answer.status == 500
    assert connection.phase == IDLE


def test_an_http_error_that_comes_later_is_its_status_and_closes(make: Make) -> None:
    later: Future[Response] = Future()
    net = make(lambda request: later)
    client, connection = net.connect()
    give(net, client, GET)
    later.set_exception(HTTPError(410, "gone"))
    net.settle()
    [answer] = client.answers("GET")
    assert answer.status == 410
    assert connection.phase == LINGER


def test_an_answer_that_nobody_waits_for_any_more_is_cancelled(make: Make) -> None:
    later: Future[Response] = Future()
    net = make(lambda request: later)
    client, connection = net.connect()
    give(net, client, GET)
    connection.abort()
    assert later.cancelled()
    net.settle()
    assert connection.phase == CLOSED


def test_an_answer_that_comes_too_late_is_closed(make: Make) -> None:
    later: Future[Response] = Future()
    later.set_running_or_notify_cancel()  # from here on it cannot be cancelled
    net = make(lambda request: later)
    client, connection = net.connect()
    give(net, client, GET)
    connection.abort()
    body = Body([b"too late"])
    later.set_result(Response(200, body))
    net.settle()
    assert (body.pulled, body.closed) == (0, 1)


def test_a_piece_that_comes_later(make: Make) -> None:
    """What is there already leaves at once; a later piece of nothing is no end."""
    pieces: list[Future[bytes | FileSpan]] = [Future(), Future(), Future()]
    body = Body([b"now, ", *pieces, b"and the end"])
    net = make(lambda request: Response(200, body))
    client, connection = net.connect()
    give(net, client, GET)
    assert client.read().endswith(b"\r\n\r\n5\r\nnow, \r\n")
    assert connection.phase == HANDLER
    pieces[0].set_result(b"later, ")
    net.settle()
    assert client.read() == b"7\r\nlater, \r\n"
    pieces[1].set_result(b"")
    net.settle()
    assert client.read() == b""
    pieces[2].set_result(b"last, ")
    net.settle()
    [answer] = client.answers("GET")
    assert answer.body == b"now, later, last, and the end"
    assert body.closed == 1
    assert connection.phase == IDLE


def test_a_later_piece_that_fails_ends_with_a_reset(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    piece: Future[bytes | FileSpan] = Future()
    body = Body([b"now", piece])
    net = make(lambda request: Response(200, body))
    client, connection = net.connect(tcp=True)
    give(net, client, GET)
    with faults(caplog, "the handler failed while answering"):
        piece.set_exception(RuntimeError("the handler's own fault"))
        net.settle()
    assert connection.phase == CLOSED
    assert body.closed == 1
    client.read()
    assert client.was_reset


def test_a_body_whose_piece_is_awaited_is_closed_when_the_server_aborts(make: Make) -> None:
    piece: Future[bytes | FileSpan] = Future()
    body = Body([piece])
    net = make(lambda request: Response(200, body))
    client, connection = net.connect()
    give(net, client, GET)
    connection.abort()
    assert piece.cancelled()
    assert body.closed == 1
    net.settle()


# Spans of files among the pieces.


@pytest.mark.parametrize("length", [None, 3 * KERNEL * 10 + 9])
def test_spans_among_pieces(make: Make, length: int | None) -> None:
    """Counted and chunked, over short writes; they belong to the body, and are left open."""
    content = random.Random(1).randbytes(3 * KERNEL * 10)
    span = file_span(content)
    middle = FileSpan(span.fd, KERNEL, KERNEL * 10)
    pieces: list[bytes | FileSpan] = [b"one", FileSpan(span.fd, 0, KERNEL), middle, b"two", FileSpan(span.fd, 0, 0)]
    pieces += [FileSpan(span.fd, 11 * KERNEL, 19 * KERNEL), b"six"]
    fields = [] if length is None else [("Content-Length", str(length))]
    net = make(lambda request: Response(200, Body(pieces), fields))
    client, connection = net.connect(send_buffer=KERNEL)
    give(net, client, GET)
    while connection.phase != IDLE:
        client.read()
        net.settle()
    [answer] = client.answers("GET")
    assert answer.body == b"one" + content[: 11 * KERNEL] + b"two" + content[11 * KERNEL :] + b"six"
    assert os.fstat(span.fd).st_size == len(content)
    span.close()


def test_a_span_among_pieces_is_cut_off_where_the_length_ends(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    span = file_span(b"0123456789")
    fields = [("Content-Length", "8")]
    net = make(lambda request: Response(200, Body([b"<<<", FileSpan(span.fd, 0, 10)]), fields))
    client, connection = net.connect()
    with faults(caplog, "is longer than its Content-Length"):
        [answer] = net.ask(client, GET)
    assert answer.body == b"<<<01234"
    assert connection.phase == IDLE
    span.close()


def test_a_span_that_is_shared_is_its_owners_to_close(make: Make) -> None:
    class Owner:
        closed = 0

        def close(self) -> None:
            self.closed += 1

    owner = Owner()
    span = file_span(b"shared")
    net = make(lambda request: Response(200, FileSpan(span.fd, 0, 6, owner)))
    client, _ = net.connect()
    answers = net.ask(client, GET, b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert [answer.body for answer in answers] == [b"shared", b""]
    assert owner.closed == 2
    span.close()


def test_an_answer_may_wish_to_close(make: Make) -> None:
    net = make(lambda request: Response(200, b"", {"Connection": "close"}))
    client, connection = net.connect()
    (answer,) = net.ask(client, GET, GET, methods=["GET"])
    assert not answer.persists
    assert connection.phase == LINGER


# Bodies of requests.


def test_bodies_reach_the_handler_in_order(make: Make) -> None:
    net = make(router := Router())
    client, _ = net.connect()
    chunked = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    answers = net.ask(client, post(b"first"), chunked, post(b""), GET, post(b"x" * 300_000))
    assert [answer.status for answer in answers] == [200] * 5
    assert router.bodies == [b"first", b"abcde", b"", b"", b"x" * 300_000]
    assert {(request.client, request.server) for request in router.requests} == {(PEER, HERE)}


def test_a_client_that_waits_for_a_word_is_told_to_go_on(make: Make) -> None:
    """RFC 9110 §10.1.1."""
    net = make(router := Router())
    client, connection = net.connect()
    client.send(EXPECTING)
    net.settle()
    assert connection.phase == BODY
    assert client.read() == CONTINUE
    client.received = b""
    (answer,) = net.ask(client, b"0123456789", methods=["POST"])
    assert answer.status == 200
    assert answer.persists
    assert router.bodies == [b"0123456789"]


def test_it_is_told_behind_the_answers_it_still_waits_for(make: Make) -> None:
    net = make()
    client, _ = net.connect()
    client.send(GET + EXPECTING)
    net.settle()
    client.read()
    assert client.received.endswith(b"hello" + CONTINUE)


@pytest.mark.parametrize("begun", [b"0", b"0123456789"])
def test_it_is_not_told_when_the_body_has_begun_to_arrive(make: Make, begun: bytes) -> None:
    """RFC 9110 §10.1.1: a server may omit it then."""
    net = make()
    client, _ = net.connect()
    (answer,) = net.ask(client, EXPECTING + begun, b"0123456789"[len(begun) :], methods=["POST"])
    assert answer.status == 200


def test_it_is_never_told_to_http_1_0(make: Make) -> None:
    """RFC 9110 §15.2: HTTP/1.0 knows no 1xx."""
    net = make()
    client, connection = net.connect()
    client.send(EXPECTING.replace(b"HTTP/1.1", b"HTTP/1.0"))
    net.settle()
    assert connection.phase == BODY
    assert client.read() == b""
    (answer,) = net.ask(client, b"0123456789", methods=["POST"])
    assert answer.status == 200


def test_a_request_without_a_body_is_never_told(make: Make) -> None:
    """Nobody waits for a body that was not announced."""
    net = make()
    client, _ = net.connect()
    (answer,) = net.ask(client, b"GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n")
    assert answer.status == 200
    assert answer.persists


def test_a_body_that_is_not_wanted_is_refused_instead(make: Make) -> None:
    """RFC 9110 §10.1.1: a final status at once, and no 100."""
    router = Router()
    router.refusals["no"] = HTTPError(401, "who are you?", (("WWW-Authenticate", "Basic"),))
    net = make(router)
    client, connection = net.connect()
    (answer,) = net.ask(client, EXPECTING.replace(b"/ ", b"/no "))
    assert answer.status == 401
    assert answer.value("www-authenticate") == "Basic"
    assert not answer.persists
    assert connection.phase == LINGER
    assert router.requests == []


def test_a_refusal_does_not_wait_for_the_body(make: Make) -> None:
    router = Router()
    router.refusals["no"] = HTTPError(413, "too much")
    net = make(router)
    client, _ = net.connect()
    (answer,) = net.ask(client, POST_HEAD.replace(b"/ ", b"/no "))
    assert answer.status == 413
    assert router.requests == []


@pytest.mark.parametrize("fault", [ZeroDivisionError(), FileNotFoundError()])
def test_a_refusal_that_fails_is_a_500(make: Make, fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    router = Router()
    router.refusals["no"] = fault
    net = make(router)
    client, _ = net.connect()
    with faults(caplog, type(fault).__name__):
        (answer,) = net.ask(client, post(b"x", path="/no"))
    assert answer.status == 500
    assert not answer.persists


class Sink:
    """Takes a body, or fails where it is told to."""

    def __init__(self, fault: Exception, *places: str) -> None:
        self._fault = fault
        self._places = places
        self.abandoned = 0

    def _may_fail(self, place: str) -> None:
        if place in self._places:
            raise self._fault

    def write(self, data: bytes) -> None:
        self._may_fail("write")

    def finish(self) -> Any:
        self._may_fail("finish")

    def abandon(self) -> None:
        self.abandoned += 1
        self._may_fail("abandon")


@pytest.mark.parametrize("place", ["write", "finish"])
@pytest.mark.parametrize(
    ("fault", "status"), [(HTTPError(413, "no more"), 413), (OSError(28, "disk full"), 500), (RuntimeError(), 500)]
)
def test_a_sink_that_fails_is_an_error_that_reaches_the_client(
    make: Make, place: str, fault: Exception, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    net = make(router := Router())
    client, connection = net.connect()
    connection.protocol.sink = sink = Sink(fault, place)
    (answer,) = net.ask(client, post(b"0123456789"))
    assert answer.status == status
    assert not answer.persists
    assert sink.abandoned == 1
    assert router.requests == []
    assert len(caplog.records) == (status == 500)
    caplog.clear()


def test_a_body_that_stays_incomplete_leaves_nothing_behind(make: Make) -> None:
    net = make()
    client, connection = net.connect()
    connection.protocol.sink = sink = Sink(OSError())
    client.send(POST_HEAD + b"12345")
    net.settle()
    client.close()
    net.settle()
    assert connection.phase == CLOSED
    assert sink.abandoned == 1


# Clients that vanish.


def test_a_connection_that_cannot_be_waited_for_is_none(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system limits how many descriptors epoll takes; whoever made the connection is told, and nothing is kept."""
    net = make()

    def refuse(fd: int, events: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    theirs, ours = socket.socketpair()
    ours.setblocking(False)
    with monkeypatch.context() as patch, theirs, ours:
        patch.setattr(net.poller, "register", refuse)
        with pytest.raises(OSError, match="No space"):
            Connection(net.service, ours, PEER, HERE)
    assert not net.service.connections
    assert len(net.reactor.wheel) == 0


def reach_handler(net: Net, client: Client) -> None:
    client.send(GET * 100)


@pytest.mark.parametrize(
    ("phase", "reach"), [*((phase, row[0]) for phase, row in REACH.items()), (HANDLER, reach_handler)]
)
def test_a_client_that_resets_is_forgotten_without_a_word(
    make: Make, phase: Phase, reach: Callable[[Net, Client], None]
) -> None:
    """In every phase; no traceback, and the descriptors are back (the fixture looks)."""
    net = make(large)
    client, connection = net.connect(tcp=True, send_buffer=KERNEL)
    reach(net, client)
    net.step()
    if phase != HANDLER:
        net.settle()
    assert connection.phase == phase
    client.reset()
    net.settle()
    assert connection.phase == CLOSED
    assert connection not in net.service.connections
    assert net.interest(connection) == NOTHING


@pytest.mark.parametrize("phase", REACH, ids=lambda phase: phase.name)
def test_a_closed_connection_takes_any_call(make: Make, phase: Phase) -> None:
    net = make(large)
    client, connection = net.connect(send_buffer=KERNEL)
    REACH[phase][0](net, client)
    net.settle()
    connection.abort()
    sent = spied(connection).sends[:]
    for events in (NOTHING, READ, WRITE, READ | WRITE):
        connection.ready(events)
    connection.retire()
    connection.abort()
    assert connection.phase == CLOSED
    assert spied(connection).sends == sent
    assert net.stats.closed == {"shutdown": 1}


def test_a_connection_that_is_called_again_after_its_end(make: Make) -> None:
    net = make()
    client, connection = net.connect()
    client.send(GET * 100)
    net.step()
    connection.abort()
    net.settle()
    assert connection.phase == CLOSED
    assert net.stats.requests == 64


class BrokenLog:
    """A fault in the server itself, for requests to /fault and for those that could not be read."""

    timed = False

    def log(self, connection: Connection, request: Request | None, response: Response, size: int) -> None:
        if request is None or request.target == "/fault":
            raise AssertionError("this cannot happen")


def test_a_fault_of_the_server_ends_one_connection_and_no_other(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    net = make(access_log=BrokenLog())
    client, connection = net.connect(tcp=True)
    others = [net.connect()[0] for _ in range(3)]
    with faults(caplog, "a connection failed in phase[^$]*this cannot happen"):
        client.send(get("/fault"))
        for other in others:
            other.send(GET)
        net.settle()
    assert [other.answers("GET")[0].status for other in others] == [200] * 3
    assert connection.phase == CLOSED
    client.read()
    assert client.was_reset
    assert net.stats.closed == {"failed": 1}


class BrokenHandler(logging.Handler):
    """Of the log: a disk that is full, and nobody who has thought of it."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def broken_logging() -> Iterator[None]:
    handler = BrokenHandler()
    logger = logging.getLogger("kaserve")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


@pytest.mark.parametrize("path", ["fails", "fails-first", "late", "wrong", "fine"])
def test_a_log_that_fails_ends_one_connection_at_most(make: Make, path: str, caplog: pytest.LogCaptureFixture) -> None:
    router = some_handler()
    router.answers["wrong"] = Response(700)
    net = make(router)
    client, _ = net.connect()
    other, _ = net.connect()
    with broken_logging():
        give(net, client, get(f"/{path}"))
        net.sleep(300)
    assert not net.service.connections
    other.close()
    new, _ = net.connect()
    assert net.ask(new, GET)[0].status == 200
    caplog.clear()


class FailingEnd:
    """An access log that fails for what is cut off."""

    timed = False

    def log(self, connection: Connection, request: Request | None, response: Response, size: int) -> None:
        raise AssertionError("the log is broken")


def test_an_end_is_an_end_whatever_others_make_of_it(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    body = Body(b"x" * 65536 for _ in range(1000))
    net = make(lambda request: Response(200, body), access_log=FailingEnd())

    def complain(connection: Connection) -> None:
        raise AssertionError("the owner is broken")

    net.service.on_close = complain
    client, connection = net.connect()
    give(net, client, GET)
    with faults(caplog, "the log is broken", "the owner is broken"):
        connection.abort()
    assert connection.phase == CLOSED
    assert body.closed == 1
    assert not net.service.connections
    assert net.stats.closed == {"shutdown": 1}
    assert len(net.reactor.wheel) == 0
    net.service.on_close = None


def test_a_fault_at_a_deadline_ends_one_connection_and_no_other(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    net = make(access_log=BrokenLog())
    (client, broken), (_, other) = net.connect(), net.connect()
    net.sleep(95)
    client.send(GET[:5])
    with faults(caplog, "this cannot happen"):
        net.sleep(30 + LATE)
    assert (broken.phase, other.phase) == (CLOSED, LINGER)


# The end of persistence: count, age, a server that wants to leave.


def test_the_last_request_of_a_connection_is_answered_with_close(make: Make) -> None:
    net = make(keep_alive=KeepAlive(120, 3))
    client, connection = net.connect()
    answers = net.ask(client, GET, GET, GET, GET, methods=["GET"] * 3)
    assert [answer.values("keep-alive") for answer in answers] == [
        ["timeout=120, max=2"],
        ["timeout=120, max=1"],
        [],
    ]
    assert [answer.persists for answer in answers] == [True, True, False]
    assert connection.phase == LINGER


def test_age_is_spent_on_an_answer(make: Make) -> None:
    """Close policy, point 3: never by closing an idle socket under a client that was told it may send."""
    net = make(deadlines=Deadlines(age=300))
    client, connection = net.connect()
    for _ in range(2):
        net.sleep(100)
        assert net.ask(client, GET)[0].persists
    net.sleep(110)
    assert connection.phase == IDLE
    (answer,) = net.ask(client, GET)
    assert answer.status == 200
    assert not answer.persists
    assert connection.phase == LINGER


@pytest.mark.parametrize(("lot", "age"), [(0.0, 300.0), (0.5, 285.0), (0.999, 270.1)])
def test_the_age_is_spread_so_that_not_all_end_together(make: Make, lot: float, age: float) -> None:
    """Those of a restart, say; nobody gets older than the setting."""
    net = make(deadlines=Deadlines(age=300), chance=lambda: lot)
    client, _ = net.connect()
    for _ in range(3):
        net.sleep((age - 0.3) / 3)
        assert net.ask(client, GET)[0].persists
    net.sleep(0.4)
    assert not net.ask(client, GET)[0].persists


def test_what_was_announced_is_kept_when_less_is_announced_now(make: Make) -> None:
    """Close policy, point 2, also when it gets crowded."""
    net = make()
    (first, one), (second, two) = net.connect(), net.connect()
    assert net.ask(first, GET)[0].value("keep-alive").startswith("timeout=120,")
    net.service.announce(10)
    assert net.ask(second, GET)[0].value("keep-alive") == "timeout=10, max=999"
    net.sleep(11 - 0.01)
    assert (one.phase, two.phase) == (IDLE, IDLE)
    net.sleep(0.01 + LATE)
    assert (one.phase, two.phase) == (IDLE, LINGER)
    net.sleep(110 - LATE - 0.01)
    assert one.phase == IDLE
    assert net.ask(first, GET)[0].value("keep-alive") == "timeout=10, max=998"
    net.sleep(11 + LATE)
    assert one.phase == LINGER


def test_what_is_announced_in_front_of_a_slow_answer_is_kept_behind_it(make: Make) -> None:
    net = make(large)
    client, connection = net.connect(send_buffer=KERNEL)
    give(net, client, get("/large"))
    net.service.announce(10)
    while connection.phase == SEND:
        net.clock.advance(10)
        take(net, client, 65536)
    assert b"Keep-Alive: timeout=120," in client.received
    assert connection.phase == IDLE
    assert net.time_left(connection) == 121


def test_an_evicted_connection_closes_as_an_idle_one(make: Make) -> None:
    net = make()
    client, connection = net.connect()
    net.ask(client, GET)
    connection.evict()
    assert connection.phase == LINGER
    assert client.read() == b""
    assert client.ended
    give(net, client, GET)
    assert net.stats.races_lost == {"evicted": 1}
    connection.evict()
    assert connection.phase == CLOSED
    assert net.stats.closed == {"evicted": 1}


def test_an_evicted_connection_whose_request_is_already_here_answers_it(make: Make) -> None:
    net = make()
    client, connection = net.connect()
    client.send(GET)
    connection.evict()
    (answer,) = client.answers("GET")
    assert answer.status == 200
    assert not answer.persists
    assert net.stats.races_lost.total() == 0


def test_since_when_a_connection_can_be_spared(make: Make) -> None:
    net = make(large)
    client, connection = net.connect(send_buffer=KERNEL)
    assert connection.idle_since == net.clock.now
    net.sleep(10)
    give(net, client, get("/large"))
    assert connection.phase == SEND
    assert connection.idle_since == float("inf")
    while connection.phase == SEND:
        take(net, client, 65536)
    answered = net.clock.now
    net.sleep(10)
    assert connection.idle_since == answered
    net.sleep(111 + LATE)
    assert connection.phase == LINGER
    assert answered + 121 <= connection.idle_since <= net.clock.now


def test_a_client_that_is_not_welcome_is_told_so_before_it_asks(make: Make) -> None:
    net = make()
    client, connection = net.connect()
    connection.reject(HTTPError(503, "later"))
    (answer,) = client.answers("GET")
    assert answer.status == 503
    assert not answer.persists
    assert connection.phase == LINGER
    give(net, client, GET)
    assert client.read() == b""
    assert net.stats.refused == {503: 1}
    assert net.stats.races_lost.total() == 0, "it was answered"
    client.close()
    net.settle()
    assert net.stats.closed == {"rejected": 1}


def test_persistence_is_switched_off_and_on_at_run_time(make: Make) -> None:
    """Row 10, as Go's doKeepAlives."""
    net = make()
    keep_alive = net.service.keep_alive
    first, one = net.connect()
    second, two = net.connect()
    assert net.ask(first, GET)[0].persists
    assert net.ask(second, GET)[0].persists
    keep_alive.enabled = False
    assert one.phase == IDLE, "it was told that it may send"
    assert not net.ask(first, GET)[0].persists
    assert one.phase == LINGER
    keep_alive.enabled = True
    assert net.ask(second, GET)[0].persists
    assert two.phase == IDLE


def test_persistence_is_looked_at_when_the_answer_is_made(make: Make) -> None:
    """Not when the request arrived."""

    def handler(request: Request) -> Response:
        net.service.keep_alive.enabled = False
        return hello(request)

    net = make(handler)
    client, _ = net.connect()
    assert not net.ask(client, GET)[0].persists


def retire(net: Net, connection: Connection) -> None:
    """As a server does that drains: in the reactor's turn."""
    net.reactor.call(connection.retire)
    net.settle()


def test_retired_an_idle_connection_closes_at_once(make: Make) -> None:
    """Close policy, point 4: past the minimum idle of a second."""
    net = make()
    client, connection = net.connect()
    net.ask(client, GET)
    net.sleep(1.01)
    net.service.keep_alive.enabled = False
    retire(net, connection)
    assert connection.phase == LINGER
    assert client.read() == b""
    assert client.ended
    client.send(GET)
    net.settle()
    assert net.stats.races_lost.total() == 1


def test_retired_a_connection_that_was_busy_gets_a_window_for_one_more_request(make: Make) -> None:
    net = make()
    client, connection = net.connect()
    net.ask(client, GET)
    net.sleep(0.4)
    net.service.keep_alive.enabled = False
    retire(net, connection)
    assert connection.phase == IDLE
    net.sleep(0.5)
    (answer,) = net.ask(client, GET)
    assert not answer.persists
    assert connection.phase == LINGER


def test_retired_a_connection_that_stays_silent_closes_when_the_window_does(make: Make) -> None:
    net = make()
    client, connection = net.connect()
    net.ask(client, GET)
    net.sleep(0.4)
    net.service.keep_alive.enabled = False
    retire(net, connection)
    net.sleep(0.59)
    assert connection.phase == IDLE
    net.sleep(0.01 + LATE)
    assert connection.phase == LINGER
    assert client.read() == b""
    assert client.ended


def test_retired_it_does_not_wait_long_for_clients_that_do_not_close(make: Make) -> None:
    """No answer of theirs is at stake. Nor are they idle: they end because the server does."""
    net = make()
    (client, _), (_, before) = net.connect(), net.connect()
    net.sleep(121 + LATE)
    assert before.phase == LINGER
    busy, _ = net.connect()
    net.ask(busy, GET)
    net.service.keep_alive.enabled = False
    net.reactor.call(net.service.retire)
    net.sleep(0.5 + LATE)
    assert len(net.service.connections) == 1
    net.sleep(1 + LATE)
    assert net.service.connections == set()
    assert net.stats.closed == {"idle": 2, "drain": 1}
    client.read()
    assert client.ended


def test_an_answer_that_promised_more_before_the_service_retired_holds_nobody(make: Make) -> None:
    """Close policy, point 4: what becomes idle while draining gets the window, not the idle time it was promised."""
    body = b"x" * 4_000_000
    net = make(lambda request: Response(200, body))
    client, connection = net.connect()
    client.send(GET)
    net.settle()
    assert connection.phase == SEND
    net.service.keep_alive.enabled = False
    net.service.retire()
    while connection.phase == SEND:
        client.read()
        net.settle()
    assert connection.phase == IDLE
    net.sleep(1 + LATE)
    assert connection.phase != IDLE
    client.read()
    assert client.ended


def test_retired_with_a_request_that_is_already_here_answers_it(make: Make) -> None:
    net = make()
    client, connection = net.connect()
    net.sleep(10)
    net.reactor.call(lambda: client.send(GET))
    retire(net, connection)
    (answer,) = client.answers("GET")
    assert answer.status == 200
    assert not answer.persists
    assert net.stats.races_lost.total() == 0


@pytest.mark.parametrize("phase", [HEAD, BODY, SEND, LINGER], ids=lambda phase: phase.name)
def test_retired_a_busy_connection_goes_on(make: Make, phase: Phase) -> None:
    net = make(large)
    client, connection = net.connect(send_buffer=KERNEL)
    REACH[phase][0](net, client)
    net.settle()
    left = net.time_left(connection)
    retire(net, connection)
    assert connection.phase == phase
    assert net.time_left(connection) == left


def test_retired_in_the_middle_of_a_request_says_close_when_it_is_answered(make: Make) -> None:
    net = make()
    client, connection = net.connect()
    client.send(POST_HEAD)
    net.settle()
    net.service.keep_alive.enabled = False
    retire(net, connection)
    (answer,) = net.ask(client, b"0123456789", methods=["POST"])
    assert answer.status == 200
    assert not answer.persists


# What is told to others: the log, the counters, the owner.


class Log:
    timed = False

    def __init__(self) -> None:
        self.lines: list[tuple[str, int, int]] = []

    def log(self, connection: Connection, request: Request | None, response: Response, size: int) -> None:
        self.lines.append((request.target if request is not None else "-", response.status, size))


def test_every_answer_is_logged_once_with_the_size_of_its_content(make: Make) -> None:
    log = Log()
    router = Router(
        file=lambda request: Response(200, file_span(b"x" * 100_000)),
        pieces=lambda request: Response(200, [b"abc", b"de"]),
        none=Response(204),
    )
    net = make(router, access_log=log)
    client, _ = net.connect()
    head = b"HEAD /head HTTP/1.1\r\nHost: h\r\n\r\n"
    net.ask(
        client,
        GET,
        get("/file"),
        get("/pieces"),
        get("/none"),
        head,
        b"BAD\r\n\r\n",
        methods=[*["GET"] * 4, "HEAD", "GET"],
    )
    sizes = [("/", 200, 5), ("/file", 200, 100_000), ("/pieces", 200, 5), ("/none", 204, 0), ("/head", 200, 0)]
    assert log.lines[:-1] == sizes
    target, status, _ = log.lines[-1]
    assert (target, status) == ("-", 400)


def test_an_answer_that_is_cut_off_is_logged_with_what_was_sent(make: Make) -> None:
    log = Log()
    net = make(lambda request: Response(200, Body(b"x" * 10_000 for _ in range(1000))), access_log=log)
    client, connection = net.connect(send_buffer=KERNEL)
    client.send(GET)
    net.settle()
    assert log.lines == []
    connection.abort()
    ((target, status, size),) = log.lines
    assert (target, status) == ("/", 200)
    assert 0 < size < 1_000_000


def test_the_counters_tell_what_happened(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    net = make(Router(bad=ZeroDivisionError(), no=HTTPError(403, "no")))
    first, _ = net.connect()
    second, _ = net.connect()
    third, _ = net.connect()
    with faults(caplog, "ZeroDivisionError"):
        net.ask(first, GET, get("/bad"), GET)
    net.ask(second, GET, get("/no"))
    net.ask(third, b"GET / HTTP/3.0\r\n\r\n")
    first.close()
    net.settle()
    stats = net.stats
    assert stats.accepted == 3
    assert stats.requests == 6
    assert stats.failed == 1
    assert stats.refused == {403: 1, 505: 1}
    assert stats.closed == {"client": 1}
    net.sleep(5 + LATE)
    assert stats.closed == {"client": 1, "refused": 2}
    assert stats.races_lost.total() == 0


def test_the_owner_is_told_of_every_end(make: Make) -> None:
    net = make()
    open_then: list[int] = []
    net.service.on_close = lambda connection: open_then.append(len(net.service.connections))
    clients = [net.connect()[0] for _ in range(3)]
    for client in clients:
        client.close()
        net.settle()
    assert open_then == [2, 1, 0]


def test_the_date_is_that_of_the_turn(make: Make) -> None:
    """RFC 9110 §6.6.1."""
    net = make()
    client, _ = net.connect()
    net.wall.now = EPOCH + 60
    assert net.ask(client, GET)[0].value("date") == "Sun, 06 Nov 1994 08:50:37 GMT"


# At random.

CONTENT = random.Random(4).randbytes(150_000)
MAX_HELD = 64 * 1024 + len(CONTENT)  # bytes of answers: those collected, and the one that was too much


class Unit:
    """A message of a client, and the answer it must get if it arrives whole."""

    def __init__(self, wire: bytes, status: int = 200, body: bytes = b"hello", method: str = "GET") -> None:
        self.wire = wire
        self.status = status
        self.body = body
        self.method = method

    def __repr__(self) -> str:
        return f"<{self.wire[:50]!r}, {self.status}>"


def echo(request: Request) -> Response:
    return Response(200, request.body.read())


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


GOOD = [
    Unit(GET),
    Unit(b"\r\n" + GET),
    Unit(get("/bytes"), body=CONTENT),
    Unit(get("/file"), body=CONTENT),
    Unit(get("/empty"), body=b""),
    Unit(get("/pieces"), body=CONTENT),
    Unit(get("/counted"), body=CONTENT),
    Unit(get("/fails"), 500),
    Unit(get("/fails-first"), 500),
    Unit(b"HEAD /pieces HTTP/1.1\r\nHost: h\r\n\r\n", method="HEAD", body=b""),
    Unit(b"HEAD /file HTTP/1.1\r\nHost: h\r\n\r\n", method="HEAD", body=b""),
    Unit(post(b"abc", path="/echo"), method="POST", body=b"abc"),
    Unit(post(CONTENT[:20_000], path="/echo"), method="POST", body=CONTENT[:20_000]),
    Unit(post(b"abc", "Expect: 100-continue", path="/echo"), method="POST", body=b"abc"),
    Unit(CHUNKED_HEAD + chunked(CONTENT[:5000], 700), method="POST", body=CONTENT[:5000]),
    Unit(CHUNKED_HEAD + chunked(b"abc", 1), method="POST", body=b"abc"),
    Unit(b"GET /file HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", body=CONTENT),
]
LAST = [
    Unit(LAST_GET),
    Unit(b"GET /pieces HTTP/1.0\r\n\r\n", body=CONTENT),
    Unit(get("/no"), 403),
    Unit(get("/last"), body=b"bye"),
    Unit(get("/late"), body=b"cut off by a reset"),
    Unit(
        CHUNKED_HEAD.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n") + chunked(b"abc", 2),
        method="POST",
        body=b"abc",
    ),
]
BAD = [
    Unit(b"GET /\r\n\r\n", 400),
    Unit(b"GET / HTTP/1.1\r\n\r\n", 400),
    Unit(b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
    Unit(b"\x16\x03\x01\x02\x00\x01", 400),
    Unit(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\nx", 400, method="POST"),
    Unit(CHUNKED_HEAD + b"3\r\nabcd\r\n", 400, method="POST"),
    Unit(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 999999\r\n\r\n", 413, method="POST"),
    Unit(post(b"abc", "Expect: a miracle"), 417, method="POST"),
    Unit(post(b"abc", "Expect: 100-continue", path="/unwanted"), 401, method="POST"),
]


def some_handler() -> Router:
    def in_pieces() -> Body:
        return Body(CONTENT[start : start + 7000] for start in range(0, len(CONTENT), 7000))

    length = {"Content-Length": str(len(CONTENT))}
    router = Router(
        bytes=lambda request: Response(200, CONTENT),
        file=lambda request: Response(200, file_span(CONTENT)),
        empty=lambda request: Response(200, file_span(b"")),
        pieces=lambda request: Response(200, in_pieces()),
        counted=lambda request: Response(200, in_pieces(), length),
        fails=RuntimeError("the handler's own fault"),
        no=HTTPError(403, "no"),
        last=Response(200, b"bye", {"Connection": "close"}),
        late=lambda request: Response(200, Body([b"x"] * 9, fails_after=5)),
        echo=echo,
    )
    router.answers["fails-first"] = lambda request: Response(200, Body([b"x"], fails_after=0))
    router.refusals["unwanted"] = HTTPError(401, "no")
    return router


class Peer:
    """A client at random: what it wants to send, what it has sent, and the connection that serves it."""

    def __init__(self, client: Client, connection: Connection) -> None:
        self.client = client
        self.connection = connection
        self.sock = spied(connection)
        self.units: list[Unit] = []
        self.unsent = b""
        self.gone = False
        self.finished = False
        self.garbled = False

    def check_answers(self) -> None:
        """Every answer is well-formed to h11, and the one that its request must get."""
        rest = self.client.received
        answered = 0
        close = False
        for unit in self.units:
            if not rest:
                break
            assert not close, "an answer after a close"
            taken = take_answer(rest, unit.method, self.client.ended)
            if taken is not None and taken[2] >= 400 and taken[3] and unit.method == "HEAD":
                taken = take_answer(rest, "GET", self.client.ended)  # a head that never was told from others
            if taken is None:
                assert self.sock.aborted or not self.client.ended, f"half an answer: {rest[:300]!r}"
                return
            body, close, status, rest = taken
            answered += 1
            if status in (400, 408) and status != unit.status:
                assert close, "a request that never came to its end"
                continue
            assert status == unit.status
            if status == 200 and self.sock.aborted and not rest:
                assert unit.body.startswith(body), "only the reset tells that this is not the whole"
            elif status == 200:
                assert body == unit.body
        assert rest == b"", "an answer that nobody asked for"
        if self.connection.phase == IDLE and not self.unsent:
            assert answered == len(self.units)


def take_answer(data: bytes, method: str, ended: bool) -> tuple[bytes, bool, int, bytes] | None:
    """The content of the first answer in `data`, whether it says close, its status, and what follows; None when it is
    not complete. Raises h11.RemoteProtocolError."""
    if not data:
        return None  # which to h11 would be the end of the connection
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    content, status, close = b"", 0, False
    while True:
        event = client.next_event()
        if event is h11.NEED_DATA:
            if not ended or status == 0 or client.their_state is not h11.SEND_BODY:
                return None
            ended = False
            try:
                client.receive_data(b"")
                event = client.next_event()  # the end of a body that is delimited by it
            except h11.RemoteProtocolError:
                return None
        if isinstance(event, h11.Response):
            status = event.status_code
            close = (b"connection", b"close") in event.headers
        elif isinstance(event, h11.Data):
            content += event.data
        elif isinstance(event, h11.EndOfMessage):
            return content, close, status, client.trailing_data[0]


class AnyClients(RuleBasedStateMachine):
    """Clients that do anything at any time to one server; what must hold whatever they do."""

    peers = Bundle("peers")

    def __init__(self) -> None:
        super().__init__()
        self.descriptors = open_descriptors()
        self.messages: list[str] = []
        self.listener = logging.Handler()
        self.listener.emit = self._note  # type: ignore[method-assign]
        log = logging.getLogger("kaserve")
        log.addHandler(self.listener)
        log.propagate = False
        self.all: list[Peer] = []
        self.net = Net(some_handler(), limits=Limits(body=100_000), keep_alive=KeepAlive(120, 25))

    def _note(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())

    # What clients do.

    @initialize(target=peers)
    def connect_first(self) -> MultipleResults[Peer]:
        return multiple(self.new_peer(0), self.new_peer(KERNEL))

    @rule(target=peers, send_buffer=st.sampled_from([0, KERNEL]))
    def connect(self, send_buffer: int) -> Peer:
        return self.new_peer(send_buffer)

    def new_peer(self, send_buffer: int) -> Peer:
        peer = Peer(*self.net.connect(send_buffer=send_buffer))
        self.all.append(peer)
        return peer

    @rule(peer=peers, units=st.lists(st.sampled_from(GOOD), min_size=1, max_size=4))
    def ask(self, peer: Peer, units: list[Unit]) -> None:
        """The common case."""
        self.want(peer, units, None)
        self.send(peer, 1 << 20)
        self.net.step()

    @rule(peer=peers, units=st.lists(st.sampled_from(GOOD), max_size=4), last=st.sampled_from([None] * 8 + LAST + BAD))
    def want(self, peer: Peer, units: list[Unit], last: Unit | None) -> None:
        for unit in units if last is None else [*units, last]:
            peer.units.append(unit)
            peer.unsent += unit.wire

    @rule(peer=peers, count=st.integers(70, 200))
    def want_many(self, peer: Peer, count: int) -> None:
        peer.units += [Unit(GET)] * count
        peer.unsent += GET * count

    @precondition(lambda self: self.all[-1].unsent)
    @rule(noise=st.binary(min_size=1, max_size=3), where=st.integers(0, 200))
    def garble(self, noise: bytes, where: int) -> None:
        """Nobody can say then what the answers must be."""
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

    # What the server does, and time.

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
        """All that is due is done in one turn."""
        self.net.clock.advance(seconds)
        self.net.step()

    @rule(peer=peers)
    def race(self, peer: Peer) -> None:
        """What it wants to send arrives in the middle of a turn, when it is too late for readiness."""
        self.net.clock.advance(121.5)
        self.net.reactor.call(lambda: self.send(peer, 1 << 20))
        self.net.step()

    @rule(enabled=st.booleans())
    def switch(self, enabled: bool) -> None:
        self.net.service.keep_alive.enabled = enabled

    @rule(peer=peers)
    def retire(self, peer: Peer) -> None:
        self.net.reactor.call(peer.connection.retire)
        self.net.step()

    @rule(peer=peers)
    def call_for_nothing(self, peer: Peer) -> None:
        self.net.reactor.again(peer.connection)
        self.net.step()

    # What must hold.

    @invariant()
    def every_connection_is_where_the_table_says(self) -> None:
        for peer in self.all:
            connection, protocol = peer.connection, peer.connection.protocol
            if connection.phase == CLOSED:
                assert connection not in self.net.service.connections
                assert self.net.interest(connection) == NOTHING
                assert connection.deadline == float("inf")
                assert connection._unsent == protocol._received == b""
                assert peer.sock.fileno() == -1
                continue
            row = PHASES[Phase(connection.phase)]
            assert self.net.interest(connection) == row.waits_for
            if connection.phase == HANDLER:
                assert connection in self.net.reactor._again
                assert connection.deadline == float("inf")
            else:
                assert self.net.time_left(connection) <= 122
            assert len(connection._unsent) <= MAX_HELD
            assert len(protocol._received) <= 2 * 65536
            assert not connection._unsent or connection.phase == SEND
            if connection.phase == IDLE:
                assert protocol._received in (b"", b"\r")
                assert connection._response is None
                assert connection._stream is None
        assert connection._awaited is None

    @invariant()
    def nothing_fails_but_the_handler(self) -> None:
        for message in self.messages:
            assert re.match("the handler failed|the answer to .* cannot be sent", message), message

    def teardown(self) -> None:
        log = logging.getLogger("kaserve")
        try:
            for peer in self.all:
                self.converse(peer)
                if not peer.garbled:
                    peer.check_answers()
            for peer in self.all:
                self.vanish(peer)
            self.net.sleep(200)
            self.every_connection_is_where_the_table_says()
            self.nothing_fails_but_the_handler()
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
