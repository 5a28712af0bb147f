"""Faults in the server itself, in its logs or in its callbacks: they end one connection and no other."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kaserve.http.messages import Request, Response
from kaserve.http.phases import CLOSED, LINGER
from kaserve.net.connection import Connection
from tests.tools.connections import WHEEL_DELAY, MakeNet, all_routes, logged_errors, send
from tests.tools.net import GET, HERE, PEER, Body, get


class BrokenLog:
    """An access log that raises for requests to /fault and for requests that could not be parsed."""

    timed = False

    def log(self, connection: Connection, request: Request | None, response: Response, size: int) -> None:
        if request is None or request.target == "/fault":
            raise AssertionError("this cannot happen")


def test_a_connection_that_cannot_be_registered_is_not_kept(make_net: MakeNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel limits the number of descriptors in all epolls (max_user_watches): the caller gets the OSError, and
    nothing is kept."""
    net = make_net()

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


def test_a_fault_of_the_server_ends_one_connection_only(make_net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
    net = make_net(access_log=BrokenLog())
    client, connection = net.connect(tcp=True)
    others = [net.connect()[0] for _ in range(3)]
    with logged_errors(caplog, "a connection failed in phase[^$]*this cannot happen"):
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
    """A logging handler that raises, as one without error handling does when the disk is full."""

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
def test_a_log_that_fails_ends_one_connection_at_most(
    make_net: MakeNet, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    router = all_routes()
    router.answers["wrong"] = Response(700)
    net = make_net(router)
    client, _ = net.connect()
    other, _ = net.connect()
    with broken_logging():
        send(net, client, get(f"/{path}"))
        net.sleep(300)
    assert not net.service.connections
    other.close()
    new, _ = net.connect()
    assert net.ask(new, GET)[0].status == 200
    caplog.clear()


class AlwaysBrokenLog:
    """An access log that raises for every response."""

    timed = False

    def log(self, connection: Connection, request: Request | None, response: Response, size: int) -> None:
        raise AssertionError("the log is broken")


def test_closing_completes_even_if_the_callbacks_raise(make_net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
    body = Body(b"x" * 65536 for _ in range(1000))
    net = make_net(lambda request: Response(200, body), access_log=AlwaysBrokenLog())

    def fail(connection: Connection) -> None:
        raise AssertionError("the owner is broken")

    net.service.on_close = fail
    client, connection = net.connect()
    send(net, client, GET)
    with logged_errors(caplog, "the log is broken", "the owner is broken"):
        connection.abort()
    assert connection.phase == CLOSED
    assert body.closed == 1
    assert not net.service.connections
    assert net.stats.closed == {"shutdown": 1}
    assert len(net.reactor.wheel) == 0
    net.service.on_close = None


def test_a_fault_at_a_deadline_ends_one_connection_only(make_net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
    net = make_net(access_log=BrokenLog())
    (client, broken), (_, other) = net.connect(), net.connect()
    net.sleep(95)
    client.send(GET[:5])
    with logged_errors(caplog, "this cannot happen"):
        net.sleep(30 + WHEEL_DELAY)
    assert (broken.phase, other.phase) == (CLOSED, LINGER)
