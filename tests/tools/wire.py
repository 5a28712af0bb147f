"""Tools for tests of the wire: the corpus, conversations without sockets, and a strict reader of responses.

The corpus (`tests/corpus/*.toml`) says what bytes must mean, and knows no implementation. `converse` drives an
HTTPProtocol as a connection does. The implementation is a parameter, so that each case runs on every build.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import kaserve
from kaserve._build import load_sources

CORPUS = Path(__file__).parent.parent / "corpus"

FieldLine = tuple[str, str]

# Implementations.


@dataclass(frozen=True)
class Implementation:
    """One build of the http package, by its name. Each has its own classes, errors and limits."""

    name: str
    package: str

    def module(self, name: str) -> ModuleType:
        return import_module(f"{self.package}.{name}")

    def phase(self, protocol: Any) -> str:
        return str(self.module("phases").Phase(protocol.phase).name)

    def limits(self, **changes: int) -> Any:
        return self.module("limits").Limits(**changes)

    def protocol(self, limits: Any = None, keep_alive: Any = None) -> Any:
        keep_alive = keep_alive or self.module("keep_alive").KeepAlive(120.0, 1000)
        return self.module("protocol").HTTPProtocol(limits or self.limits(), keep_alive)

    def __repr__(self) -> str:
        return self.name


def _builds() -> list[Implementation]:
    if kaserve.IMPLEMENTATION == "pure":
        return [Implementation("pure", "kaserve.http")]
    load_sources("kaserve_pure")
    return [Implementation("pure", "kaserve_pure.http"), Implementation("compiled", "kaserve.http")]


# The available builds. Tests use the fixture `implementation`, which is each of them in turn.
IMPLEMENTATIONS = _builds()
PURE = IMPLEMENTATIONS[0]


# Conversations.


@dataclass(frozen=True)
class Seen:
    """A request as a handler sees it, and whether the response kept the connection."""

    method: str = "GET"
    target: str = "/"
    path: str = "/"  # still percent-encoded
    query: str = ""
    authority: str = "h"
    minor: int = 1
    fields: tuple[FieldLine, ...] = ()
    trailers: tuple[FieldLine, ...] = ()
    body: str = ""  # as Latin-1
    persists: bool = True


@dataclass
class Outcome:
    """The result of a conversation; comparable, so that two builds or two ways to cut the bytes can be compared."""

    requests: list[Seen] = field(default_factory=list)
    error: int | None = None
    phase: str = "IDLE"
    output: bytes = b""
    most_held: int = field(default=0, compare=False)  # bytes received that were not read yet, after a turn


DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


def hello(request: Any) -> Any:
    """The handler of most tests: 200 with a few bytes."""
    return import_module(f"{type(request).__module__}").Response.text("hello")


def converse(
    implementation: Implementation,
    pieces: Iterable[bytes],
    *,
    eof: bool = False,
    handler: Callable[[Any], Any] = hello,
    limits: Any = None,
    keep_alive: Any = None,
) -> Outcome:
    """Feeds `pieces` to a new protocol, and responds as a connection does, until they or it end."""
    protocol = implementation.protocol(limits, keep_alive)
    outcome = Outcome()
    for piece in (*pieces, b"") if eof else pieces:
        protocol.receive(piece)
        take_turn(implementation, protocol, handler, outcome)
        outcome.most_held = max(outcome.most_held, held(protocol))
        if implementation.phase(protocol) in ("LINGER", "CLOSED"):
            break
    outcome.phase = implementation.phase(protocol)
    protocol.close()
    return outcome


def take_turn(implementation: Implementation, protocol: Any, handler: Callable[[Any], Any], outcome: Outcome) -> None:
    """Reads and responds for as long as the bytes that were received allow."""
    errors = implementation.module("errors")
    messages = implementation.module("messages")
    while True:
        request = None
        try:
            if implementation.phase(protocol) in ("IDLE", "HEAD") and protocol.read_head() is None:
                return
            if implementation.phase(protocol) == "BODY" and not protocol.read_body():
                return
            request = protocol.request
            response = handler(request)
        except errors.HTTPError as error:
            if request is None:
                outcome.error = error.status
            response = messages.error_response(error)
        seen = None if request is None else _seen(request)
        head, content = send(protocol, response)
        outcome.output += head + content
        if seen is not None:
            outcome.requests.append(replace(seen, persists=b"\r\nConnection: close\r\n" not in head))
        protocol.finish()
        if implementation.phase(protocol) != "IDLE":
            return


def new_outgoing(protocol: Any) -> Any:
    """An Outgoing of the same build as `protocol`."""
    package = type(protocol).__module__.rpartition(".")[0]
    return import_module(f"{package}.outgoing").Outgoing()


def send(protocol: Any, response: Any, may_persist: bool = True) -> tuple[bytes, bytes]:
    """Head and body of an answer as they go on the wire."""
    outgoing = new_outgoing(protocol)
    protocol.prepare(outgoing, response, DATE, may_persist)
    protocol.start(outgoing)
    head, end, content = outgoing.head.partition(b"\r\n\r\n")
    if isinstance(response.body, bytes):
        if outgoing.has_content and not outgoing.is_inline:
            content = outgoing.encode(response.body) + outgoing.end()
        assert content == (response.body if outgoing.has_content else b"")
    elif outgoing.has_content:
        content += b"".join(outgoing.encode(piece) for piece in response.body if piece) + outgoing.end()
    return head + end, content


def held(protocol: Any) -> int:
    """Returns how many received bytes the protocol keeps. (Private attributes: memory is what the test is about.)"""
    decoder = protocol._decoder
    return len(protocol._received) + len(getattr(decoder, "_held", b""))


def _seen(request: Any) -> Seen:
    return Seen(
        request.method,
        request.target,
        request.raw_path,
        request.query_string,
        request.authority,
        request.minor,
        tuple(request.fields),
        tuple(request.trailers),
        request.body.read().decode("latin-1"),
    )


# Ways to cut a stream into pieces.


def whole(wire: bytes) -> list[bytes]:
    return [wire] if wire else []


def bytewise(wire: bytes) -> list[bytes]:
    """Single bytes; larger pieces of a long stream, so that there are some thousand at most."""
    step = max(1, len(wire) // 12_000)
    return [wire[start : start + step] for start in range(0, len(wire), step)]


def at_random(wire: bytes, rng: random.Random) -> list[bytes]:
    """A few pieces of any size."""
    return cut(wire, sorted(rng.randrange(len(wire) + 1) for _ in range(rng.randrange(1, 9))))


def cut(wire: bytes, places: Iterable[int]) -> list[bytes]:
    """Pieces that end at `places`, which are sorted; none of them is empty."""
    pieces, start = [], 0
    for place in (*places, len(wire)):
        if start < place <= len(wire):
            pieces.append(wire[start:place])
            start = place
    return pieces


# The corpus.


@dataclass(frozen=True)
class Case:
    """Bytes from a client, and what they must mean. See tests/corpus/README.md for how it is written."""

    group: str
    name: str
    rfc: str
    wire: bytes
    requests: tuple[Seen, ...] = ()
    checks_fields: tuple[bool, ...] = ()  # of each request, whether the case says which fields it has
    error: int | None = None
    refuses: str = "GET"  # the method of the refused request
    phase: str = "IDLE"
    eof: bool = False
    limits: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return f"{self.group}: {self.name}".replace(" ", "_")

    def check(self, outcome: Outcome, before: tuple[Seen, ...] = ()) -> None:
        """Raises AssertionError unless `outcome` is the right one for this case after the requests `before`."""
        shown = [
            seen if checked else replace(seen, fields=())
            for seen, checked in zip(
                outcome.requests, (False,) * len(before) + self.checks_fields + (True,) * 99, strict=False
            )
        ]
        found = Outcome(shown, outcome.error, outcome.phase)
        assert found == Outcome([*before, *self.requests], self.error, self.phase), f"{self}: {self.wire[:300]!r}"
        methods = [seen.method for seen in outcome.requests]
        answers = read_answers(outcome.output, [*methods, self.refuses] if self.error else methods)
        assert [answer.status for answer in answers] == [200] * len(methods) + ([self.error] if self.error else [])
        persistent = [seen.persists for seen in outcome.requests] + ([False] if self.error else [])
        assert [answer.persists for answer in answers] == persistent


def load_corpus() -> list[Case]:
    """Returns all cases of all files, in order."""
    return [case for path in sorted(CORPUS.glob("*.toml")) for case in load_group(path)]


def load_group(path: Path) -> Iterator[Case]:
    for written in tomllib.loads(path.read_text())["case"]:
        rows = written.pop("rows", None)
        if rows is None:
            yield _case(path.stem, written)
        else:
            for name, text, *changes in rows:
                row = _filled(written, text) | (changes[0] if changes else {})
                yield _case(path.stem, row | {"name": f"{written['name']}: {name}"})


def _filled(written: Any, text: Any) -> Any:
    """Returns `written` with `text` in place of every {}."""
    if isinstance(written, dict):
        return {key: _filled(value, text) for key, value in written.items()}
    if written == "{}":
        return text
    if isinstance(written, list):
        return [part for each in written for part in (_parts(text) if each == "{}" else [_filled(each, text)])]
    if isinstance(written, str) and "{}" in written:
        return written.replace("{}", text) if isinstance(text, str) else _around(written, text)
    return written


def _around(written: str, parts: Any) -> list[Any]:
    front, _, back = written.partition("{}")
    return [front, *_parts(parts), back]


def _parts(text: Any) -> list[Any]:
    return text if isinstance(text, list) else [text]


def _case(group: str, written: dict[str, Any]) -> Case:
    requests = written.pop("requests", [])
    error = written.pop("error", None)
    eof = written.pop("eof", False)
    seen = tuple(_expected(request) for request in requests)
    stays = error is None and all(request.persists for request in seen)
    return Case(
        group,
        name=written.pop("name"),
        rfc=written.pop("rfc"),
        wire=_wire(written.pop("wire")),
        requests=seen,
        checks_fields=tuple("fields" in request for request in requests),
        error=error,
        phase=written.pop("phase", ("CLOSED" if eof else "IDLE") if stays else "LINGER"),
        eof=eof,
        limits=tuple(written.pop("limits", {}).items()),
        **written,  # empty by now, unless a key is misspelt
    )


def _expected(written: dict[str, Any]) -> Seen:
    """Returns a request of a case. The default path is the target up to the question mark."""
    path, _, query = _text(written.get("target", "/")).partition("?")
    parts: dict[str, Any] = {"path": path, "query": query}
    for key, value in written.items():
        if key in ("fields", "trailers"):
            parts[key] = tuple((name, _text(text)) for name, text in value)
        else:
            parts[key] = _text(value) if isinstance(value, list) else value
    return Seen(**parts)


def _text(parts: Any) -> str:
    """A text, or a list of texts and of `{repeat = TEXT, times = N}`."""
    return "".join(part if isinstance(part, str) else _text(part["repeat"]) * part["times"] for part in _parts(parts))


def _wire(parts: Any) -> bytes:
    return _text(parts).encode("latin-1")


# Responses, read by the letter of RFC 9112 and without any code of kaserve.


@dataclass(frozen=True)
class Answer:
    minor: int
    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes
    framing: str  # "none", "length", "chunked" or "close"
    trailers: tuple[str, ...] = ()  # as lines

    @property
    def persists(self) -> bool:
        return "close" not in self.values("connection")

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]

    def value(self, name: str) -> str:
        (value,) = self.values(name)
        return value


def read_answers(output: bytes, methods: Iterable[str]) -> list[Answer]:
    """Returns the responses in `output` to requests with `methods`. Raises AssertionError if any byte is wrong or
    left."""
    answers = []
    rest = output
    for method in methods:
        answer, rest = _read_answer(rest, method)
        answers.append(answer)
    assert rest == b"", f"bytes that belong to no response: {rest[:100]!r}"
    return answers


def _read_answer(data: bytes, method: str) -> tuple[Answer, bytes]:
    head, found, rest = data.partition(b"\r\n\r\n")
    assert found, f"a response without an end of its head: {data[:100]!r}"
    status_line, *lines = head.decode("latin-1").split("\r\n")
    assert re.fullmatch(r"HTTP/1\.[01] [2-5][0-9]{2} [ -~]*", status_line), "RFC 9112 §4"
    status = int(status_line[9:12])
    fields = []
    for line in lines:
        name, colon, value = line.partition(": ")
        assert colon, line
        assert re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name), f"RFC 9110 §5.1: {line}"
        assert re.fullmatch(r"[\t -~\x80-\xff]*", value), f"RFC 9110 §5.5: {line}"
        assert value == value.strip(" \t"), f"RFC 9112 §5: {line}"
        fields.append((name.lower(), value))
    answer = Answer(int(status_line[7]), status, tuple(fields), b"", "none")
    lengths, codings = answer.values("content-length"), answer.values("transfer-encoding")
    assert len(answer.values("date")) == 1, "one Date, RFC 9110 §6.6.1"
    assert len(answer.values("connection")) == 1
    assert len(lengths) + len(codings) <= 1, "at most one framing, RFC 9112 §6.2"
    if method == "HEAD" or status in (204, 304):  # RFC 9112 §6.3 step 1
        assert not codings, "none is needed, RFC 9112 §6.1"
        assert status != 204 or not lengths, "RFC 9110 §8.6"
        return answer, rest
    if codings:
        assert codings == ["chunked"]
        assert answer.minor == 1
        body, trailers, rest = _read_chunks(rest)
        return replace(answer, body=body, framing="chunked", trailers=trailers), rest
    if lengths:
        length = int(lengths[0])
        assert len(rest) >= length, "fewer bytes than announced"
        return replace(answer, body=rest[:length], framing="length"), rest[length:]
    assert not answer.persists, "this response ends when the connection closes"
    return replace(answer, body=rest, framing="close"), b""


def _read_chunks(data: bytes) -> tuple[bytes, tuple[str, ...], bytes]:
    body = b""
    while True:
        line, found, data = data.partition(b"\r\n")
        assert found, "no end of a chunk size"
        assert re.fullmatch(rb"[0-9A-Fa-f]+", line), f"RFC 9112 §7.1: {line!r}"
        size = int(line, 16)
        if size == 0:
            break
        piece, end, data = data[:size], data[size : size + 2], data[size + 2 :]
        assert len(piece) == size
        assert end == b"\r\n"
        body += piece
    trailers: list[str] = []
    while True:
        line, found, data = data.partition(b"\r\n")
        assert found, "no end of the trailer section"
        if not line:
            return body, tuple(trailers), data
        trailers.append(line.decode("latin-1"))
