"""Which fields pass, and how requests look to an upstream. What goes there is read by h11, as exactly one request."""

from __future__ import annotations

from typing import Any

import h11
import pytest

from kaserve.http.errors import HTTPError
from kaserve.http.framing import CHUNKED, NO_LENGTH
from kaserve.http.wire import encode_head
from kaserve.proxy.fields import (
    Forwarding,
    check_request,
    encode_request,
    interim_fields,
    may_go_further,
    passed_framing,
    passed_trailers,
    requested_upgrade,
    response_fields,
)
from kaserve.proxy.location import UpstreamURL
from kaserve.proxy.target import has_dot_segments
from tests.proxy.messages import (
    PLAIN,
    get,
    mounted,
    names,
    parse,
    passed,
    read_by_h11,
    response_head,
    settings,
    values,
)
from tests.tools.wire import IMPLEMENTATIONS, Case, converse, hello, load_corpus, whole

OURS = IMPLEMENTATIONS[-1]  # the build that `kaserve.proxy` uses

# Requests.


def test_a_request() -> None:
    """All of it, as bytes."""
    request = get("user-agent: curl/8.5.0", "Accept: */*", "Cookie: a=b", "X-Custom:  \t v \x80 ")
    assert encode_request(request, PLAIN) == (
        b"GET /a?b=c HTTP/1.1\r\nHost: site.example\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nCookie: a=b\r\n"
        b"X-Custom: v \x80\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n"
        b'X-Forwarded-Host: site.example\r\nForwarded: for=192.0.2.7;host="site.example";proto=http\r\n'
        b"Via: 1.1 kaserve\r\n\r\n"
    )


def test_the_host_is_kept_or_replaced() -> None:
    assert values(passed(get()), "Host") == ["site.example"]
    event = passed(get(), settings(host="other.example:81"))
    assert values(event, "Host") == ["other.example:81"]
    assert values(event, "X-Forwarded-Host") == ["site.example"]


def test_the_authority_of_an_absolute_target_wins() -> None:
    """RFC 9112 §3.2.2."""
    event = passed(get(target="http://other.example/p"))
    assert (event.target, values(event, "Host")) == (b"/p", ["other.example"])


def test_a_host_has_no_zone() -> None:
    """RFC 6874 §4."""
    request = parse(b"GET / HTTP/1.1\r\nHost: [fe80::1%eth0]:80\r\n\r\n")
    assert b"\r\nHost: [fe80::1]:80\r\n" in encode_request(request, PLAIN)


@pytest.mark.parametrize(
    ("host", "via"), [("", "v"), ("a b", "v"), ("a/b", "v"), ("a\r\n", "v"), ("h", ""), ("h", "a b")]
)
def test_settings_that_cannot_be_sent(host: str, via: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        Forwarding(PLAIN.url, host, via)


def test_the_name_in_via() -> None:
    assert values(passed(get(), Forwarding(PLAIN.url, via="edge")), "Via") == ["1.1 edge"]


ONE_HOP = {
    "Connection": "x",
    "Keep-Alive": "timeout=5",
    "Proxy-Connection": "keep-alive",
    "TE": "gzip",
    "Trailer": "X",
    "Upgrade": "h2c",
    "Proxy-Authorization": "Basic x",
    "Proxy-Authenticate": "Basic",
}


def test_fields_of_one_hop_end_here() -> None:
    """RFC 9110 §7.6.1, §11.7."""
    event = passed(get(*(f"{name}: {value}" for name, value in ONE_HOP.items()), "X-Kept: 1"))
    assert "x-kept" in names(event)
    assert not names(event) & {name.lower() for name in ONE_HOP}


@pytest.mark.parametrize("name", ["Proxy", "HTTP2-Settings", "Expect", "Content_Length", "Transfer_Encoding", "Host_"])
def test_fields_that_are_dropped(name: str) -> None:
    value = "100-continue" if name == "Expect" else "evil"
    event = passed(get(f"{name}: {value}"))
    assert (name.lower() in names(event)) is (name == "Host_")


@pytest.mark.parametrize("name", ["Content_Type", "X_Http_Method_Override", "Proxy_", "If_None-Match"])
def test_names_that_cgi_takes_for_others(name: str) -> None:
    """CGI and WSGI make HTTP_CONTENT_TYPE of both, RFC 3875 §4.1.18."""
    assert (name.lower() in names(passed(get(f"{name}: evil")))) is (name == "Proxy_")
    assert "x_api_key" in names(passed(get("X_API_Key: mine")))


def test_what_connection_names_ends_here() -> None:
    """RFC 9110 §7.6.1: in any case, anywhere in its lists, and whatever else they have."""
    event = passed(
        get("Connection: close,  X-One ,,keep-alive", "x-one: 1", "Connection: x-TWO", "X-Two: 2", "X-Three: 3")
    )
    assert not names(event) & {"x-one", "x-two", "connection"}
    assert values(event, "X-Three") == ["3"]


@pytest.mark.parametrize(
    "name",
    [
        "Authorization", "Cookie", "Content-Type", "Content-Encoding", "Cache-Control", "If-None-Match", "If-Match",
        "Range", "Origin", "Referer", "Accept", "User-Agent", "X-HTTP-Method-Override",
    ],
)  # fmt: skip
def test_a_client_cannot_take_away_what_is_meant_for_all(name: str) -> None:
    """RFC 9110 §7.6.1: such a field must not be named in Connection. If a proxy in front has added or checked it, and
    has passed the client's Connection on, the upstream would see another request than that proxy did."""
    assert values(passed(get(f"{name}: x", f"Connection: close, {name}")), name) == ["x"]


def test_a_client_cannot_take_away_what_is_added_here() -> None:
    named = "Host, Via, Forwarded, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, Content-Length, TE"
    event = passed(get(f"Connection: {named}", "Content-Length: 5", method="POST"))
    assert event.headers == passed(get("Content-Length: 5", method="POST")).headers


def test_takers_of_trailers() -> None:
    """RFC 9110 §10.1.4: TE goes with its option."""
    for te in ("trailers", "gzip;q=0.5 , TRAILERS"):
        event = passed(get(f"TE: {te}", "Connection: TE"))
        assert (values(event, "TE"), values(event, "Connection")) == (["trailers"], ["TE"])
    for event in (passed(get("TE: gzip, x-trailers")), passed(parse(b"GET / HTTP/1.0\r\nTE: trailers\r\n\r\n"))):
        assert not names(event) & {"te", "connection"}


def test_the_connection_to_an_upstream_that_must_be_asked_to_keep_it() -> None:
    """RFC 9112 §9.3."""
    assert values(passed(get(), persist=True), "Connection") == ["keep-alive"]
    assert values(passed(get(), persist=False), "Connection") == ["close"]
    assert values(passed(get("TE: trailers"), persist=True), "Connection") == ["TE, keep-alive"]
    assert values(passed(get("Connection: close")), "Connection") == []


def test_a_request_that_has_been_here_often() -> None:
    """RFC 9110 §7.6.3."""
    lines = ["Via: 1.1 kaserve"] * 8
    assert values(passed(get(*lines)), "Via") == ["1.1 kaserve"] * 9
    check_request(get(*lines), PLAIN)
    for more in (lines, ["Via: " + "1.1 kaserve, 1.0 x, " * 8]):
        request = get(*more, "Via: 1.1 kaserve")
        check_request(request, Forwarding(PLAIN.url, via="other"))
        with pytest.raises(HTTPError) as caught:
            check_request(request, PLAIN)
        assert caught.value.status == 508


def test_what_a_middleware_has_made_of_a_request_is_checked() -> None:
    for path in ("/a b", "/a\r\nX: y", "/a#b", "/ä", "/\x7f"):
        with pytest.raises(ValueError, match="not a part"):
            encode_request(mounted("", path), PLAIN)
    request = get()
    request.authority = "h\r\nX: y"
    with pytest.raises(ValueError, match="not a part"):
        encode_request(request, PLAIN)
    request = get()
    request.headers["X-Mine"] = "a\nb"
    with pytest.raises(ValueError, match="not a field value"):
        encode_request(request, PLAIN)


# How the body of a request ends.


def test_a_request_without_a_body() -> None:
    """RFC 9110 §8.6: with a length if its method usually has content, or the client sent one."""
    for method in ("GET", "HEAD", "DELETE", "OPTIONS", "PROPFIND"):
        assert not names(passed(get(method=method))) & {"content-length", "transfer-encoding"}
        assert values(passed(get("Content-Length: 0", method=method)), "Content-Length") == ["0"]
    for method in ("POST", "PUT", "PATCH"):
        assert values(passed(get(method=method)), "Content-Length") == ["0"]


def test_the_framing_is_that_of_the_client_or_another_one() -> None:
    counted, chunked = get("Content-Length: 5", method="PUT"), get("Transfer-Encoding: Chunked", method="PUT")
    assert (passed_framing(counted), passed_framing(chunked), passed_framing(get())) == (5, CHUNKED, NO_LENGTH)
    assert values(passed(counted), "Content-Length") == ["5"]
    assert values(passed(chunked), "Transfer-Encoding") == ["chunked"]
    assert values(passed(chunked, framing=7), "Content-Length") == ["7"]
    assert "transfer-encoding" not in names(passed(chunked, framing=7))
    assert values(passed(counted, framing=CHUNKED), "Transfer-Encoding") == ["chunked"]
    assert "content-length" not in names(passed(counted, framing=CHUNKED))


def test_trailers_are_announced_where_they_can_be() -> None:
    """RFC 9110 §6.6.2."""
    lines = ["Trailer: X-Sum, X-Other", "Transfer-Encoding: chunked"]
    assert values(passed(get(*lines, method="PUT")), "Trailer") == ["X-Sum, X-Other"]
    assert values(passed(get(*lines, method="PUT"), framing=5), "Trailer") == []
    assert values(passed(get("Trailer: X-Sum")), "Trailer") == []


def test_an_expectation_is_passed_on_if_it_is_to_be() -> None:
    """RFC 9110 §10.1.1."""
    request = get("Expect: 100-continue", "Content-Length: 5", method="PUT")
    assert values(passed(request), "Expect") == []
    assert values(passed(request, expect_continue=True), "Expect") == ["100-continue"]


def test_trailers_pass_without_what_connection_names() -> None:
    """RFC 9110 §7.6.1."""
    trailers = [("x-sum", "1"), ("x-hop", "2"), ("x-forwarded-port", "3"), ("te", "4"), ("x_forwarded_for", "5")]
    fields = [("connection", "X-Hop"), ("x-other", "y")]
    assert passed_trailers(trailers, fields) == [("X-Sum", "1")]
    assert passed_trailers(trailers[:1], []) == [("X-Sum", "1")]


# Smuggling: what two readers could understand differently.

ACCEPTED = {
    "a length and chunks": "Content-Length: 5|Transfer-Encoding: chunked",
    "chunks and a length": "Transfer-Encoding: chunked|Content-Length: 5",
    "a wrong length and chunks": "Content-Length: 0|Transfer-Encoding: chunked",
    "chunks in capitals": "Transfer-Encoding: CHUNKED",
    "chunks with white space": "Transfer-Encoding: \t chunked ",
    "a length with zeros": "Content-Length: 0005",
    "a length with white space": "Content-Length:5\t",
    "chunks named by Connection": "Transfer-Encoding: chunked|Connection: transfer-encoding",
    "a length named by Connection": "Content-Length: 5|Connection: content-length",
    "both, one named by Connection": "Content-Length: 5|Transfer-Encoding: chunked|Connection: Transfer-Encoding",
    "a length beside one for CGI": "Content-Length: 5|Content_Length: 6",
    "a length beside chunks for CGI": "Content-Length: 5|Transfer_Encoding: chunked",
    "an expectation in capitals": "Content-Length: 5|Expect: 100-CONTINUE",
    "an upgrade": "Content-Length: 5|Connection: upgrade, HTTP2-Settings|Upgrade: h2c|HTTP2-Settings: AAMAAABk",
    "keep-alive of old": "Content-Length: 5|Connection: keep-alive|Proxy-Connection: close|Keep-Alive: max=1",
    "a trailer that is a length": "Transfer-Encoding: chunked|Trailer: Content-Length",
}


@pytest.mark.parametrize("lines", ACCEPTED.values(), ids=ACCEPTED)
@pytest.mark.parametrize("minor", [0, 1])
def test_what_is_ambiguous_goes_out_with_one_meaning(lines: str, minor: int) -> None:
    """RFC 9112 §6.1, §6.3, §11.2: with one length, which is the one that the server has read by, and one Host."""
    head = "\r\n".join([f"POST /x HTTP/1.{minor}", "Host: a", *lines.split("|"), "", ""]).encode("latin-1")
    request = parse(head)
    wire = encode_request(request, PLAIN)
    event = read_by_h11(wire)
    is_chunked = "ransfer-Encoding:" in lines
    assert values(event, "Transfer-Encoding") == (["chunked"] if is_chunked else [])
    assert values(event, "Content-Length") == ([] if is_chunked else ["5"])
    assert values(event, "Host") == ["a"]
    assert not names(event) & {"connection", "upgrade", "expect", "keep-alive", "content_length", "transfer_encoding"}
    assert_is_one_request(wire, b"5\r\nhello\r\n0\r\n\r\n" if is_chunked else b"hello")


def assert_is_one_request(head: bytes, body: bytes) -> None:
    """Reads a request with h11: `head` and `body` are all of it."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head + body)
    assert isinstance(connection.next_event(), h11.Request)
    content = b""
    while isinstance(event := connection.next_event(), h11.Data):
        content += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert (content, connection.trailing_data[0]) == (b"hello" if b"hello" in body else content, b"")


@pytest.mark.parametrize("case", [case for case in load_corpus() if case.requests], ids=str)
def test_every_request_of_the_corpus_goes_out_as_one(case: Case) -> None:
    """RFC 9112 §11.2: whatever the server accepts, and however it was written. h11 reads one request in it, with the
    method, the path and the length that the server has read."""

    seen = []

    def check(request: Any) -> Any:
        seen.append(request)
        if has_dot_segments(request.raw_path):
            return hello(request)
        wire = encode_request(request, PLAIN)
        event = read_by_h11(wire)
        assert len(values(event, "Content-Length") + values(event, "Transfer-Encoding")) <= 1
        assert event.method.decode() == request.method
        assert event.target.decode().partition("?")[0] == request.raw_path
        assert len(values(event, "Host")) == 1
        assert wire.count(b"\r\n\r\n") == 1
        return hello(request)

    converse(OURS, whole(case.wire), eof=case.eof, handler=check, limits=OURS.limits(**dict(case.limits)))
    assert len(seen) == len(case.requests)


# Max-Forwards.


def test_one_hop_less() -> None:
    """RFC 9110 §7.6.2: for these two methods; others may ignore it, and do not change it."""
    for method in ("OPTIONS", "TRACE"):
        assert values(passed(get("Max-Forwards: 5", method=method)), "Max-Forwards") == ["4"]
        assert values(passed(get("Max-Forwards: 0001", method=method)), "Max-Forwards") == ["0"]
        assert "max-forwards" not in names(passed(get(method=method)))
        (left,) = values(passed(get("Max-Forwards: " + "9" * 30, method=method)), "Max-Forwards")
        assert left == "999999998"
    assert values(passed(get("Max-Forwards: 0")), "Max-Forwards") == ["0"]


def test_a_request_that_must_not_go_on() -> None:
    """RFC 9110 §7.6.2: this proxy is the last recipient."""
    for method in ("OPTIONS", "TRACE"):
        assert not may_go_further(get("Max-Forwards: 0", method=method))
        assert not may_go_further(get("Max-Forwards: 000", method=method))
        assert may_go_further(get("Max-Forwards: 1", method=method))
        assert may_go_further(get(method=method))
    assert may_go_further(get("Max-Forwards: 0"))


@pytest.mark.parametrize("lines", [["Max-Forwards: x"], ["Max-Forwards: -1"], ["Max-Forwards: 1", "Max-Forwards: 1"]])
def test_a_number_of_hops_that_is_none(lines: list[str]) -> None:
    request = get(*lines, method="OPTIONS")
    for function in (may_go_further, lambda request: check_request(request, PLAIN)):
        with pytest.raises(HTTPError) as caught:
            function(request)
        assert caught.value.status == 400
    check_request(get(*lines), PLAIN)


# Upgrades.


@pytest.mark.parametrize(
    ("lines", "protocols"),
    [
        (["Connection: Upgrade", "Upgrade: websocket"], "websocket"),
        (["Connection: keep-alive, UPGRADE", "Upgrade: websocket, foo/2"], "websocket, foo/2"),
        (["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c, websocket", "HTTP2-Settings: x"], "websocket"),
        (["Connection: Upgrade", "Upgrade: a", "Upgrade: b"], "a, b"),
        (["Connection: Upgrade", "Upgrade: h2c"], None),
        (["Connection: Upgrade", "Upgrade: H2C"], None),
        (["Connection: Upgrade", "Upgrade: HTTP/2.0"], None),
        (["Connection: Upgrade", "Upgrade: TLS/1.0"], None),
        (["Connection: Upgrade", "Upgrade: a b"], None),
        (["Connection: Upgrade", "Upgrade: a/"], None),
        (["Connection: Upgrade", "Upgrade:"], None),
        (["Connection: Upgrade"], None),
        (["Upgrade: websocket"], None),
        (["Connection: x-upgrade", "Upgrade: websocket"], None),
        ([], None),
    ],
)
def test_requested_upgrades(lines: list[str], protocols: str | None) -> None:
    """RFC 9110 §7.8."""
    assert requested_upgrade(get(*lines)) == protocols


def test_http_1_0_has_no_upgrades() -> None:
    """RFC 9110 §7.8."""
    request = parse(b"GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert requested_upgrade(request) is None


def test_an_upgrade_that_is_asked_for() -> None:
    request = get("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
    wire = encode_request(request, PLAIN, upgrade=requested_upgrade(request))
    assert wire.endswith(b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert b"\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n" in wire
    assert not names(passed(request)) & {"upgrade", "connection"}  # if nobody is to switch, nobody is asked


# Responses.


def test_a_response_passes_without_the_fields_of_one_hop() -> None:
    """RFC 9110 §7.6.1, §7.6.3, §11.7."""
    head = response_head(
        "Server: old", "Date: x", "Connection: close, X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5", "Upgrade: h2c",
        "Set-Cookie: a=1", "Set-Cookie: b=2", "Content-Length: 5", "Via: 1.0 other", "Proxy-Authenticate: Basic",
        "Trailer: X", "Proxy-Connection: close", "ETAG: x"
    )  # fmt: skip
    fields = response_fields(head, PLAIN, get())
    assert fields == [
        ("Server", "old"),
        ("Date", "x"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("Content-Length", "5"),
        ("Via", "1.0 other"),
        ("ETag", "x"),
        ("Via", "1.1 kaserve"),
    ]
    encode_head(fields)
    assert response_fields(head, PLAIN, get()) == fields  # remembered


def test_an_upstream_cannot_take_away_what_is_meant_for_all() -> None:
    head = response_head("Connection: Set-Cookie, Cache-Control, X-Hop", "Set-Cookie: a=b", "Cache-Control: no-store")
    assert len(response_fields(head, PLAIN, get())) == 3


@pytest.mark.parametrize(("status", "stays"), [(200, True), (304, True), (404, True), (204, False), (205, False)])
def test_content_length_stays_where_it_counts(status: int, stays: bool) -> None:
    """RFC 9110 §8.6, §15.3.5, §15.3.6."""
    fields = response_fields(response_head("Content-Length: 5", status=status), PLAIN, get())
    assert (("Content-Length", "5") in fields) is stays


def test_the_announcement_of_trailers() -> None:
    """RFC 9110 §6.6.2: only if there can be trailers."""
    head = response_head("Transfer-Encoding: chunked", "Trailer: X-Sum")
    via = ("Via", "1.1 kaserve")
    assert response_fields(head, PLAIN, get()) == [via]
    assert response_fields(head, PLAIN, get(), passes_trailers=True) == [("Trailer", "X-Sum"), via]
    old = parse(b"GET / HTTP/1.0\r\n\r\n")
    assert response_fields(head, PLAIN, old, passes_trailers=True) == [via]
    head = response_head("Content-Length: 5", "Trailer: X-Sum")
    assert response_fields(head, PLAIN, get(), passes_trailers=True) == [("Content-Length", "5"), via]


def test_references_are_those_of_the_client() -> None:
    rules = Forwarding(UpstreamURL.parse("http://u:9000/v1"))
    head = response_head(
        "Location: http://u:9000/v1/x", "Content-Location: /v1/y", "Refresh: 1; url=/v1/z", "Set-Cookie: a=b; Path=/v1"
    )  # fmt: skip
    for mount in ("/api", "/other"):  # they depend on the request, and are not remembered
        request = mounted(mount, "/x")
        assert response_fields(head, rules, request)[:-1] == [
            ("Location", f"{mount}/x"),
            ("Content-Location", f"{mount}/y"),
            ("Refresh", f"1; url={mount}/z"),
            ("Set-Cookie", f"a=b; Path={mount}"),
        ]


def test_interim_responses_pass_their_fields() -> None:
    """RFC 8297; nothing is rewritten, and nothing remembered for the final response."""
    head = response_head(
        "Link: </a>", "Connection: x", "X: 1", "Content-Length: 0", "Location: http://u/v1/x", status=103
    )
    assert interim_fields(head) == [("Link", "</a>"), ("Location", "http://u/v1/x")]
    head = response_head("Location: http://u/v1/x", status=302)
    assert ("Location", "/api/x") in response_fields(head, settings("http://u/v1"), mounted("/api", "/"))


def test_a_switch_of_protocols_passes_its_fields() -> None:
    """RFC 9110 §7.8: Upgrade and Connection are made by who switches."""
    head = response_head("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Accept: x", status=101)
    assert response_fields(head, PLAIN, get()) == [("Sec-WebSocket-Accept", "x"), ("Via", "1.1 kaserve")]
