"""Some thousand seeds of the simulator, and histories that its rules must reject."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.simulator.checks import Received, Seen, Sent, check_client, check_servers, read_responses
from tests.simulator.plan import RequestPlan
from tests.simulator.world import run
from tests.tools.server import PATIENCE, ROOT, environment

SEEDS = 4_000
GROUPS = 8

GET = RequestPlan("/c0-r0", "GET", b"", b"")
POST = RequestPlan("/c0-r1", "POST", b"", b"content")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize("group", range(GROUPS))
def test_seeds(group: int) -> None:
    for seed in range(group, SEEDS, GROUPS):
        try:
            run(seed)
        except AssertionError as error:
            raise AssertionError(f"python -m tests.simulator --trace --seed {seed}: {error}") from error


def test_a_seed_has_one_history() -> None:
    first: list[str] = []
    second: list[str] = []
    for seed in range(20):
        run(seed, first.append)
        run(seed, second.append)
    assert first == second
    assert len(first) > 1000


def test_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulator", "--seed", "3", "--trace"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=PATIENCE * 3,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "client 0 sends" in done.stdout
    assert done.stdout.splitlines()[-1].endswith(" 0 failed")


# The rules.


def received(data: bytes, *requests: RequestPlan, in_order: bool = True) -> list[Received]:
    return read_responses(data, [each.method for each in requests], ended_in_order=in_order)


def check(data: bytes, *requests: RequestPlan, sent: dict[str, list[Sent]], ended: bool = True) -> None:
    check_client(requests, received(data, *requests), sent, has_ended=ended, has_asked_all=True)


def test_histories_that_are_right() -> None:
    check(OK, GET, sent={GET.name: [Sent(200, b"hello")]}, ended=False)
    check(OK[:-1], GET, sent={})  # a part, and then the end
    check(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nsad", GET, sent={})
    check_servers({GET.name: GET, POST.name: POST}, [Seen(GET.name, "GET", b"", True)] * 2)
    check_servers({POST.name: POST}, [Seen(POST.name, "POST", b"cont", False)])


@pytest.mark.parametrize(
    ("data", "requests", "ended", "message"),
    [
        (OK, [GET], True, "was sent by no server"),
        (OK + OK, [GET], True, "nobody has asked for"),
        (OK[:-1], [GET], False, "without a response, and no end"),
        (b"", [GET], False, "without a response, and no end"),
        (OK.replace(b"\r\n\r\n", b"\r\nX-Name: /c9\r\n\r\n"), [GET], True, "got the response to /c9"),
        (b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n", [GET], True, "was sent by no server"),
        (b"HTTP/1.1 502 x\r\nContent-Length: 7\r\n\r\n/c0-r0:", [GET], True, "with content"),
    ],
)
def test_what_a_client_must_not_get(data: bytes, requests: list[RequestPlan], ended: bool, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check(data, *requests, sent={GET.name: [Sent(200, b"other")]}, ended=ended)


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        ([Seen(POST.name, "POST", b"content", True)] * 2, "was sent 2 times"),
        ([Seen(GET.name, "GET", b"", True)] * 3, "was sent 3 times"),
        ([Seen(GET.name, "GET", b"", True), Seen(GET.name, "GET", b"", True, 1, 1)], "a connection that was not new"),
        ([Seen("/other", "GET", b"", True)], "nobody has asked"),
        ([Seen(POST.name, "POST", b"cont", True)], "the body arrived"),
        ([Seen(POST.name, "POST", b"x", False)], "a part of the body"),
    ],
)
def test_what_a_server_must_not_get(seen: list[Seen], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_servers({GET.name: GET, POST.name: POST}, seen)


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: 1\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", False),
        (b"HTTP/1.1 103 x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nall", True),
        (b"HTTP/1.1 200 OK\r\n", False),
    ],
)
def test_what_is_whole(data: bytes, whole: bool) -> None:
    assert received(data, GET)[-1].is_whole is whole
    if b"\r\n\r\nall" in data:
        assert not received(data, GET, in_order=False)[-1].is_whole
