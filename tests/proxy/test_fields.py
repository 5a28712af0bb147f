"""Which fields pass. What goes to an upstream is read by h11, as exactly one request."""

from __future__ import annotations

import h11
import pytest

from kaserve.http.address import Address, AnyAddress
from kaserve.http.keep_alive import KeepAlive
from kaserve.http.limits import Limits
from kaserve.http.messages import Request, Response
from kaserve.http.protocol import HTTPProtocol
from kaserve.http.responses import parse_response_head
from kaserve.proxy.fields import Forwarding, encode_request, interim_fields, response_fields
from kaserve.proxy.location import UpstreamURL

PEER = Address("192.0.2.7", 4711)
UPSTREAM = Forwarding(UpstreamURL.parse("http://127.0.0.1:9000"))


class Owner:
    """The connection of a request."""

    client: AnyAddress = PEER

    def inform(self, request: Request, response: Response) -> bool:
        return False

    def is_half_closed(self) -> bool:
        return False


def parse(wire: bytes) -> Request:
    """The request that the server reads from `wire`."""
    protocol = HTTPProtocol(Limits(), KeepAlive(5.0, 100))
    protocol.receive(wire)
    request = protocol.read_head()
    assert request is not None
    request.client = PEER
    request.owner = Owner()
    return request


def passed(request: Request, settings: Forwarding = UPSTREAM, *, upgrade: str | None = None) -> h11.Request:
    """`request` as h11 reads it at the upstream: nothing else may be there."""
    wire = encode_request(request, settings, upgrade=upgrade, expect_continue=False)
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(wire)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    assert connection.trailing_data[0] == b""
    return event


def values(event: h11.Request, name: bytes) -> list[bytes]:
    return [value for key, value in event.headers if key == name]


def get(*lines: str, target: str = "/a?b=c", method: str = "GET") -> Request:
    return parse("\r\n".join([f"{method} {target} HTTP/1.1", "Host: site.example", *lines, "", ""]).encode("latin-1"))


def test_the_target_and_the_host_are_kept() -> None:
    event = passed(get())
    assert (event.method, event.target, values(event, b"host")) == (b"GET", b"/a?b=c", [b"site.example"])


def test_the_host_can_be_replaced() -> None:
    event = passed(get(), Forwarding(UPSTREAM.url, "other.example"))
    assert values(event, b"host") == [b"other.example"]
    assert values(event, b"x-forwarded-host") == [b"site.example"]


@pytest.mark.parametrize(
    ("url", "mount", "raw_path", "target"),
    [
        ("http://u", "", "/x/y", b"/x/y?q"),
        ("http://u", "/api", "/x", b"/api/x?q"),
        ("http://u", "/api", "", b"/api?q"),
        ("http://u/", "/api", "/x", b"/x?q"),
        ("http://u/", "/api", "", b"/?q"),
        ("http://u/v1", "/api", "/x", b"/v1/x?q"),
        ("http://u/v1/", "/api", "/x", b"/v1/x?q"),
        ("http://u", "/api", "/%2e%2E/x", b"/api/%2e%2E/x?q"),
    ],
)
def test_a_path_in_the_url_replaces_the_prefix(url: str, mount: str, raw_path: str, target: bytes) -> None:
    request = get(target="/x?q")
    request.mount, request.raw_path = mount, raw_path
    assert passed(request, Forwarding(UpstreamURL.parse(url))).target == target


def test_the_absolute_form_becomes_the_origin_form() -> None:
    """RFC 9112 §3.2.1, §3.2.2."""
    event = passed(parse(b"GET http://other.example/p?q HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert (event.target, values(event, b"host")) == (b"/p?q", [b"other.example"])


def test_fields_of_one_hop_end_here() -> None:
    """RFC 9110 §7.6.1: those that are always hop-by-hop, and those that Connection names."""
    event = passed(
        get("Connection: keep-alive, X-Mine", "Keep-Alive: timeout=5", "X-Mine: 1", "Proxy-Connection: keep-alive",
            "Upgrade: h2c", "HTTP2-Settings: abc", "TE: gzip", "X-Kept: 2")
    )  # fmt: skip
    names = {name for name, _ in event.headers}
    assert b"x-kept" in names
    assert not names & {b"connection", b"keep-alive", b"x-mine", b"proxy-connection", b"upgrade", b"te"}
    assert b"http2-settings" not in names


def test_what_the_proxy_adds_cannot_be_named_away() -> None:
    """A client that names them in Connection must not make the upstream believe that there was no proxy."""
    event = passed(get("Connection: X-Forwarded-For, Forwarded, Via, Host, X-Forwarded-Proto"))
    assert values(event, b"x-forwarded-for") == [b"192.0.2.7"]
    assert values(event, b"host") == [b"site.example"]
    assert values(event, b"via") == [b"1.1 kaserve"]


def test_a_client_that_takes_trailers_says_so_to_the_upstream() -> None:
    """RFC 9110 §10.1.4: with the connection option."""
    event = passed(get("TE: trailers"))
    assert (values(event, b"te"), values(event, b"connection")) == ([b"trailers"], [b"TE"])


@pytest.mark.parametrize("name", ["Proxy", "X-Real-IP", "Expect", "Proxy-Authorization"])
def test_fields_that_are_dropped(name: str) -> None:
    value = "100-continue" if name == "Expect" else "evil"
    assert values(passed(get(f"{name}: {value}", "Content-Length: 0")), name.lower().encode()) == []


def test_via_is_appended() -> None:
    """RFC 9110 §7.6.3."""
    assert values(passed(get("Via: 1.0 fred")), b"via") == [b"1.0 fred, 1.1 kaserve"]


def test_a_client_cannot_say_who_it_is() -> None:
    event = passed(get("X-Forwarded-For: 10.0.0.1", "Forwarded: for=10.0.0.1", "X-Forwarded-Proto: https"))
    assert values(event, b"x-forwarded-for") == [b"192.0.2.7"]
    assert values(event, b"x-forwarded-proto") == [b"http"]
    assert values(event, b"forwarded") == [b'for=192.0.2.7;host="site.example";proto=http']


def test_a_trusted_proxy_in_front_is_believed_and_added() -> None:
    """The middleware has replaced the client by what that proxy said."""
    request = get("X-Forwarded-For: 198.51.100.1", "Forwarded: for=198.51.100.1")
    request.client = Address("198.51.100.1", 0)
    request.scheme = "https"
    event = passed(request)
    assert values(event, b"x-forwarded-for") == [b"198.51.100.1, 192.0.2.7"]
    assert values(event, b"x-forwarded-proto") == [b"https"]
    assert values(event, b"forwarded")[0].startswith(b"for=198.51.100.1, for=192.0.2.7;")


def test_an_ipv6_client_is_quoted() -> None:
    """RFC 7239 §6."""
    request = get()
    owner = Owner()
    owner.client = request.client = Address("2001:db8::1", 1)
    request.owner = owner
    assert b'for="[2001:db8::1]"' in values(passed(request), b"forwarded")[0]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_method_with_a_body_always_has_a_length(method: str) -> None:
    """RFC 9110 §8.6."""
    assert values(passed(get(method=method)), b"content-length") == [b"0"]


def test_an_upgrade_is_asked_for_if_it_is_to_be() -> None:
    event = passed(get("Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x"), upgrade="websocket")
    assert (values(event, b"upgrade"), values(event, b"connection")) == ([b"websocket"], [b"upgrade"])


def test_names_have_their_usual_spelling() -> None:
    """RFC 9110 §5.1 makes case meaningless; old servers do not."""
    request = get("content-type: text/plain", "sec-websocket-key: x", "etag: y")
    wire = encode_request(request, UPSTREAM, upgrade=None, expect_continue=False)
    assert {b"Content-Type: text/plain", b"Sec-WebSocket-Key: x", b"ETag: y"} <= set(wire.split(b"\r\n"))


AMBIGUOUS = {
    "a length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "chunks in capitals": b"Transfer-Encoding: CHUNKED\r\n",
    "a length with zeros": b"Content-Length: 0005\r\n",
    "chunks named by Connection": b"Transfer-Encoding: chunked\r\nConnection: transfer-encoding\r\n",
    "a length named by Connection": b"Content-Length: 5\r\nConnection: content-length\r\n",
    "a length and an unknown expectation": b"Content-Length: 5\r\nExpect: 100-CONTINUE\r\n",
}


@pytest.mark.parametrize("fields", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_is_ambiguous_goes_out_with_one_length(fields: bytes) -> None:
    """RFC 9112 §6.1, §6.3, §11.2: two readers must not disagree about where the request ends."""
    event = passed(parse(b"POST / HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n"))
    lengths, codings = values(event, b"content-length"), values(event, b"transfer-encoding")
    assert (lengths, codings) == (([], [b"chunked"]) if b"ransfer" in fields else ([b"5"], []))


# Responses.


def test_a_response_passes_without_the_fields_of_one_hop() -> None:
    """RFC 9110 §7.6.1, §7.6.3."""
    head = parse_response_head(
        b"HTTP/1.1 200 OK\r\nServer: old\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
        b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 5\r\nVia: 1.0 other\r\n"
    )
    assert response_fields(head, UPSTREAM, get()) == [
        ("Server", "old"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("Content-Length", "5"),
        ("Via", "1.0 other, 1.1 kaserve"),
    ]


@pytest.mark.parametrize(
    ("url", "location", "expected"),
    [
        ("http://u:9000", "http://u:9000/x?y", "/x?y"),
        ("http://u:9000", "http://u:9000", "/"),
        ("http://u:9000", "http://u:90001/x", "http://u:90001/x"),
        ("http://u:9000", "https://other/x", "https://other/x"),
        ("http://u:9000", "/x", "/x"),
        ("http://u:9000/v1/", "http://u:9000/v1/x", "/api/x"),
    ],
)
def test_a_location_at_the_upstream_leads_here(url: str, location: str, expected: str) -> None:
    head = parse_response_head(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\n".encode())
    request = get()
    request.mount = "/api"
    fields = response_fields(head, Forwarding(UpstreamURL.parse(url)), request)
    assert dict(fields)["Location"] == expected


def test_interim_responses_pass_their_fields() -> None:
    head = parse_response_head(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nX: 1\r\n")
    assert interim_fields(head) == [("Link", "</a>")]
