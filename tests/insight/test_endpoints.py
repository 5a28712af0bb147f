"""The paths of --status and --metrics, with figures of the server's own connections; and the advice in its log."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from typing import Any

import pytest

from kaserve import HTTPError, Request, Response
from kaserve.handlers.middleware.basic_auth import BasicAuth
from kaserve.handlers.middleware.cors import CORSPreflight
from kaserve.handlers.middleware.passwords import hash_password
from tests.tools.server import Client, Driven, get, hello, post

HERE = "Host: localhost"


def ask(client: Client, target: str) -> Any:
    client.send(f"GET {target} HTTP/1.1\r\n{HERE}\r\n\r\n".encode())
    return client.answer()


def figures(driven: Driven) -> dict[str, Any]:
    """The figures on the page, asked for on a new connection, which stays open."""
    found: dict[str, Any] = json.loads(ask(driven.connect(), "/-/status?json").body)
    return found


def values(distribution: dict[str, Any]) -> dict[float | None, int]:
    """The buckets that are not empty, as a count by bound."""
    return {bound: count for bound, count in distribution["buckets"] if count}


def test_the_figures_of_connections() -> None:
    with Driven(status="/-/status", keep_alive_requests=5) as driven:
        client = driven.connect()
        client.exchange(get("/a"), post(b"hello"))
        driven.pass_time(3.0)
        client.exchange(get("/b"))
        driven.pass_time(20.0)
        client.close()
        driven.settle()
        found = figures(driven)
    assert (found["accepted"], found["used"], found["requests"]) == (1, 1, 3)  # without the connection that asks
    assert (found["gaps"]["count"], found["gaps"]["total"]) == (2, 3.0)
    assert values(found["gaps"]) == {1e-05: 1, 5.0: 1}
    assert (found["handshakes_saved"], found["reuse_ratio"]) == (2, 2 / 3)
    assert found["closed"] == {"client": 1}
    assert values(found["client_closed"]) == {20.0: 1}
    assert values(found["per_connection"]) == {3.0: 1}
    assert found["latency"]["count"] == 3
    assert found["statuses"]["2xx"] == 3
    assert found["open"] == {}
    assert found["peers"][0]["host"] == "127.0.0.1"
    assert found["received"] > 3 * len(get("/a"))
    assert found["sent"] > 200


@pytest.mark.parametrize(
    ("reason", "settings", "sends", "seconds"),
    [
        pytest.param("idle", {"keep_alive": 5.0}, get(), 20.0, id="idle"),
        pytest.param("request limit", {"keep_alive_requests": 2}, get() + get(), 20.0, id="request limit"),
        pytest.param("header timeout", {}, b"GET / HT", 60.0, id="header timeout"),
        pytest.param("body timeout", {}, post(b"hello")[:-5], 90.0, id="body timeout"),
        pytest.param("refused", {}, b"GET\r\n\r\n", 20.0, id="refused"),
        pytest.param("client asked", {}, get("/", "Connection: close"), 20.0, id="client asked"),
        pytest.param("keep-alive off", {"keep_alive": 0}, get("/"), 20.0, id="keep-alive off"),
    ],
)
def test_why_connections_end(reason: str, settings: dict[str, Any], sends: bytes, seconds: float) -> None:
    with Driven(status="/-/status", **settings) as driven:
        client = driven.connect()
        client.send(sends)
        driven.pass_time(seconds)
        assert figures(driven)["closed"] == {reason: 1}


def test_age_is_a_reason_of_its_own() -> None:
    with Driven(status="/-/status", keep_alive_time=10.0) as driven:
        client = driven.connect()
        client.exchange(get())
        driven.pass_time(11.0)
        client.exchange(get())
        driven.pass_time(20.0)
        assert figures(driven)["closed"] == {"age": 1}


def test_the_timeline_is_recorded_while_the_page_is_open() -> None:
    with Driven(status="/-/status") as driven:
        figures(driven)
        client, _silent = driven.connect(), driven.connect()
        client.exchange(get())
        driven.pass_time(2.0)
        client.exchange(get("/", "X: y"))
        traces = {trace["number"]: trace for trace in figures(driven)["timeline"]}
    assert [burst[0] for burst in traces[2]["bursts"]] == [2.0, 0.0]
    assert traces[2]["requests"] == 2


def test_events_keep_coming_and_end_with_the_server() -> None:
    with Driven(status="/-/status") as driven:
        reader = driven.connect()
        reader.send(f"GET /-/status?events HTTP/1.1\r\n{HERE}\r\n\r\n".encode())
        driven.settle()
        driven.pass_time(3.5)
        driven.server.shutdown()
        driven.pass_time(2.0)  # the client could send one more request
        events = reader.rest()
    assert events.count(b"data: {") == 4
    assert events.endswith(b"0\r\n\r\n")


def test_the_page_does_not_count_itself() -> None:
    """However often it is asked for: not its requests, times and bytes, and not a stream that it has open."""
    with Driven(status="/-/status") as driven:
        reader, poller, visitor = driven.connect(), driven.connect(), driven.connect()
        visitor.exchange(get(), get())
        driven.pass_time(3.0)
        expected = {name: figures(driven)[name] for name in ("requests", "statuses", "gaps", "latency", "closed")}
        reader.send(f"GET /-/status?events HTTP/1.1\r\n{HERE}\r\n\r\n".encode())
        for _ in range(5):
            driven.pass_time(1.0)
            ask(poller, "/-/status")
        found = figures(driven)
        history = [dict(zip(found["history"]["fields"], each, strict=True)) for each in found["history"]["intervals"]]
        reader.close()
        driven.pass_time(2.0)
        after = figures(driven)
    assert {name: found[name] for name in expected} == expected
    assert (found["accepted"], found["used"], found["timeline"]) == (1, 1, [])
    quiet = [(each["requests"], each["p99"], each["received"], each["sent"]) for each in history[1:]]
    assert len(quiet) == 3
    assert set(quiet) == {(0.0, None, 0.0, 0.0)}
    assert after["latency"] == expected["latency"]  # the stream took 6 seconds
    assert after["closed"] == {}


def test_other_requests_on_a_connection_of_the_page_count() -> None:
    with Driven(status="/-/status") as driven:
        client = driven.connect()
        ask(client, "/-/status")
        client.exchange(get())
        found = json.loads(ask(client, "/-/status?json").body)
    assert (found["requests"], found["gaps"]["count"], found["latency"]["count"]) == (1, 1, 1)
    assert found["timeline"] == []  # it was not recorded yet: only figures and events begin that


def test_the_history_is_recorded_while_no_page_is_open() -> None:
    with Driven(status="/-/status") as driven:
        client = driven.connect()
        driven.pass_time(3.0)
        client.exchange(get(), get())
        driven.pass_time(1000.0)
        intervals = figures(driven)["history"]["intervals"]
    assert len(intervals) == 150


def test_nothing_is_sampled_without_the_page() -> None:
    with Driven(metrics="/metrics") as driven:
        driven.settle()
        assert driven.server.timeout() is None


def test_metrics() -> None:
    with Driven(metrics="/metrics") as driven:
        client = driven.connect()
        client.exchange(get(), get())
        text = ask(client, "/metrics").body.decode()
    assert "kaserve_requests_total 2\n" in text
    assert 'kaserve_connections_open{phase="IDLE"} 1\n' in text
    assert "kaserve_handshakes_saved_total 2\n" in text


def test_without_the_settings_there_are_no_such_paths() -> None:
    def refuse(request: Request) -> Response:
        raise HTTPError(404, "nothing here")

    with Driven(refuse) as driven:
        assert ask(driven.connect(), "/-/status").status == 404


def test_advice_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kaserve")
    with Driven(keep_alive=1.0) as driven:
        for _ in range(3):
            client = driven.connect()
            client.exchange(get())
            driven.pass_time(2.0)  # the server closes
            client.send(get())
            driven.pass_time(60.0)
            client.close()
    lines = [record.message for record in caplog.records if record.message.startswith("advice: ")]
    assert [line[:18] for line in lines] == ["advice: 2 requests"]


def test_the_handler_still_responds() -> None:
    with Driven(hello, status="/-/status", metrics="/metrics") as driven:
        assert driven.connect().ask("/status").body == b"hello"


@pytest.mark.parametrize("target", ["/metrics", "/metrics?x", "/-/status?json"])
def test_a_handler_that_asks_for_passwords_protects_the_pages_as_well(target: str) -> None:
    users = {"ann": hash_password(b"secret")}
    with Driven(CORSPreflight(BasicAuth(hello, users)), status="/-/status", metrics="/metrics") as driven:
        client = driven.connect()
        responses = {}
        for password in ("", "wrong", "secret"):
            field = f"Authorization: Basic {b64encode(f'ann:{password}'.encode()).decode()}"
            for known in (False, True):  # the first check is made in a thread
                client.send(f"GET {target} HTTP/1.1\r\n{HERE}\r\n{field}\r\n\r\n".encode())
                responses[password, known] = client.answer()
        assert {key: response.status for key, response in responses.items()} == {
            (password, known): 200 if password == "secret" else 401
            for password in ("", "wrong", "secret")
            for known in (False, True)
        }
        assert b"accepted" in responses["secret", True].body
        assert ask(client, target).value("www-authenticate") is not None
