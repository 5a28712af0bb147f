"""The proxy between a client and an upstream that the test plays both; nothing sleeps, and time is fake."""

from __future__ import annotations

import errno
import logging
import random
import re
from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from kaserve.net.service import Deadlines
from kaserve.proxy.proxy import Proxy
from tests.proxy.upstream_side import OK, ProxyNet
from tests.tools.net import GET, open_descriptors


class MakeProxy(Protocol):
    def __call__(self, *urls: str, proxy: dict[str, Any] | None = None, **settings: Any) -> ProxyNet: ...


@pytest.fixture
def make(caplog: pytest.LogCaptureFixture) -> Iterator[MakeProxy]:
    """Makes nets with a proxy. Fails a test that leaks a descriptor, a connection or a timer."""
    before = open_descriptors()
    nets: list[ProxyNet] = []

    def make(*urls: str, proxy: dict[str, Any] | None = None, **settings: Any) -> ProxyNet:
        nets.append(ProxyNet(*urls, proxy=proxy, **settings))
        return nets[-1]

    yield make
    for net in nets:
        net.close()
        assert not net.service.connections
        assert all(not each.active and not each.pool.idle for each in net.proxy.upstreams)
        assert len(net.reactor.wheel) == 0
    assert open_descriptors() <= before
    assert not [record for record in caplog.get_records("call") if record.exc_info]


def post(body: bytes = b"hello", *lines: bytes) -> bytes:
    return b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), b"".join(lines), body)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR]


def test_a_request_and_its_response_pass(make: MakeProxy) -> None:
    net = make()
    client, _ = net.connect()
    net.pass_on(client, GET)
    assert net.take().startswith(b"GET / HTTP/1.1\r\nHost: ")
    net.reply(OK)
    [answer] = client.answers("GET")
    assert (answer.status, answer.body, answer.persists) == (200, b"ok", True)
    assert answer.value("via") == "1.1 kaserve"


def test_the_connection_to_the_upstream_is_used_again(make: MakeProxy) -> None:
    """For the next request of the same client, and for those of others."""
    net = make()
    first, _ = net.connect()
    second, _ = net.connect()
    for client in (first, second, first):
        net.pass_on(client, GET)
        net.reply(OK)
        [answer] = client.answers("GET")
        assert answer.body == b"ok"
    assert len(net.peers) == 1
    stats = net.proxy.upstreams[0].stats
    assert (stats.requests, stats.opened, stats.reused) == (3, 1, 2)


def test_requests_at_the_same_time_have_connections_of_their_own(make: MakeProxy) -> None:
    net = make()
    clients = [net.connect()[0] for _ in range(3)]
    for client in clients:
        net.pass_on(client, GET)
    for number in (2, 0, 1):
        net.reply(OK.replace(b"ok", b"%02d" % number), number)
    assert [client.answers("GET")[0].body for client in clients] == [b"00", b"01", b"02"]


def test_a_pipeline_is_answered_in_order(make: MakeProxy) -> None:
    net = make()
    client, _ = net.connect()
    net.pass_on(client, GET * 3)
    for number in range(3):
        net.reply(OK.replace(b"ok", b"%02d" % number))
    assert [answer.body for answer in client.answers(*["GET"] * 3)] == [b"00", b"01", b"02"]


# Bodies.


def test_a_body_passes_while_it_arrives(make: MakeProxy) -> None:
    net = make()
    client, _ = net.connect()
    net.pass_on(client, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc")
    assert net.take().endswith(b"Content-Length: 6\r\n\r\nabc")
    net.pass_on(client, b"def")
    assert net.take() == b"def"
    net.reply(OK)
    assert client.answers("POST")[0].body == b"ok"
    assert len(net.proxy.upstreams[0].pool.idle) == 1


def test_a_chunked_body_passes_with_its_trailers(make: MakeProxy) -> None:
    """RFC 9112 §7.1: framed anew; RFC 9110 §6.5."""
    net = make()
    client, _ = net.connect()
    net.pass_on(client, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n")
    assert net.take().endswith(b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    net.pass_on(client, b"0\r\nX-Sum: 7\r\n\r\n")
    assert net.take() == b"0\r\nX-Sum: 7\r\n\r\n"
    net.reply(OK)
    assert client.answers("POST")[0].status == 200


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def http_1_0(make: MakeProxy, *urls: str) -> ProxyNet:
    """Returns a net whose upstream has said that it speaks HTTP/1.0."""
    net = make(*urls)
    client, _ = net.connect()
    net.pass_on(client, GET)
    net.reply(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert client.answers("GET")[0].status == 200
    return net


def test_http_1_0_gets_no_chunks(make: MakeProxy) -> None:
    """RFC 9112 §6.1: Transfer-Encoding only to who is known to understand it. The body is received first."""
    net = http_1_0(make)
    client, _ = net.connect()
    net.pass_on(client, CHUNKED + b"3\r\nabc\r\n")
    assert len(net.peers) == 1  # nothing was sent yet
    net.pass_on(client, b"3\r\ndef\r\n0\r\nX-Sum: 7\r\n\r\n")
    request = net.take()
    assert b"Content-Length: 6\r\n" in request
    assert b"chunked" not in request
    assert request.endswith(b"\r\n\r\nabcdef")
    net.reply(OK)
    assert client.answers("POST")[0].body == b"ok"
    # The last response was of HTTP/1.1.
    net.pass_on(client, CHUNKED + b"3\r\nabc\r\n")
    assert net.take().endswith(b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    net.pass_on(client, b"0\r\n\r\n")
    net.reply(OK)


def test_an_empty_chunked_body_for_http_1_0(make: MakeProxy) -> None:
    net = http_1_0(make)
    client, _ = net.connect()
    net.pass_on(client, CHUNKED + b"0\r\n\r\n")
    assert b"Content-Length: 0\r\n" in net.take()
    net.reply(OK)
    assert client.answers("POST")[0].status == 200


def test_a_body_that_is_too_large_to_be_received_first_is_a_411(make: MakeProxy) -> None:
    """RFC 9110 §15.5.12."""
    net = http_1_0(make)
    client, _ = net.connect(tcp=True)
    client.send(CHUNKED)
    for _ in range(12):
        client.send(b"19000\r\n" + b"x" * 0x19000 + b"\r\n")
        net.settle()
    assert client.answers("POST")[0].status == 411
    assert len(net.peers) == 1


def test_a_client_that_leaves_while_its_body_is_received_first(make: MakeProxy) -> None:
    net = http_1_0(make)
    client, _ = net.connect()
    net.pass_on(client, CHUNKED + b"3\r\nabc\r\n")
    client.close()
    net.settle()
    assert len(net.peers) == 1


@pytest.mark.parametrize(("method", "connections"), [(b"POST", 2), (b"PUT", 3)])
def test_what_was_received_first_is_sent_again_only_if_idempotent(
    method: bytes, connections: int, make: MakeProxy
) -> None:
    """RFC 9110 §9.2.2."""
    net = http_1_0(make)
    client, _ = net.connect()
    net.pass_on(client, CHUNKED.replace(b"POST", method) + b"3\r\nabc\r\n0\r\n\r\n")
    assert net.take().endswith(b"\r\n\r\nabc")
    net.peers[-1].close()
    net.settle()
    assert len(net.peers) == connections
    if method == b"PUT":
        assert net.take().endswith(b"\r\n\r\nabc")
        net.reply(OK)
    assert client.answers(method.decode())[0].status == (200 if method == b"PUT" else 502)


def test_what_was_received_first_goes_to_another_upstream_if_nothing_was_sent(make: MakeProxy) -> None:
    net = http_1_0(make, "http://one", "http://two")
    net.connector.refuses = [errno.ECONNREFUSED]
    client, _ = net.connect()
    net.pass_on(client, CHUNKED + b"3\r\nabc\r\n0\r\n\r\n")
    assert net.take().endswith(b"\r\n\r\nabc")
    net.reply(OK)
    assert client.answers("POST")[0].status == 200


def test_an_upstream_that_does_not_read_slows_its_client_down(make: MakeProxy) -> None:
    """Nothing is collected in between but one piece."""
    net = make()
    client, _ = net.connect(tcp=True)
    total = 30_000_000
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % total)
    sent = 0
    while count := client.send(b"x" * min(1 << 20, total - sent)):
        sent += count
        net.settle()
    assert sent < total
    received = len(net.take().partition(b"\r\n\r\n")[2])
    while received < total:
        sent += client.send(b"x" * min(1 << 20, total - sent))
        received += len(net.take())
    net.reply(OK)
    assert client.answers("POST")[0].body == b"ok"


def test_a_client_that_does_not_read_slows_the_upstream_down(make: MakeProxy) -> None:
    net = make()
    client, _ = net.connect(tcp=True)
    net.pass_on(client, GET)
    total = 30_000_000
    net.reply(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
    sent = 0
    while count := net.peers[0].send(b"y" * min(1 << 20, total - sent)):
        sent += count
        net.settle()
    assert sent < total
    while not client.received.endswith(b"y") or len(client.received) < total:
        sent += net.peers[0].send(b"y" * min(1 << 20, total - sent))
        client.read()
        net.settle()
    assert len(client.answers("GET")[0].body) == total
    assert len(net.proxy.upstreams[0].pool.idle) == 1


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\nX-T: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef",
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_responses_in_pieces(wire: bytes, size: int, make: MakeProxy) -> None:
    """RFC 9112 §6.3."""
    net = make()
    client, _ = net.connect()
    net.pass_on(client, GET)
    for start in range(0, len(wire), size):
        net.reply(wire[start : start + size])
    [answer] = client.answers("GET")
    assert (answer.status, answer.body, answer.persists) == (200, b"abcdef", True)
    assert len(net.proxy.upstreams[0].pool.idle) == 1


def test_trailers_pass(make: MakeProxy) -> None:
    net = make()
    client, _ = net.connect()
    net.pass_on(client, GET)
    net.reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-T: 1\r\n\r\n")
    client.read()
    assert client.received.endswith(b"\r\n1\r\nx\r\n0\r\nX-T: 1\r\n\r\n")


@pytest.mark.parametrize("size", [1, 1000])
def test_trailers_that_are_announced(size: int, make: MakeProxy, caplog: pytest.LogCaptureFixture) -> None:
    """RFC 9110 §6.6.2: the announcement passes as long as they can follow."""
    wire = b"HTTP/1.1 200 OK\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    net = make()
    client, _ = net.connect()
    net.pass_on(client, GET)
    for start in range(0, len(wire), size):
        net.reply(wire[start : start + size])
    [answer] = client.answers("GET")
    assert (answer.body, answer.values("trailer")) == (b"x", ["X-T"] if size == 1 else [])
    assert errors(caplog) == []


def test_both_bodies_pass_at_the_same_time(make: MakeProxy) -> None:
    """An upstream that echoes responds before it has read the request."""
    net = make()
    client, _ = net.connect()
    net.pass_on(client, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc")
    assert net.take().endswith(b"abc")
    net.reply(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nABC")
    client.read()
    assert client.received.endswith(b"\r\n\r\nABC")
    net.pass_on(client, b"def")
    assert net.take() == b"def"
    net.reply(b"DEF")
    assert client.answers("POST")[0].body == b"ABCDEF"
    assert len(net.proxy.upstreams[0].pool.idle) == 1


def test_a_body_that_breaks_after_the_response_has_begun(make: MakeProxy) -> None:
    """The client sends malformed chunks while it gets the response: both connections end."""
    net = make()
    client, _ = net.connect(tcp=True)
    net.pass_on(client, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    net.take()
    net.reply(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    net.pass_on(client, b"zz\r\n")
    client.read()
    net.peers[0].read()
    assert (client.was_reset, net.peers[0].ended) == (True, True)


def test_a_body_goes_on_while_what_was_kept_is_still_being_sent(make: MakeProxy) -> None:
    """The next piece must not take the place of what the kernel has not accepted."""
    net = make()
    net.connector.send_buffer = 2048
    client, _ = net.connect()
    body = random.Random(1).randbytes(61440)
    net.pass_on(client, b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (len(body) + 3))
    client.send(body)
    received = b""
    while not received.endswith(body[-1000:]):
        received += net.take(0)
    net.settle()  # now it waits for the rest of the body
    net.peers[0].reset()
    net.settle()
    net.pass_on(client, b"end")
    received = b""
    while not received.endswith(b"end"):
        received += net.take(1)
    assert received.partition(b"\r\n\r\n")[2] == body + b"end"
    net.reply(OK)
    assert client.answers("PUT")[0].body == b"ok"


def test_a_body_goes_on_while_the_request_is_sent_again(make: MakeProxy) -> None:
    net = make()
    client, _ = net.connect()
    net.pass_on(client, b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc")
    lose(net)
    net.pass_on(client, b"def")
    assert net.take(1).endswith(b"\r\n\r\nabcdef")
    net.reply(OK)
    assert client.answers("PUT")[0].body == b"ok"


def test_an_upstream_that_ends_its_response_by_closing_looks_persistent(make: MakeProxy) -> None:
    """RFC 9112 §6.3 step 8: for the client the end is the last chunk."""
    net = make()
    client, _ = net.connect()
    net.pass_on(client, GET)
    net.take()
    net.reply(b"HTTP/1.0 200 OK\r\n\r\nabc")
    net.reply(b"def")
    net.peers[0].close()
    net.settle()
    [answer] = client.answers("GET")
    assert (answer.body, answer.persists) == (b"abcdef", True)
    assert not net.proxy.upstreams[0].pool.idle


@pytest.mark.parametrize(
    ("method", "wire"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
    ],
)
def test_responses_without_content(method: str, wire: bytes, make: MakeProxy) -> None:
    """RFC 9110 §6.4.1; the length of what a GET would get passes (§8.6)."""
    net = make()
    client, _ = net.connect()
    net.pass_on(client, f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    net.reply(wire)
    [answer] = client.answers(method)
    assert answer.body == b""
    assert bool(answer.values("content-length")) == (b"Length" in wire)
    assert len(net.proxy.upstreams[0].pool.idle) == 1


# Interim responses.


def test_early_hints_pass(make: MakeProxy) -> None:
    """RFC 8297, RFC 9110 §15.2."""
    net = make()
    client, _ = net.connect()
    net.pass_on(client, GET)
    net.reply(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    client.read()
    assert client.received == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    client.received = b""
    net.reply(OK)
    assert client.answers("GET")[0].status == 200


def test_the_upstream_is_asked_whether_it_wants_a_body(make: MakeProxy) -> None:
    """RFC 9110 §10.1.1: its 100 reaches the client, and then the body is sent."""
    net = make()
    client, _ = net.connect()
    net.pass_on(client, post(b"hello", b"Expect: 100-continue\r\n")[:-5])
    assert b"\r\nExpect: 100-continue\r\n" in net.take()
    client.read()
    assert client.received == b""
    net.reply(b"HTTP/1.1 100 Continue\r\n\r\n")
    client.read()
    assert client.received == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.received = b""
    net.pass_on(client, b"hello")
    assert net.take() == b"hello"
    net.reply(OK)
    assert client.answers("POST")[0].status == 200


def test_a_refusal_reaches_the_client_before_it_sends_the_body(make: MakeProxy) -> None:
    """RFC 9110 §10.1.1."""
    net = make()
    client, _ = net.connect()
    net.pass_on(client, post(b"hello", b"Expect: 100-continue\r\n")[:-5])
    net.reply(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
    [answer] = client.answers("POST")
    assert (answer.status, answer.persists) == (413, False)
    assert not net.proxy.upstreams[0].pool.idle  # the rest of the request would be taken for the next one


def test_an_upstream_that_does_not_answer_the_question_gets_the_body_after_a_second(make: MakeProxy) -> None:
    """RFC 9110 §10.1.1: a client should not wait for ever."""
    net = make()
    client, _ = net.connect()
    net.pass_on(client, post(b"hello", b"Expect: 100-continue\r\n")[:-5])
    net.sleep(1.2)
    client.read()
    assert client.received == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.received = b""
    net.pass_on(client, b"hello")
    assert net.take().endswith(b"\r\n\r\nhello")
    net.reply(OK)
    assert client.answers("POST")[0].status == 200


def test_an_early_response_reaches_a_client_that_is_still_sending(make: MakeProxy) -> None:
    net = make()
    client, _ = net.connect()
    net.pass_on(client, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc")
    net.reply(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
    [answer] = client.answers("POST")
    assert answer.status == 413
    assert not net.proxy.upstreams[0].active
    assert not net.proxy.upstreams[0].pool.idle


# The pool.


def test_an_idle_connection_that_the_upstream_closed_is_not_used(make: MakeProxy) -> None:
    """The end may have come in the very turn in which the request comes, before the poller has told."""
    net = make()
    client, _ = net.connect()
    net.pass_on(client, GET)
    net.reply(OK)
    client.answers("GET")
    net.peers[0].close()
    client.send(post())
    net.settle()
    net.reply(OK)
    assert client.answers("POST")[0].status == 200
    assert len(net.peers) == 2
    assert net.proxy.upstreams[0].stats.races_avoided == 1


def test_stray_bytes_end_an_idle_connection(make: MakeProxy) -> None:
    """They would be taken for the response to the next request (RFC 9112 §9.2)."""
    net = make()
    client, _ = net.connect()
    net.pass_on(client, GET)
    net.reply(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    assert client.answers("GET")[0].body == b"ok"
    net.pass_on(client, GET)
    net.reply(OK)
    assert client.answers("GET")[0].body == b"ok"
    net.reply(b"evil")
    net.pass_on(client, GET)
    net.reply(OK)
    assert client.answers("GET")[0].body == b"ok"
    assert len(net.peers) == 3


@pytest.mark.parametrize("line", [b"Connection: close", b"Keep-Alive: timeout=1", b"Keep-Alive: timeout=9, max=0"])
def test_what_the_upstream_announces_is_heeded(line: bytes, make: MakeProxy) -> None:
    """RFC 9112 §9.6; RFC 2068 §19.7.1.1 for Keep-Alive."""
    net = make()
    client, _ = net.connect()
    net.pass_on(client, GET)
    net.reply(OK.replace(b"\r\n\r\n", b"\r\n%b\r\n\r\n" % line))
    assert client.answers("GET")[0].persists
    assert not net.proxy.upstreams[0].pool.idle


def test_an_idle_connection_is_closed_before_the_upstream_does(make: MakeProxy) -> None:
    net = make()
    client, _ = net.connect()
    net.pass_on(client, GET)
    net.reply(OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: timeout=5\r\n\r\n"))
    client.answers("GET")
    net.sleep(3.9)
    assert len(net.proxy.upstreams[0].pool.idle) == 1
    net.sleep(0.4)
    assert not net.proxy.upstreams[0].pool.idle
    net.peers[0].read()
    assert net.peers[0].ended


# What is sent again, and what is not.


def lose(net: ProxyNet) -> None:
    """The upstream closes its first connection when the request has arrived."""
    net.take(0)
    net.peers[0].reset()
    net.settle()


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
@pytest.mark.parametrize("kept", [False, True])
def test_an_idempotent_request_is_sent_once_more(method: str, kept: bool, make: MakeProxy) -> None:
    """RFC 9110 §9.2.2, RFC 9112 §9.3.1: on a new connection, whole, with its body."""
    net = make()
    client, _ = net.connect()
    if kept:
        net.pass_on(client, GET)
        net.reply(OK)
        client.answers("GET")
    body = b"Content-Length: 5\r\n\r\nhello" if method == "PUT" else b"\r\n"
    net.pass_on(client, method.encode() + b" / HTTP/1.1\r\nHost: x\r\n" + body)
    lose(net)
    again = net.take(1)
    assert again.startswith(method.encode())
    assert again.endswith(body[-9:] if method == "PUT" else b"\r\n\r\n")
    net.reply(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert client.answers(method)[0].status == 204
    assert net.proxy.upstreams[0].stats.races_lost == kept


@pytest.mark.parametrize("method", ["POST", "PATCH", "BREW"])
@pytest.mark.parametrize("kept", [False, True])
def test_any_other_request_is_never_sent_twice(
    method: str, kept: bool, make: MakeProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 9110 §9.2.2: an unknown method counts as not idempotent. The client gets a 502, the log says why."""
    net = make()
    client, _ = net.connect()
    if kept:
        net.pass_on(client, GET)
        net.reply(OK)
        client.answers("GET")
    net.pass_on(client, post().replace(b"POST", method.encode()))
    lose(net)
    [answer] = client.answers(method)
    assert (answer.status, len(net.peers)) == (502, 1)
    assert b"http://up" not in answer.body
    [error] = errors(caplog)
    assert re.fullmatch(rf"http://up: .*reset.*, for {method} /p", error)


def test_a_request_is_sent_again_once_only(make: MakeProxy, caplog: pytest.LogCaptureFixture) -> None:
    net = make()
    client, _ = net.connect()
    net.pass_on(client, GET)
    for number in range(2):
        net.take(number)
        net.peers[number].close()
        net.settle()
    assert client.answers("GET")[0].status == 502
    assert len(net.peers) == 2
    assert "closed the connection without a response" in errors(caplog)[0]


def test_a_large_body_cannot_be_sent_again(make: MakeProxy, caplog: pytest.LogCaptureFixture) -> None:
    net = make()
    client, _ = net.connect()
    size = 200_000
    net.pass_on(client, b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
    for _ in range(4):
        client.send(b"x" * 50_000)
        net.take()
    lose(net)
    assert client.answers("PUT")[0].status == 502
    assert errors(caplog)


# Failures.


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "Content-Length"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: echo\r\n\r\n", "did not ask"),
        (b"<html>", "not HTTP"),
    ],
)
def test_a_malformed_response_is_a_502(
    wire: bytes, reason: str, make: MakeProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 9110 §15.6.3."""
    net = make()
    client, _ = net.connect()
    net.pass_on(client, GET)
    net.reply(wire)
    [answer] = client.answers("GET")
    assert (answer.status, answer.persists) == (502, True)
    assert reason in errors(caplog)[0]
    assert len(net.peers) == 1


@pytest.mark.parametrize(("count", "status"), [(1000, 200), (1001, 502)])
def test_how_many_fields_a_response_may_have(
    count: int, status: int, make: MakeProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 9110 §5.4: a client sets its own limit; 100, as for requests, is too few for some applications."""
    net = make()
    client, _ = net.connect()
    net.pass_on(client, GET)
    net.reply(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + b"Set-Cookie: a=b\r\n" * (count - 1) + b"\r\n")
    [answer] = client.answers("GET")
    assert (answer.status, answer.persists) == (status, True)
    assert len(errors(caplog)) == (status != 200)


def test_how_large_the_head_of_a_response_may_be(make: MakeProxy, caplog: pytest.LogCaptureFixture) -> None:
    net = make()
    client, _ = net.connect()
    net.pass_on(client, GET)
    net.reply(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Large: " + b"x" * 65536 + b"\r\n\r\n")
    assert client.answers("GET")[0].status == 502
    assert len(errors(caplog)) == 1


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
def test_a_response_that_is_cut_off_never_looks_whole(
    wire: bytes, make: MakeProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 9112 §8: only a reset tells the client."""
    net = make()
    client, _ = net.connect(tcp=True)
    net.pass_on(client, GET)
    net.reply(wire)
    net.peers[0].close()
    net.settle()
    client.read()
    assert client.was_reset
    assert len(errors(caplog)) == 1


@pytest.mark.parametrize(("number", "status"), [(errno.ECONNREFUSED, 502), (errno.EMFILE, 503)])
def test_an_upstream_that_cannot_be_reached(
    number: int, status: int, make: MakeProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 9110 §15.6.3, §15.6.4."""
    net = make()
    net.connector.refuses = [number] * 5
    client, _ = net.connect()
    net.pass_on(client, GET)
    [answer] = client.answers("GET")
    assert (answer.status, answer.persists) == (status, True)
    assert errors(caplog)[-1].startswith("http://up: cannot connect: ")


def test_a_name_that_cannot_be_resolved(make: MakeProxy, caplog: pytest.LogCaptureFixture) -> None:
    net = make()
    net.connector.resolves = False
    client, _ = net.connect()
    net.pass_on(client, GET)
    assert client.answers("GET")[0].status == 502
    assert "its name cannot be resolved" in errors(caplog)[0]


def test_an_upstream_that_does_not_respond_is_a_504(make: MakeProxy, caplog: pytest.LogCaptureFixture) -> None:
    """RFC 9110 §15.6.5. It is not asked again: the client has waited long enough."""
    net = make(proxy={"timeout": 10.0})
    client, _ = net.connect()
    net.pass_on(client, GET)
    net.sleep(9.9)
    assert client.read() == b""
    net.sleep(0.3)
    [answer] = client.answers("GET")
    assert (answer.status, answer.persists, len(net.peers)) == (504, True, 1)
    assert "did not respond for 10 s" in errors(caplog)[0]


def test_a_slow_client_is_not_the_fault_of_the_upstream(make: MakeProxy) -> None:
    net = make(proxy={"timeout": 10.0}, deadlines=Deadlines(body_timeout=60.0))
    client, _ = net.connect()
    net.pass_on(client, post()[:-1])
    net.sleep(30.0)
    net.pass_on(client, b"o")
    net.sleep(9.0)
    net.reply(OK)
    assert client.answers("POST")[0].status == 200


# Clients that leave.


def test_the_request_ends_when_its_client_is_gone(make: MakeProxy) -> None:
    net = make()
    client, _ = net.connect(tcp=True)
    net.pass_on(client, GET)
    client.reset()
    net.settle()
    net.peers[0].read()
    assert net.peers[0].ended
    assert not net.proxy.upstreams[0].active


def test_a_client_that_has_closed_is_found_out_within_two_seconds(make: MakeProxy) -> None:
    """A closed socket looks like one that has finished sending, until it is sent something."""
    net = make()
    client, _ = net.connect(tcp=True)
    net.pass_on(client, GET)
    client.close()
    net.sleep(2.0)
    net.peers[0].read()
    assert net.peers[0].ended


def test_a_half_closed_client_gets_its_response(make: MakeProxy) -> None:
    net = make()
    client, _ = net.connect(tcp=True)
    net.pass_on(client, GET)
    client.finish()
    net.sleep(5.0)
    net.reply(OK)
    client.read()
    *interim, final = client.received.split(b"HTTP/1.1 200 OK")
    assert set(b"".join(interim).split(b"\r\n\r\n")) == {b"HTTP/1.1 100 Continue", b""}
    assert final.endswith(b"\r\n\r\nok")


def test_a_client_that_leaves_in_its_upload_ends_the_request(make: MakeProxy) -> None:
    """A part of a request must never look whole to the upstream either."""
    net = make()
    client, _ = net.connect(tcp=True)
    net.pass_on(client, post()[:-2])
    client.reset()
    net.settle()
    net.peers[0].read()
    assert net.peers[0].ended


def test_a_client_that_leaves_in_its_download_ends_the_response(make: MakeProxy) -> None:
    net = make()
    client, _ = net.connect(tcp=True)
    net.pass_on(client, GET)
    net.reply(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
    client.reset()
    net.settle()
    assert not net.proxy.upstreams[0].active


# Several upstreams.


def test_the_upstream_with_the_least_requests_is_asked(make: MakeProxy) -> None:
    net = make("http://one", "http://two")
    for _ in range(4):
        net.pass_on(net.connect()[0], GET)
    assert [len(each.active) for each in net.proxy.upstreams] == [2, 2]


def test_an_upstream_that_fails_is_left_out_for_a_while(make: MakeProxy) -> None:
    """A request of which nothing was sent goes to another one, a POST as well."""
    net = make("http://one", "http://two")
    net.connector.refuses = [errno.ECONNREFUSED]
    client, _ = net.connect()
    for _ in range(3):
        net.pass_on(client, post())
        net.reply(OK)
        assert client.answers("POST")[0].status == 200
    one, two = net.proxy.upstreams
    assert (one.stats.requests, two.stats.requests) == (1, 3)
    net.sleep(10.1)
    net.pass_on(client, GET)
    assert one.stats.requests == 2


# The handler itself.


def test_a_proxy_belongs_to_one_server(make: MakeProxy) -> None:
    net = make()
    with pytest.raises(RuntimeError, match="one server"):
        net.proxy.attach(object())


def test_connect_is_refused(make: MakeProxy) -> None:
    """RFC 9110 §9.3.6: it is for proxies that clients choose."""
    net = make()
    client, _ = net.connect()
    net.pass_on(client, b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n")
    client.read()
    assert client.received.startswith(b"HTTP/1.1 501 ")
    assert not net.peers


def test_max_forwards(make: MakeProxy) -> None:
    """RFC 9110 §7.6.2: for OPTIONS and TRACE it is checked and decremented; at 0 this proxy is the last one."""
    net = make()
    client, _ = net.connect()
    wire = b"%b / HTTP/1.1\r\nHost: x\r\nMax-Forwards: %d\r\n\r\n"
    for method, status in ((b"OPTIONS", 204), (b"TRACE", 501)):
        net.pass_on(client, wire % (method, 0))
        assert client.answers(method.decode())[0].status == status
    assert not net.peers
    for method, passed in ((b"OPTIONS", 6), (b"TRACE", 6), (b"GET", 7)):
        net.pass_on(client, wire % (method, 7))
        assert b"\r\nMax-Forwards: %d\r\n" % passed in net.take()
        net.reply(OK)
        assert client.answers(method.decode())[0].status == 200


def test_a_proxy_needs_an_upstream() -> None:
    with pytest.raises(ValueError, match="upstream"):
        Proxy([])
