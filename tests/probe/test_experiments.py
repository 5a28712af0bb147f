"""Every experiment on fake servers, each with one fault."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kaserve.probe.client_connection import NoResponse
from kaserve.probe.experiments.closing import closing, half_closed_client
from kaserve.probe.experiments.first_response import first_response
from kaserve.probe.experiments.persistence import idle_timeout, persistence, request_limit
from kaserve.probe.experiments.pipelining import pipelining
from kaserve.probe.experiments.request_bodies import chunked_request, unread_body
from kaserve.probe.settings import ProbeSettings
from tests.tools.fake_server import END, TARGET, FakeServer, FakeTransport, settings
from tests.tools.net import FakeClock


def test_no_date() -> None:
    assert first_response(settings(lines=())).date == "missing"
    assert first_response(settings(lines=("Date: today",))).date == "malformed"
    assert first_response(settings(lines=("Date: Sunday, 06-Nov-94 08:49:37 GMT",))).date == "malformed"
    assert first_response(settings()).good


def test_a_server_without_persistent_connections() -> None:
    probed = settings(keeps_1_1=False)
    assert str(persistence(probed, "1.1")) == "no (Connection: close)"
    assert str(request_limit(probed)) == "1, the last response says close"
    assert str(idle_timeout(probed)) == "at once: no connection persists"
    assert str(pipelining(probed)) == "1 of 6 responses, then closed (Connection: close)"


HTTP_1_0 = b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize(
    ("response", "how"),
    [
        pytest.param(HTTP_1_0, "HTTP/1.0 without keep-alive", id="HTTP/1.0"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\n\r\nhello",
            "the last response has no length, and ends with the connection",
            id="no length",
        ),
        pytest.param(
            HTTP_1_0.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), "the last response says close", id="close"
        ),
    ],
)
def test_the_probe_says_only_what_the_server_said(response: bytes, how: str) -> None:
    """http.server, for one, responds with HTTP/1.0 and no Connection header."""
    probed = settings(raw=response)
    limit = request_limit(probed)
    assert str(limit) == f"1, {how}"
    assert limit.good is None  # this is not a limit: no connection persists, which is wrong elsewhere
    assert persistence(probed, "1.1").good is False
    if how.startswith("HTTP"):
        assert str(pipelining(probed)) == f"1 of 4 responses, then closed ({how})"


def test_a_server_that_closes_unannounced() -> None:
    probed = settings(keeps_1_1=False, says_close=False)
    assert str(persistence(probed, "1.1")) == "no (no Connection header)"
    limit = request_limit(probed)
    assert str(limit) == "1, closed unannounced"
    assert limit.good is False


def test_http_1_0() -> None:
    assert not persistence(settings(keeps_1_0=False), "1.0", "Connection: keep-alive").persists
    open_after_close = persistence(settings(closes_1_0=False), "1.0")
    assert str(open_after_close) == "no (Connection: close, but stays open)"
    assert open_after_close.good is False
    assert persistence(settings(), "1.0").good is None


def test_requests_per_connection() -> None:
    assert str(request_limit(settings(limit=7))) == "7, the last response says close"
    unannounced = request_limit(settings(limit=7, says_close=False))
    assert (unannounced.requests, unannounced.announced, unannounced.good) == (7, "", False)


def test_the_search_for_the_limit_ends() -> None:
    probed = settings()
    clock = probed.clock
    assert isinstance(clock, FakeClock)

    class Slow(FakeTransport):
        def receive(self, seconds: float) -> bytes:
            self.server.clock.advance(1.0)
            return super().receive(seconds)

    found = request_limit(replace(probed, connect=lambda: Slow(FakeServer(clock)), max_wait=10.0))
    assert str(found) == "more than 10 (in 10 s)"


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        pytest.param({"pipelines": 1}, "1 of 6 responses, then closed", id="closed"),
        pytest.param({"pipelines": 3, "idle": 60.0}, "3 of 6 responses, then nothing for 10 s", id="silent"),
        pytest.param({"limit": 2}, "2 of 6 responses, then closed (Connection: close)", id="announced"),
    ],
)
def test_incomplete_pipelines(behaviour: dict[str, Any], words: str) -> None:
    found = pipelining(settings(**behaviour))
    assert str(found) == words
    assert not found.good


def test_pipelines_out_of_order() -> None:
    found = pipelining(settings(shuffles=True))
    assert not found.in_order
    assert not found.good


def test_heads_with_bodies() -> None:
    found = pipelining(settings(heads_have_bodies=True))
    assert (found.sent, found.responses, found.good) == (4, 4, False)


@pytest.mark.parametrize(
    ("body", "words", "good"),
    [
        pytest.param("drain", "405, keeps the connection", True, id="drain"),
        pytest.param("misread", "405, parses the body as requests", False, id="misread"),
        pytest.param("close", "405, closes unannounced", False, id="close"),
        pytest.param("reset", "no response, resets", False, id="reset"),
        pytest.param("ignore", "no response, closed", False, id="ignore"),
    ],
)
def test_unread_bodies(body: str, words: str, good: bool) -> None:
    found = unread_body(settings(body=body))
    assert (str(found), found.good) == (words, good)


def test_chunked_requests() -> None:
    assert str(chunked_request(settings())) == "405, keeps the connection"
    assert not chunked_request(settings()).chunked_response
    assert not chunked_request(settings(body="reset")).good


def test_closing_at_once() -> None:
    assert str(closing(settings(lingers=False))) == "closes at once (late bytes are reset)"
    assert str(closing(settings())) == "half-closes, and lingers"


def test_half_closed_clients() -> None:
    found = half_closed_client(settings(half_close=False))
    assert str(found) == "gets no response"
    tls = replace(settings(), target=replace(TARGET, scheme="https"))
    assert half_closed_client(tls) is None


def test_idle() -> None:
    assert str(idle_timeout(settings(idle=7.25))) == "7.2 s"
    assert idle_timeout(settings(idle=7.25)).good
    early = idle_timeout(settings(idle=2.0))
    assert (str(early), early.good) == ("2.0 s, SOONER than announced (5 s)", False)
    assert str(idle_timeout(settings(idle=99.0))) == "longer than 15 s"
    assert str(idle_timeout(settings(idle=3.0, resets_idle=True, announces=""))) == "3.0 s, by a reset"


def test_a_late_request() -> None:
    assert idle_timeout(settings(lingers=False)).late_request == "reset"
    assert idle_timeout(settings()).late_request == "ignored"
    assert idle_timeout(settings(resets_idle=True)).late_request == ""


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"SSH-2.0-OpenSSH\r\n", "what came is not HTTP", id="SSH"),
        pytest.param(b"HTTP/1.1 20\r\n\r\n", "the status line is malformed", id="status line"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
            "the connection ended within the body",
            id="short body",
        ),
        pytest.param(b"\x15\x03\x01\x00\x02\x02", "what came is not HTTP", id="TLS alert"),
    ],
)
def test_what_is_not_http(raw: bytes, reason: str) -> None:
    with pytest.raises(NoResponse, match=reason):
        first_response(settings(raw=raw))


def test_a_server_that_closes_at_once() -> None:
    clock = FakeClock()
    transport = FakeServer(clock).connect()
    transport.incoming.append((clock.now, END))
    transport.server.raw = b""
    with pytest.raises(NoResponse, match="closed"):
        first_response(ProbeSettings(TARGET, lambda: transport, clock))
