"""Which request is named when the reactor is blocked. The clock is a fake one, which handlers move."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from kaserve.http.handler import HandlerResult
from kaserve.http.messages import Request, Response
from tests.tools.connections import MakeNet
from tests.tools.net import Net, get


class Handler:
    """Takes as many milliseconds as the path says."""

    net: Net

    def __call__(self, request: Request) -> HandlerResult:
        self.net.clock.advance(int(request.path.strip("/")) / 1000)
        return Response.text(request.path)


@pytest.fixture(name="net")
def net_with_handler(make_net: MakeNet) -> Net:
    handler = Handler()
    handler.net = made = make_net(handler)
    return made


def blamed(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The paths in the log."""
    found = [record.getMessage().split()[1] for record in caplog.records]
    caplog.clear()
    return found


def test_only_a_request_that_blocks_for_long_is_named(net: Net, caplog: pytest.LogCaptureFixture) -> None:
    client, _ = net.connect()
    net.ask(client, get("/0"), get("/99"))
    assert blamed(caplog) == []
    net.ask(client, get("/101"))
    assert blamed(caplog) == ["/101"]


def test_many_short_requests_in_one_turn_are_not_a_long_one(net: Net, caplog: pytest.LogCaptureFixture) -> None:
    client, _ = net.connect()
    net.ask(client, *[get("/30")] * 10)
    assert blamed(caplog) == []


def test_the_right_one_of_a_turn_is_named(net: Net, caplog: pytest.LogCaptureFixture) -> None:
    client, _ = net.connect()
    net.ask(client, get("/50"), get("/60"), get("/200"), get("/70"))
    assert blamed(caplog) == ["/200"]


def test_time_between_turns_does_not_count(net: Net, caplog: pytest.LogCaptureFixture) -> None:
    client, _ = net.connect()
    net.ask(client, get("/0"))
    net.clock.advance(1.0)
    net.ask(client, get("/0"))
    assert blamed(caplog) == []


def test_a_handler_that_blocks_before_it_returns_a_future(make_net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
    later: Future[Response] = Future()

    def handler(request: Request) -> HandlerResult:
        net.clock.advance(0.2)
        return later

    net = make_net(handler)
    client, _ = net.connect()
    client.send(get("/future"))
    net.settle()
    assert blamed(caplog) == ["/future"]
    net.clock.advance(5.0)  # waiting for a Future blocks nothing
    later.set_result(Response.text("done"))
    net.settle()
    assert blamed(caplog) == []


def test_a_body_that_blocks_while_it_is_made(make_net: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"a"
        net.clock.advance(0.2)
        yield b"b"

    net = make_net(lambda request: Response(200, pieces()))
    client, _ = net.connect()
    net.ask(client, get("/body"))
    assert blamed(caplog) == ["/body"]
