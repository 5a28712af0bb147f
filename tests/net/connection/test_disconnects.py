"""Clients that half-close or reset, in every phase."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kaserve.http.messages import Response
from kaserve.http.phases import CLOSED, HANDLER, Phase
from kaserve.net.poller import NOTHING
from tests.tools.connections import PHASE_STARTS, POST_HEAD, SMALL_BUFFER, MakeNet, large
from tests.tools.net import GET, Client, Net, get


def test_a_half_closed_client_still_gets_its_responses(make_net: MakeNet) -> None:
    net = make_net()
    client, connection = net.connect()
    client.send(GET * 3)
    client.finish()
    net.settle()
    assert [response.status for response in client.answers(*["GET"] * 3)] == [200] * 3
    assert client.ended
    assert not client.was_reset
    assert connection.phase == CLOSED


def test_a_half_closed_client_gets_the_responses_to_a_long_pipeline(make_net: MakeNet) -> None:
    net = make_net(lambda request: Response.text(request.path))
    client, _ = net.connect(send_buffer=SMALL_BUFFER)
    client.send(b"".join(get(f"/{number}") for number in range(200)))
    client.finish()
    for _ in range(1000):
        net.settle()
        client.read(1000)
    responses = client.answers(*["GET"] * 200)
    assert [response.body for response in responses] == [f"/{number}".encode() for number in range(200)]
    assert client.ended
    assert not client.was_reset


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(GET[:9], id="request line"),
        pytest.param(GET[:-2], id="head without its empty line"),
        pytest.param(POST_HEAD + b"12345", id="body"),
    ],
)
def test_half_a_request_and_a_half_close_is_400(make_net: MakeNet, start: bytes) -> None:
    """RFC 9112 §8: the request is incomplete."""
    net = make_net()
    client, connection = net.connect()
    client.send(GET + start)
    client.finish()
    net.settle()
    assert [response.status for response in client.answers("GET", "POST")] == [200, 400]
    assert connection.phase == CLOSED


def reach_handler(net: Net, client: Client) -> None:
    client.send(GET * 100)


@pytest.mark.parametrize(
    ("phase", "reach"),
    [
        *(pytest.param(phase, row[0], id=phase.name) for phase, row in PHASE_STARTS.items()),
        pytest.param(HANDLER, reach_handler, id="HANDLER"),
    ],
)
def test_a_client_that_resets_is_forgotten_without_a_log_line(
    make_net: MakeNet, phase: Phase, reach: Callable[[Net, Client], None]
) -> None:
    """In every phase: nothing is logged and all descriptors are closed (the fixture checks both)."""
    net = make_net(large)
    client, connection = net.connect(tcp=True, send_buffer=SMALL_BUFFER)
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
