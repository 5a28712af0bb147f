"""The rules that must hold in every history, as functions of what each side has seen. They raise AssertionError.

- A client gets the responses to its requests, in their order, each once; then perhaps a part of another one that it can
  tell from a whole, and the end of the connection. No response belongs to another request.
- A response of a server behind the proxy arrives as it was sent, or not as a whole.
- A request that may not be repeated reaches a server at most once, others at most twice, and then on a new connection;
  and each with its own body.
- In the end nothing is left: no connection, no timer, no descriptor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tests.simulator.plan import IDEMPOTENT, RequestPlan

__all__ = ["Received", "Seen", "Sent", "check_client", "check_servers", "read_responses"]

OWN_STATUSES = frozenset({400, 408, 411, 413, 417, 431, 501, 502, 503, 504})


class Received(NamedTuple):
    """A response as a client has got it; with the name of the request that a server has put into it, if one has."""

    status: int
    body: bytes
    is_whole: bool
    name: str = ""


class Seen(NamedTuple):
    """A request as a server has got it; whole, or as far as it came. position: how many requests came before it on its
    connection; order: how many on all."""

    name: str
    method: str
    body: bytes
    is_whole: bool
    position: int = 0
    order: int = 0


class Sent(NamedTuple):
    """A response that a server has begun to send."""

    status: int
    body: bytes


def read_responses(data: bytes, methods: Sequence[str], *, ended_in_order: bool) -> list[Received]:
    """Reads what a client has received.

    Args:
        data: all bytes.
        methods: of its requests.
        ended_in_order: whether the connection has ended without a reset: only then is a response whole that is
            delimited by that.
    """
    found: list[Received] = []
    while data:
        assert len(found) < len(methods), f"a response nobody has asked for: {data[:80]!r}"
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            found.append(Received(0, b"", False))
            break
        lines = head.split(b"\r\n")
        assert lines[0].startswith(b"HTTP/1.1 "), lines[0]
        status = int(lines[0][9:12])
        if status < 200:
            data = rest
            continue
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
        body, data, is_whole = _read_body(status, fields, methods[len(found)], rest, ended_in_order)
        found.append(Received(status, body, is_whole, fields.get(b"x-name", b"").decode()))
        if not is_whole:
            assert not data
    return found


def _read_body(
    status: int, fields: Mapping[bytes, bytes], method: str, rest: bytes, ended_in_order: bool
) -> tuple[bytes, bytes, bool]:
    """Returns the body, what follows it, and whether it is whole."""
    # A 408 is for a request that has not come, so the server does not know that it is a HEAD.
    if (method == "HEAD" and status != 408) or status in (204, 304):
        return b"", rest, True
    if b"transfer-encoding" in fields:
        return _read_chunks(rest)
    if b"content-length" in fields:
        size = int(fields[b"content-length"])
        return rest[:size], rest[size:], len(rest) >= size
    return rest, b"", ended_in_order


def _read_chunks(rest: bytes) -> tuple[bytes, bytes, bool]:
    body = b""
    while True:
        line, end, after = rest.partition(b"\r\n")
        if not end:
            return body, b"", False
        size = int(line, 16)
        if size == 0:
            _, end, after = (b"\r\n" + after).partition(b"\r\n\r\n")
            return body, after, bool(end)
        if len(after) < size + 2:
            return body + after[:size], b"", False
        assert after[size : size + 2] == b"\r\n"
        body += after[:size]
        rest = after[size + 2 :]


def check_client(
    requests: Sequence[RequestPlan],
    received: Sequence[Received],
    sent: Mapping[str, Sequence[Sent]],
    *,
    has_ended: bool,
    has_asked_all: bool,
) -> None:
    """Checks what one client has got.

    Args:
        requests: what it was to ask, in order.
        received: what it has got.
        sent: what servers have responded, by the name of the request.
        has_ended: whether the connection has ended as the client sees it, or the client has ended it.
        has_asked_all: whether all of its requests have left.
    """
    for request, response in zip(requests, received, strict=False):
        if response.is_whole:
            check_response(request, response, sent.get(request.name, ()))
    whole = [response for response in received if response.is_whole]
    assert all(response.is_whole for response in received[:-1]), "something came after a part of a response"
    assert has_ended or (has_asked_all and len(whole) == len(requests)), "a request without a response, and no end"


def check_response(request: RequestPlan, response: Received, sent: Sequence[Sent]) -> None:
    """Checks a whole response: it is one that a server has sent to this request, or an error of the proxy."""
    assert response.name in ("", request.name), f"{request.name} got the response to {response.name}"
    for each in sent:
        if response.status == each.status and response.body == (b"" if request.method == "HEAD" else each.body):
            return
    shown = f"{request.name}: {response.status} {response.body[:50]!r}"
    assert response.status in OWN_STATUSES, f"{shown} was sent by no server"
    assert b"/c" not in response.body, f"{shown} is an error of the proxy with content"


def check_servers(requests: Mapping[str, RequestPlan], seen: Sequence[Seen]) -> None:
    """Checks what the servers behind the proxy have got."""
    for name, count in Counter(each.name for each in seen).items():
        assert name in requests, f"nobody has asked for {name}"
        most = 2 if requests[name].method in IDEMPOTENT else 1
        assert count <= most, f"{requests[name].method} {name} was sent {count} times"
    first: dict[str, Seen] = {}
    for each in sorted(seen, key=lambda each: each.order):
        if first.setdefault(each.name, each) is not each:
            assert each.position == 0, f"{each.name} was sent again on a connection that was not new"
    for each in seen:
        request = requests[each.name]
        assert each.method == request.method
        if each.is_whole:
            assert each.body == request.body, f"{each.name}: the body arrived as {each.body[:50]!r}"
        else:
            assert request.body.startswith(each.body), f"{each.name}: a part of the body arrived as {each.body[:50]!r}"
