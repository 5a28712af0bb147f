"""The SEND phase: the deadline and minimum rate of responses, and how many sends they take."""

from __future__ import annotations

import random
import socket

from kaserve.http.messages import Response
from kaserve.http.phases import CLOSED, IDLE, LINGER, SEND
from kaserve.http.protocol import MAX_INLINE_BODY
from kaserve.net.service import Deadlines
from kaserve.net.sockets import queued_bytes
from tests.tools.connections import (
    DEADLINES_WITH_RATE,
    MIN_BYTES,
    PROGRESS_CHECKS,
    SMALL_BUFFER,
    WHEEL_DELAY,
    MakeNet,
    large,
    read_slowly,
    read_some,
    send,
    server_socket,
)
from tests.tools.net import GET, Body, get


def test_a_response_at_the_minimum_rate_is_sent(make_net: MakeNet) -> None:
    net = make_net(large, deadlines=DEADLINES_WITH_RATE)
    client, connection = net.connect(send_buffer=SMALL_BUFFER)
    send(net, client, get("/large"))
    for _ in range(20):
        net.sleep(9.9)
        assert connection.phase == SEND
        read_some(net, client, 20 * MIN_BYTES)  # enough that the kernel accepts more


def test_a_response_below_the_minimum_rate_ends_with_a_reset(make_net: MakeNet) -> None:
    net = make_net(large, deadlines=DEADLINES_WITH_RATE)
    client, connection = net.connect(send_buffer=SMALL_BUFFER)
    send(net, client, get("/large"))
    for _ in range(11):
        net.sleep(1)
        read_some(net, client, 3)
    assert connection.phase == CLOSED
    assert net.stats.closed == {"send timeout": 1}


def test_data_that_leaves_the_kernel_buffer_is_progress_too(make_net: MakeNet) -> None:
    """The kernel's buffers are large: a slow client can read from them for longer than the deadline."""
    net = make_net(lambda request: Response(200, Body(b"x" * 65536 for _ in range(1000))))
    client, connection = net.connect(tcp=True)
    send(net, client, GET)
    fd = server_socket(connection).fileno()
    for _ in range(2):
        before = queued_bytes(fd)
        while queued_bytes(fd) > before - 30_000:
            client.read(16384)
            assert not net.busy, "the kernel accepts more, so the test shows nothing"
        net.sleep(60 - WHEEL_DELAY)
        assert connection.phase == SEND
    net.sleep(60 / PROGRESS_CHECKS + 2 * WHEEL_DELAY)
    assert connection.phase == CLOSED, "progress is checked often enough to notice the end of it"


def test_the_responses_to_a_pipeline_share_one_deadline(make_net: MakeNet) -> None:
    """Adding another response after one that the client does not read is not progress."""
    net = make_net(large, deadlines=DEADLINES_WITH_RATE)
    client, connection = net.connect(send_buffer=SMALL_BUFFER)
    send(net, client, get("/large") + GET * 1000)
    while len(client.received) < 990_000:
        read_some(net, client, 512)
    assert connection.phase == SEND
    for _ in range(13):
        net.sleep(1)
        read_some(net, client, 10)
    assert connection.phase == CLOSED


def test_without_a_minimum_rate_any_progress_extends_the_deadline(make_net: MakeNet) -> None:
    net = make_net(large, deadlines=Deadlines(min_rate=0))
    client, connection = net.connect(send_buffer=SMALL_BUFFER)
    client.send(get("/large"))
    net.settle()
    for _ in range(9):
        net.sleep(59)
        assert connection.phase == SEND
        before = len(client.received)
        while not net.busy:  # until the kernel accepts more
            client.read(512)
        net.settle()
        assert len(client.received) > before
    net.sleep(60 - 0.01)
    assert connection.phase == SEND
    net.sleep(0.01 + WHEEL_DELAY)
    assert connection.phase == CLOSED
    assert net.stats.closed == {"send timeout": 1}


def test_a_response_that_the_client_never_reads_ends_with_a_reset(make_net: MakeNet) -> None:
    """So that the client does not mistake the part that it has for the whole."""
    net = make_net(lambda request: Response(200, Body(b"x" * 65536 for _ in range(1000))))
    client, connection = net.connect(tcp=True)
    client.send(GET)
    net.settle()
    assert connection.phase == SEND
    net.sleep(60 + WHEEL_DELAY)
    assert connection.phase == CLOSED
    client.read()
    assert client.was_reset


def test_a_large_body_is_not_copied_after_its_head(make_net: MakeNet) -> None:
    """The head is sent with MSG_MORE, so that both still leave in one segment."""
    net = make_net(lambda request: Response(200, b"x" * (MAX_INLINE_BODY + 1)))
    client, connection = net.connect(send_buffer=256 * 1024)
    [response] = net.ask(client, GET)
    assert len(response.body) == MAX_INLINE_BODY + 1
    (head, flags), (body, none) = server_socket(connection).sends
    assert head < 1000
    assert body == MAX_INLINE_BODY + 1
    assert (flags, none) == (getattr(socket, "MSG_MORE", 0), 0)


def test_a_head_and_its_body_leave_in_one_send(make_net: MakeNet) -> None:
    net = make_net()
    client, connection = net.connect()
    net.ask(client, GET)
    assert len(server_socket(connection).sends) == 1


def test_a_large_body_of_bytes_survives_short_writes(make_net: MakeNet) -> None:
    content = random.Random(1).randbytes(1_500_000)
    net = make_net(lambda request: Response(200, content))
    client, connection = net.connect(send_buffer=SMALL_BUFFER)
    client.send(GET * 2)
    responses = read_slowly(net, client, 2)
    assert [response.body == content for response in responses] == [True, True]
    assert len(server_socket(connection).sends) > 10
    assert connection.phase == IDLE


def test_a_response_with_connection_close_ends_the_connection(make_net: MakeNet) -> None:
    net = make_net(lambda request: Response(200, b"", {"Connection": "close"}))
    client, connection = net.connect()
    (response,) = net.ask(client, GET, GET, methods=["GET"])
    assert not response.persists
    assert connection.phase == LINGER
