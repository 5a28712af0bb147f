"""The scope: what depends on the request and on the settings. The rest is in test_application."""

from __future__ import annotations

from kaserve import Request
from kaserve.asgi.scope import ScopeBuilder
from kaserve.http.address import Address, UnixAddress
from kaserve.http.wire import parse_head


def request(target: str = "/") -> Request:
    return Request("GET", target, 1, [("host", "h"), ("x-latin", "caf\xe9")])


def test_headers_are_the_bytes_that_came() -> None:
    """Also when a middleware has replaced them."""
    head = b"GET / HTTP/1.1\r\nHost: h\r\nX-Latin: caf\xe9\r\nX-Long: " + b"x" * 1000 + b"\r\n"
    for _ in range(2):  # the second time from the cache of the compiled parser
        scope = ScopeBuilder().build(parse_head(head, 0, len(head)))
        assert scope["headers"] == [(b"host", b"h"), (b"x-latin", b"caf\xe9"), (b"x-long", b"x" * 1000)]
    assert ScopeBuilder().build(request())["headers"] == [(b"host", b"h"), (b"x-latin", b"caf\xe9")]


def test_raw_and_decoded_headers_agree_in_either_order() -> None:
    head = b"GET / HTTP/1.1\r\nX-Order: 1\r\n"
    first = parse_head(head, 0, len(head))
    assert (first.raw_fields(), first.fields) == ([(b"x-order", b"1")], [("x-order", "1")])
    second = parse_head(head, 0, len(head))
    assert (second.fields, second.raw_fields()) == ([("x-order", "1")], [(b"x-order", b"1")])


def test_each_application_may_change_its_scope() -> None:
    builder = ScopeBuilder()
    builder.state = {"a": 1}
    first = builder.build(request())
    first["state"]["a"] = first["asgi"]["version"] = 0
    first["extensions"].clear()
    second = builder.build(request())
    assert (second["state"], second["asgi"]["version"]) == ({"a": 1}, "3.0")
    assert "http.response.pathsend" in second["extensions"]


def test_the_ends_of_the_connection() -> None:
    """The specification: host and port; for a Unix socket its path and None, and nothing for a client without one."""
    made = request()
    made.client, made.server = Address("192.0.2.1", 80), UnixAddress("/run/site")
    scope = ScopeBuilder().build(made)
    assert (scope["client"], scope["server"]) == (("192.0.2.1", 80), ("/run/site", None))
    made.client = UnixAddress("")
    assert ScopeBuilder().build(made)["client"] is None


def test_the_server_as_a_whole() -> None:
    """RFC 9112 §3.2.4: the target of OPTIONS is not a path then."""
    scope = ScopeBuilder().build(request("*"))
    assert (scope["path"], scope["raw_path"]) == ("*", b"*")
