"""Requests as the server reads them, and as an upstream does."""

from __future__ import annotations

from typing import Any

import h11

from kaserve.http.address import Address, AnyAddress
from kaserve.http.keep_alive import KeepAlive
from kaserve.http.limits import Limits
from kaserve.http.messages import Request, Response
from kaserve.http.protocol import HTTPProtocol
from kaserve.http.responses import ResponseHead, parse_response_head
from kaserve.proxy.fields import Forwarding, encode_request
from kaserve.proxy.location import UpstreamURL

PEER = Address("192.0.2.7", 4711)
PLAIN = Forwarding(UpstreamURL.parse("http://127.0.0.1:9000"))


class Owner:
    """The connection of a request."""

    def __init__(self, client: AnyAddress = PEER) -> None:
        self.client = client

    def inform(self, request: Request, response: Response) -> bool:
        return False

    def is_half_closed(self) -> bool:
        return False


def parse(wire: bytes, peer: AnyAddress = PEER) -> Request:
    """Returns the request that the server reads from `wire`, which came from `peer`."""
    protocol = HTTPProtocol(Limits(), KeepAlive(5.0, 100))
    protocol.receive(wire)
    request = protocol.read_head()
    assert request is not None
    request.client = peer
    request.owner = Owner(peer)
    return request


def get(*lines: str, target: str = "/a?b=c", method: str = "GET", peer: AnyAddress = PEER) -> Request:
    head = "\r\n".join([f"{method} {target} HTTP/1.1", "Host: site.example", *lines, "", ""])
    return parse(head.encode("latin-1"), peer)


def mounted(mount: str, raw_path: str, target: str = "/x") -> Request:
    """Returns a request as a handler at the prefix `mount` gets it."""
    request = get(target=target)
    request.mount, request.raw_path = mount, raw_path
    return request


def settings(url: str = "http://127.0.0.1:9000", host: str | None = None) -> Forwarding:
    return Forwarding(UpstreamURL.parse(url), host)


def read_by_h11(wire: bytes) -> h11.Request:
    """Returns the request in `wire`; nothing else may be there."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(wire)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    assert connection.trailing_data[0] == b""
    return event


def passed(request: Request, rules: Forwarding = PLAIN, **options: Any) -> h11.Request:
    """Returns `request` as h11 reads it at the upstream."""
    return read_by_h11(encode_request(request, rules, **options))


def values(event: h11.Request, name: str) -> list[str]:
    return [value.decode("latin-1") for key, value in event.headers if key == name.lower().encode()]


def names(event: h11.Request) -> set[str]:
    return {name.decode() for name, _ in event.headers}


def response_head(*lines: str, status: int = 200) -> ResponseHead:
    data = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status} OK", *lines)).encode("latin-1")
    return parse_response_head(data, 0, len(data))
