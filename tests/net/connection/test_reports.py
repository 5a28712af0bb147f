"""What a connection reports: to the access log, to the counters and to `on_close`; and the Date of its responses."""

from __future__ import annotations

import pytest

from kaserve.http.errors import HTTPError
from kaserve.http.messages import Response
from kaserve.net.exchange import Exchange
from tests.tools.connections import SMALL_BUFFER, WHEEL_DELAY, MakeNet, logged_errors
from tests.tools.net import EPOCH, GET, Body, Router, file_span, get


class Log:
    timed = False

    def __init__(self) -> None:
        self.lines: list[tuple[str, int, int]] = []

    def log(self, exchange: Exchange) -> None:
        target = exchange.request.target if exchange.request is not None else "-"
        assert exchange.response is not None
        self.lines.append((target, exchange.response.status, exchange.bytes_sent))


def test_every_response_is_logged_once_with_the_size_of_its_content(make_net: MakeNet) -> None:
    log = Log()
    router = Router(
        file=lambda request: Response(200, file_span(b"x" * 100_000)),
        pieces=lambda request: Response(200, [b"abc", b"de"]),
        none=Response(204),
    )
    net = make_net(router, access_log=log)
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


def test_a_response_that_is_cut_off_is_logged_with_the_bytes_sent(make_net: MakeNet) -> None:
    log = Log()
    net = make_net(lambda request: Response(200, Body(b"x" * 10_000 for _ in range(1000))), access_log=log)
    client, connection = net.connect(send_buffer=SMALL_BUFFER)
    client.send(GET)
    net.settle()
    assert log.lines == []
    connection.abort()
    ((target, status, size),) = log.lines
    assert (target, status) == ("/", 200)
    assert 0 < size < 1_000_000


def test_the_counters(make_net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
    net = make_net(Router(bad=ZeroDivisionError(), no=HTTPError(403, "no", close=True)))
    first, _ = net.connect()
    second, _ = net.connect()
    third, _ = net.connect()
    with logged_errors(caplog, "ZeroDivisionError"):
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
    net.sleep(5 + WHEEL_DELAY)
    assert stats.closed == {"client": 1, "refused": 1, "handler asked": 1}
    assert stats.races_lost.total() == 0


def test_on_close_is_called_for_every_connection(make_net: MakeNet) -> None:
    net = make_net()
    open_then: list[int] = []
    net.service.on_close = lambda connection: open_then.append(len(net.service.connections))
    clients = [net.connect()[0] for _ in range(3)]
    for client in clients:
        client.close()
        net.settle()
    assert open_then == [2, 1, 0]


def test_the_date_is_the_time_of_the_turn(make_net: MakeNet) -> None:
    """RFC 9110 §6.6.1: Date is when the message was made. One clock reading per turn is enough."""
    net = make_net()
    client, _ = net.connect()
    net.wall.now = EPOCH + 60
    assert net.ask(client, GET)[0].value("date") == "Sun, 06 Nov 1994 08:50:37 GMT"
