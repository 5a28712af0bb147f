"""Plans: what a seed asks of the clients and of the servers behind the proxy. Knows messages; does not know sockets."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from random import Random

__all__ = ["ClientPlan", "Ending", "Fate", "RequestPlan", "ServerPlan", "new_clients", "new_server_plan", "payload"]

IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
_METHODS = ("GET", "GET", "GET", "POST", "POST", "HEAD", "PUT", "DELETE", "PATCH")
_SIZES = (0, 1, 5, 100, 3_000, 20_000)


class Fate(enum.Enum):
    """What becomes of a response."""

    WHOLE = "whole"
    CLOSES = "whole, and the server closes"
    NEVER = "never"
    CUT = "cut off by a close"
    RESET = "cut off by a reset"
    EARLY_CLOSE = "a close instead of it"
    GARBAGE = "no HTTP at all"
    STRAY = "whole, with stray bytes after it"
    SILENT_CLOSE = "whole, and the server closes a while later"


class Ending(enum.Enum):
    """How a client leaves."""

    STAYS = "stays"
    HALF_CLOSES = "finishes sending after its last request"
    CLOSES = "closes at some moment"
    RESETS = "resets at some moment"


@dataclass(frozen=True)
class RequestPlan:
    """One request. The target is its name, by which everybody knows it."""

    name: str
    method: str
    wire: bytes
    body: bytes


@dataclass(frozen=True)
class ClientPlan:
    """A client: its requests on one connection, whether it waits for each response, and how it leaves."""

    requests: tuple[RequestPlan, ...]
    pipelines: bool
    ending: Ending


@dataclass(frozen=True)
class ServerPlan:
    """The response to one attempt at a request.

    Attributes:
        status: of the response.
        body: its content.
        framing: "length", "chunked" or "close".
        fate: what becomes of it.
        before_body: whether it comes before the body of the request has been read.
        cut_at: the share of its bytes after which it is cut off, if it is.
        interim: an interim response that comes first.
    """

    status: int
    body: bytes
    framing: str
    fate: Fate
    before_body: bool
    cut_at: float
    interim: bytes


def payload(name: str, size: int) -> bytes:
    """Returns content that belongs to one request alone."""
    mark = name.encode() + b":"
    return (mark * (size // len(mark) + 1))[:size] if size else b""


def new_clients(rng: Random) -> list[ClientPlan]:
    """Returns the clients of a run."""
    return [_new_client(rng, number) for number in range(rng.choice((1, 1, 2, 3)))]


def _new_client(rng: Random, number: int) -> ClientPlan:
    requests = tuple(_new_request(rng, f"/c{number}-r{each}") for each in range(rng.choice((1, 2, 3, 5))))
    ending = rng.choice((Ending.STAYS, Ending.STAYS, Ending.HALF_CLOSES, Ending.CLOSES, Ending.RESETS))
    return ClientPlan(requests, rng.random() < 0.3, ending)


def _new_request(rng: Random, name: str) -> RequestPlan:
    method = rng.choice(_METHODS)
    has_body = method in ("POST", "PUT", "PATCH")
    body = payload(name, rng.choice(_SIZES)) if has_body else b""
    version = "1.0" if rng.random() < 0.1 else "1.1"
    lines = [f"{method} {name} HTTP/{version}", "Host: site"]
    if version == "1.0":
        lines.append("Connection: keep-alive")
    elif rng.random() < 0.1:
        lines.append("Connection: close")
    if has_body and version == "1.1" and rng.random() < 0.4:
        lines.append("Transfer-Encoding: chunked")
        content = _in_chunks(rng, body)
    else:
        content = body
        if has_body:
            lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join((*lines, "", "")).encode()
    return RequestPlan(name, method, head + content, body)


def _in_chunks(rng: Random, body: bytes) -> bytes:
    pieces = []
    while body:
        size = rng.randint(1, len(body))
        pieces.append(b"%x\r\n%b\r\n" % (size, body[:size]))
        body = body[size:]
    return b"".join(pieces) + b"0\r\n\r\n"


def new_server_plan(rng: Random, name: str, method: str, calm: int) -> ServerPlan:
    """Returns what a server responds to an attempt at a request.

    Args:
        rng: decides.
        name: of the request.
        method: of the request.
        calm: how much more often nothing special happens than any of the other things.
    """
    fates = list(Fate)
    fate = rng.choices(fates, [calm if each is Fate.WHOLE else 1 for each in fates])[0]
    status = rng.choice((200, 200, 200, 404, 500, 204, 304))
    size = 0 if status in (204, 304) else rng.choice(_SIZES)
    framing = rng.choice(("length", "length", "chunked", "close"))
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" if rng.random() < 0.05 else b""
    return ServerPlan(status, payload(name, size), framing, fate, rng.random() < 0.1, rng.random(), interim)
