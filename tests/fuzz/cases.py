"""The cases of the fuzzers, and what is observed of a build that gets one.

A case knows its input, everything observable that a build does with it, smaller versions of itself, and its text for
the corpus or for a test. It knows neither its origin nor the right result: two builds that agree may both be wrong,
which is what the corpus is for.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from tests.tools.wire import IMPLEMENTATIONS, PURE, Implementation, Outcome, Seen, converse, cut

__all__ = ["BUILDS", "Build", "Case", "Chunks", "Difference", "Fields", "Head", "Pipeline", "compare", "observe"]


class Build:
    """An implementation, with the functions that the fuzzers call as attributes, which is faster. Tests may replace
    some."""

    def __init__(self, implementation: Implementation) -> None:
        wire = implementation.module("wire")
        self.implementation = implementation
        self.name = implementation.name
        self.find_head_end: Callable[[bytes, int], int] = wire.find_head_end
        self.parse_head: Callable[[bytes, int, int], Any] = wire.parse_head
        self.encode_head: Callable[[Sequence[Any]], tuple[bytes, int]] = wire.encode_head
        self.ChunkedDecoder: Callable[[Any], Any] = wire.ChunkedDecoder
        self.HTTPError: type[Any] = implementation.module("errors").HTTPError
        self.limits = implementation.limits()

    def limits_with(self, changes: dict[str, int]) -> Any:
        return self.implementation.limits(**changes) if changes else self.limits


class Case(Protocol):
    def seen_by(self, build: Build) -> object:
        """Returns everything observable, as an object that compares with ==."""

    def smaller(self) -> Iterator[Case]:
        """Yields cases like this one with something left out, the smallest first."""

    def entry(self) -> str:
        """Returns the case as text that can be pasted into the corpus or a test."""


# Heads.


@dataclass(slots=True)
class Head:
    """A complete head, which ends with CRLF as in the contract of `wire`. It is parsed with other bytes around it."""

    wire: bytes

    def seen_by(self, build: Build) -> object:
        start = len(self.wire) % 20
        end = start + len(self.wire)
        data = b"GET / HTTP/1.1\r\nA: "[:start] + self.wire + b"\r\nTransfer-Encoding: too far\r\n\r\n"
        return (
            build.find_head_end(self.wire, 0),
            build.find_head_end(data, start),
            self._parsed(build, data, start, end),
        )

    def _parsed(self, build: Build, data: bytes, start: int, end: int) -> object:
        try:
            request = build.parse_head(data, start, end)
        except build.HTTPError as error:
            return _rejection(error)
        asked = request.values("host"), request.values("connection"), request.values("x"), request.field_count
        lines = request.fields
        return (
            *(request.method, request.target, request.minor, request.flags, request.authority),
            *(request.raw_path, request.query_string, request.scheme, request.client, request.server, request.trailers),
            *(asked, lines, request.http_version),
            {type(text) for line in lines for text in (line, *line)} | {type(request.method), type(request.target)},
        )

    def smaller(self) -> Iterator[Head]:
        for wire in _shorter(self.wire[:-2]):
            yield Head(wire + b"\r\n")

    def entry(self) -> str:
        return Pipeline(self.wire + b"\r\n").entry()


# Chunks.


@dataclass(slots=True)
class Chunks:
    """A chunked body that begins at `start` of the received bytes, and the ways to cut it into pieces."""

    stream: bytes
    start: int
    cuts: Sequence[Sequence[int]]  # for each way the places, sorted
    limits: dict[str, int]

    def seen_by(self, build: Build) -> object:
        limits = build.limits_with(self.limits)
        return [list(self._feed(build, limits, places)) for places in self.cuts]

    def _feed(self, build: Build, limits: Any, places: Sequence[int]) -> Iterator[object]:
        """Yields what is observed after each piece."""
        decoder = build.ChunkedDecoder(limits)
        content = decoder.content
        start = self.start
        for piece in cut(self.stream, places) if places else (self.stream,):
            if start > len(piece):  # the cut is before the body
                start -= len(piece)
                continue
            try:
                stop = decoder.feed(piece, start)
            except build.HTTPError as error:
                yield _rejection(error)
                return
            start = 0
            yield stop, b"".join(content), decoder.missing, decoder.done, list(decoder.trailers)
            content.clear()

    def smaller(self) -> Iterator[Chunks]:
        if len(self.cuts) > 1:
            for places in self.cuts:
                yield replace(self, cuts=[places])
        for stream in _shorter(self.stream):
            cuts = [[place for place in places if place < len(stream)] for places in self.cuts]
            yield Chunks(stream, min(self.start, len(stream)), cuts, self.limits)
        if self.limits:
            yield replace(self, limits={})

    def entry(self) -> str:
        head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        places = [len(head) + place - self.start for place in self.cuts[0]]
        return Pipeline(head + self.stream[self.start :], places, limits=self.limits).entry()


# Fields of a response.


@dataclass(slots=True)
class Fields:
    """Fields for `encode_head`; some may not even be pairs."""

    lines: list[object]

    def seen_by(self, build: Build) -> object:
        try:
            return build.encode_head(self.lines)
        except ValueError as error:
            return str(error)
        except TypeError:
            return TypeError  # the text of Python's own errors differs in C

    def smaller(self) -> Iterator[Fields]:
        for index in range(len(self.lines)):
            yield Fields(self.lines[:index] + self.lines[index + 1 :])

    def entry(self) -> str:
        return f"# for tests/http/test_wire.py\n{self.lines!r}"


# Whole conversations.


@dataclass(slots=True)
class Pipeline:
    """The bytes of a client on one connection, where they are cut, and the settings of the server."""

    wire: bytes
    places: Sequence[int] = ()
    eof: bool = False
    limits: dict[str, int] | None = None
    requests: int = 1000  # the limit of the connection

    def seen_by(self, build: Build) -> object:
        return self._outcome(build.implementation, _handle)

    def _outcome(self, implementation: Implementation, handler: Callable[[Any], Any]) -> Outcome:
        limits = implementation.limits(**self.limits or {})
        keep_alive = implementation.module("keep_alive").KeepAlive(120.0, self.requests)
        pieces = cut(self.wire, self.places)
        return converse(implementation, pieces, eof=self.eof, handler=handler, limits=limits, keep_alive=keep_alive)

    def smaller(self) -> Iterator[Pipeline]:
        for wire in _shorter(self.wire):
            yield replace(self, wire=wire)
        if self.places:
            yield replace(self, places=())
        if self.eof:
            yield replace(self, eof=False)
        if self.limits:
            yield replace(self, limits={})

    def entry(self) -> str:
        """The entry has the result of the pure build, which must be compared with the RFC before it is pasted."""
        outcome = replace(self, requests=1000)._outcome(PURE, _hello)
        values: dict[str, object] = {"name": "?", "rfc": "? §?", "wire": self.wire.decode("latin-1")}
        values["requests"] = [_written(seen) for seen in outcome.requests]
        if outcome.error is not None:
            bodiless = outcome.output.endswith(b"\r\n\r\n")  # the body of an error response ends with one LF
            values |= {"error": outcome.error, "refuses": "HEAD" if bodiless else "GET"}
        values |= {"phase": outcome.phase, "eof": self.eof, "limits": self.limits or {}}
        comment = f"# cut at {list(self.places)}, with at most {self.requests} requests on the connection\n"
        return comment + "[[case]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())


def _hello(request: Any) -> Any:
    return _response_of(request).text("hello")


def _response_of(request: Any) -> Any:
    """Returns the class Response of the build that made `request`."""
    return _RESPONSES[type(request)]


def _handle(request: Any) -> Any:
    """Returns a response of one of the kinds that the protocol frames in different ways; the length of the target
    chooses."""
    response = _response_of(request)
    body = request.body.read()
    request.body.seek(0)
    kind = len(request.target) % 6
    if kind == 0:
        return response(204 if body else 304)
    if kind == 1:
        return response(200, body, {"Content-Type": "text/plain", "Keep-Alive": "not for handlers"})
    if kind == 2:
        return response(200, [b"in pieces: ", body, b"", b"."])
    if kind == 3:
        return response(200, iter([b"counted"]), {"content-length": "7", "Date": "my own"})
    if kind == 4:
        return response(404, b"", {"Connection": "x, Close"})
    return response.text(f"{request.path} {request.query.multi_items()} {request.content_length}")


# Comparing.


@dataclass(slots=True, eq=False)
class Crash:
    """An exception that the contract does not allow. It equals nothing: two builds that crash do not agree."""

    text: str


class Difference(AssertionError):
    """Two builds disagree. `case` is as small as it could be made."""

    def __init__(self, case: Case, seen: Sequence[tuple[str, object]], note: str = "") -> None:
        super().__init__(case, seen, note)
        self.case = case
        self.seen = seen
        self.note = note

    def __str__(self) -> str:
        seen = "\n".join(f"# {name}: {what!r}" for name, what in self.seen)
        return f"the builds differ{self.note}\n\n{seen}\n{self.case.entry()}"


BUILDS = [Build(implementation) for implementation in IMPLEMENTATIONS]
_RESPONSES = {module.Request: module.Response for module in (each.module("messages") for each in IMPLEMENTATIONS)}


def compare(case: Case, builds: Sequence[Build] = BUILDS, note: str = "") -> None:
    """Raises Difference unless all `builds` do the same. `note` becomes part of its text: the seed, for instance."""
    if _differ(case, builds):
        case = _shrunk(case, builds)
        raise Difference(case, [(build.name, observe(case, build)) for build in builds], note)


def observe(case: Case, build: Build) -> object:
    try:
        return case.seen_by(build)
    except Exception:
        return Crash(traceback.format_exc())


def _differ(case: Case, builds: Sequence[Build]) -> bool:
    first, *others = [observe(case, build) for build in builds]
    return isinstance(first, Crash) or any(other != first for other in others)


def _shrunk(case: Case, builds: Sequence[Build]) -> Case:
    """Returns a small case that still shows a difference; not always the smallest."""
    while True:
        smaller = next((each for each in case.smaller() if _differ(each, builds)), None)
        if smaller is None:
            return case
        case = smaller


def _shorter(data: bytes) -> Iterator[bytes]:
    """Yields `data` without some of its bytes: halves first, single bytes last."""
    size = len(data) // 2
    while size:
        for start in range(0, len(data) - size + 1, size):
            yield data[:start] + data[start + size :]
        size //= 2


def _rejection(error: Any) -> tuple[int, str, object]:
    return error.status, error.reason, error.headers


# The format of the corpus.


def _written(seen: Seen) -> dict[str, object]:
    """Returns a request as in the corpus: only the values that are not the defaults."""
    path, _, query = seen.target.partition("?")
    plain = Seen(target=seen.target, path=path, query=query, fields=seen.fields)
    keys = [key.name for key in fields(Seen) if getattr(seen, key.name) != getattr(plain, key.name)]
    target = {"target": seen.target} if seen.target != Seen.target else {}
    return target | {key: getattr(seen, key) for key in keys} | {"fields": seen.fields}


def _toml(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007F")
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, Iterable):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
