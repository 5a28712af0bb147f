"""What an upstream is told about the client; it may be a kaserve that believes us."""

from __future__ import annotations

import pytest

from kaserve.handlers.middleware.forwarded import Forwarded, Trusted
from kaserve.http.address import UNNAMED, Address, AnyAddress, UnixAddress
from kaserve.http.messages import Request, Response
from kaserve.proxy.forwarded import claims_to_forward
from tests.proxy.messages import PEER, get, mounted, names, parse, passed, settings, values

PROXY = Address("10.0.0.2", 5555)


def through_trusted(*lines: str, peer: AnyAddress = PROXY, trusted: str = "10.0.0.0/8, unix") -> Request:
    """Returns a request that came from a proxy, after the middleware has read what that said."""
    request = get(*lines, peer=peer)
    Forwarded(lambda request: Response(200), Trusted(trusted)).before_body(request)
    return request


def test_the_client_is_our_peer() -> None:
    event = passed(get())
    assert values(event, "X-Forwarded-For") == ["192.0.2.7"]
    assert values(event, "X-Forwarded-Proto") == ["http"]
    assert values(event, "X-Forwarded-Host") == ["site.example"]
    assert values(event, "Forwarded") == ['for=192.0.2.7;host="site.example";proto=http']
    assert values(event, "Via") == ["1.1 kaserve"]


def test_via_is_added_to_what_came() -> None:
    """RFC 9110 §7.6.3: with the version that the message came with."""
    assert values(passed(get("Via: 1.0 fred", "Via: 1.1 joe")), "Via") == ["1.0 fred", "1.1 joe", "1.1 kaserve"]
    assert values(passed(parse(b"GET / HTTP/1.0\r\nHost: h\r\n\r\n")), "Via") == ["1.0 kaserve"]


@pytest.mark.parametrize(
    "name",
    [
        "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix",
        "X-Forwarded-Server", "X-Forwarded-Ssl", "X-Real-IP", "Forwarded", "X_Forwarded_For", "X-Forwarded_For",
        "X_Real_IP", "x_forwarded_anything",
    ],
)  # fmt: skip
def test_a_client_cannot_say_who_it_is(name: str) -> None:
    """Nor in another spelling that CGI and WSGI take for the same."""
    evil = passed(get(f"{name}: for=10.0.0.1", f"{name}: 10.0.0.1", f"Connection: {name}"))
    assert evil.headers == passed(get()).headers


def test_claims() -> None:
    assert claims_to_forward("x-forwarded-for")
    assert claims_to_forward("forwarded")
    assert not claims_to_forward("x-forwarded")
    assert not claims_to_forward("host")


def test_a_trusted_proxy_is_believed_and_added() -> None:
    request = through_trusted(
        "X-Forwarded-For: 203.0.113.9, 198.51.100.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example",
        "X-Forwarded-Port: 443", "X-Real-IP: 198.51.100.1"
    )  # fmt: skip
    event = passed(request)
    assert values(event, "X-Forwarded-For") == ["203.0.113.9, 198.51.100.1, 10.0.0.2"]
    assert values(event, "X-Forwarded-Proto") == ["https"]
    assert values(event, "X-Forwarded-Host") == values(event, "Host") == ["shop.example"]
    assert values(event, "X-Forwarded-Port") == ["443"]
    assert values(event, "X-Real-IP") == ["198.51.100.1"]
    element = 'host="shop.example";proto=https'
    assert values(event, "Forwarded") == [f"for=198.51.100.1;{element}, for=10.0.0.2;{element}"]


def test_a_trusted_proxy_that_sends_forwarded() -> None:
    """RFC 7239."""
    request = through_trusted("Forwarded: for=203.0.113.9, for=198.51.100.1;proto=https;host=shop.example")
    event = passed(request)
    assert values(event, "X-Forwarded-For") == ["198.51.100.1, 10.0.0.2"]
    assert values(event, "Forwarded") == [
        'for=203.0.113.9, for=198.51.100.1;proto=https;host=shop.example, for=10.0.0.2;host="shop.example";proto=https'
    ]


def test_a_trusted_proxy_that_says_nothing_is_the_client() -> None:
    event = passed(through_trusted("X-Forwarded-Port: 443"))
    assert values(event, "X-Forwarded-For") == ["10.0.0.2"]
    assert "x-forwarded-port" not in names(event)  # nothing shows that the proxy has sent it


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["X-Forwarded-For: 198.51.100.1", "X-Forwarded-Proto: https"],
        ["X-Forwarded-For: 203.0.113.9, 198.51.100.1"],
        ["Forwarded: for=203.0.113.9, for=198.51.100.1;proto=https;host=shop.example"],
        ["Forwarded: for=198.51.100.1;proto=https", "X-Forwarded-For: 198.51.100.1"],
    ],
)
@pytest.mark.parametrize("peer", [PROXY, UnixAddress("/run/front.sock")])
def test_a_kaserve_behind_this_one_sees_the_same(lines: list[str], peer: AnyAddress) -> None:
    """Both kinds of fields say the same, or it would believe neither."""
    request = through_trusted(*lines, peer=peer)
    event = passed(request)
    received = [f"{name.decode()}: {value.decode()}" for name, value in event.headers if name != b"host"]
    again = through_trusted(*received, peer=Address("10.0.0.3", 1))
    if request.client.host:
        assert again.client.host == request.client.host
    assert (again.scheme, again.authority) == (request.scheme, request.authority)


@pytest.mark.parametrize(
    ("peer", "chain", "node"),
    [
        (Address("2001:db8::1", 1), ["2001:db8::1"], '"[2001:db8::1]"'),  # RFC 7239 §6
        (Address("fe80::1%eth0", 1), ["fe80::1"], '"[fe80::1]"'),  # a zone means something on this machine only
        (Address("::ffff:192.0.2.9", 1), ["192.0.2.9"], "192.0.2.9"),  # a socket for both versions
        (UnixAddress("/run/front.sock"), [], "unknown"),  # RFC 7239 §6.2
        (UNNAMED, [], "unknown"),
    ],
)
def test_addresses(peer: AnyAddress, chain: list[str], node: str) -> None:
    event = passed(get(peer=peer))
    assert values(event, "X-Forwarded-For") == chain
    assert values(event, "Forwarded") == [f'for={node};host="site.example";proto=http']


def test_a_request_without_a_host() -> None:
    """RFC 9112 §3.2: HTTP/1.0 knows none."""
    event = passed(parse(b"GET / HTTP/1.0\r\n\r\n"))
    assert "x-forwarded-host" not in names(event)
    assert values(event, "Forwarded") == ["for=192.0.2.7;proto=http"]
    assert values(event, "Host") == ["127.0.0.1:9000"]


def test_a_request_on_no_connection() -> None:
    request = get("X-Forwarded-For: 10.0.0.1")
    request.owner = None
    assert values(passed(request), "X-Forwarded-For") == [PEER.host]


def test_the_prefix_that_was_taken_off() -> None:
    """So that an upstream can make URLs that work for the client; if the prefix is still there, it need not know."""
    request = mounted("/api", "/x")
    assert values(passed(request, settings("http://u/v1")), "X-Forwarded-Prefix") == ["/api"]
    assert values(passed(request, settings("http://u")), "X-Forwarded-Prefix") == []
    request = through_trusted("X-Forwarded-For: 198.51.100.1", "X-Forwarded-Prefix: /outer/")
    request.mount = "/api"
    assert values(passed(request, settings("http://u/v1")), "X-Forwarded-Prefix") == ["/outer/api"]
    assert values(passed(request, settings("http://u")), "X-Forwarded-Prefix") == ["/outer/"]


def test_what_is_remembered_is_remembered_by_everything_it_depends_on() -> None:
    rules = settings("http://u/v1")
    first = passed(mounted("/a", "/x"), rules)
    assert values(first, "X-Forwarded-Prefix") == ["/a"]
    assert values(passed(mounted("/b", "/x"), rules), "X-Forwarded-Prefix") == ["/b"]
    request = mounted("/a", "/x")
    request.scheme = "https"
    assert values(passed(request, rules), "X-Forwarded-Proto") == ["https"]
    assert passed(mounted("/a", "/x"), rules).headers == first.headers
