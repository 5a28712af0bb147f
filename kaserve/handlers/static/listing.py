"""The listing of a directory: as a page, or as JSON for whoever prefers it.

Knows requests, and which form of a listing they ask for. Does not know how the page looks (`listing_page`), nor what
is in a directory and in which order (`directories`).

The JSON is an array with an object for each entry, sorted as the page would be:

    {"name": "a b.txt", "url": "a%20b.txt", "type": "file", "size": 12, "mtime": "2026-11-21T12:00:00Z"}

`type` is "directory", "file", "link" (one that leads nowhere, or where nobody may follow) or "other" (never served);
`size` is there for files only, `mtime` unless it is unknown, and `"link": true` if there is a symbolic link in between.
JSON has no bytes: in a `name` that is not UTF-8, U+FFFD stands for what is not; its `url` is exact in any case.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Generator, Iterator
from concurrent.futures import Executor
from typing import Any

from ...http.messages import FieldLine, Request, Response
from ...threads.slices import begin
from .directories import Column, Entry, Follow, Kind, Order, open_to_read, read_runs, sort_runs
from .listing_page import CONTENT_SECURITY_POLICY, iso_time, render
from .paths import Tree, encode_name

__all__ = ["answer", "follow_in", "prefers_json"]

# An entry changes without any change to the date of its directory, so there is nothing to know a version by.
_COMMON: list[FieldLine] = [("Vary", "Accept"), ("Cache-Control", "no-cache")]
_PAGE: list[FieldLine] = [
    ("Content-Type", "text/html; charset=utf-8"),
    *_COMMON,
    ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
    ("Referrer-Policy", "same-origin"),
]
_JSON: list[FieldLine] = [("Content-Type", "application/json"), *_COMMON]

_BATCH = 256  # entries of one piece of JSON


def answer(
    request: Request,
    tree: Tree,
    names: tuple[bytes, ...],
    executor: Executor,
    *,
    show_hidden: bool = False,
    offer_zip: bool = False,
    form: str = "",
) -> Response:
    """The listing of the directory at `names` in `tree`; the request's path has to end in a slash.

    A large one is read on the threads of `executor` while it is sent. offer_zip: the page has a link to `?zip`; form:
    HTML for its end.
    Raises OSError as `Tree.open` does, and PermissionError if the directory may be searched, but not read.
    """
    order = _order(request)
    directory = tree.open(names)
    try:
        fd = open_to_read(directory.fd)
    finally:
        os.close(directory.fd)
    runs = read_runs(fd, follow_in(tree, names), show_hidden=show_hidden)
    entries = sort_runs(runs, order)
    if prefers_json(request):
        return Response(200, begin(executor, _closing(fd, _json(entries))), _JSON)
    page = render(names, entries, order, offer_zip=offer_zip, form=form)
    return Response(200, begin(executor, _closing(fd, page)), _PAGE)


def follow_in(tree: Tree, names: tuple[bytes, ...]) -> Follow:
    """How to find out what a link in the directory at `names` leads to: as if it were asked for."""

    def follow(name: bytes) -> os.stat_result:
        opened = tree.open((*names, name), lambda status: True)
        if opened.fd >= 0:
            os.close(opened.fd)
        return opened.status

    return follow


def prefers_json(request: Request) -> bool:
    """Whether JSON is more welcome than HTML (RFC 9110 §12.5.1); whoever is content with both is shown the page."""
    accept = ",".join(request.values("accept"))
    return _quality(accept, "application", "json") > _quality(accept, "text", "html")


_MEDIA_RANGE = re.compile(r"[ \t]*([^\s/;]+)/([^\s/;]+)[ \t]*(;.*)?", re.DOTALL)
_WEIGHT = re.compile(r";[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*(?=;|$)", re.IGNORECASE)


def _quality(accept: str, maintype: str, subtype: str) -> float:
    """The weight of a media type: that of the range which matches it most closely; 0 without any.

    What is no media range is skipped; parameters do not make a difference.
    """
    best, quality = 0, 0.0
    for member in accept.lower().split(","):
        media_range = _MEDIA_RANGE.fullmatch(member)
        if media_range is None:
            continue
        precision = {(maintype, subtype): 3, (maintype, "*"): 2, ("*", "*"): 1}.get((media_range[1], media_range[2]), 0)
        if precision > best:
            weight = _WEIGHT.search(media_range[3] or "")
            best, quality = precision, float(weight[1]) if weight else 1.0
    return quality


def _order(request: Request) -> Order:
    """The order that the query asks for (`?sort=size&order=desc`); what is not understood counts as not there."""
    if not request.query:
        return Order()
    arguments = dict(request.arguments)
    column = _COLUMNS.get(arguments.get("sort", ""), Column.NAME)
    return Order(column, arguments.get("order") == "desc")


_COLUMNS = {column.value: column for column in Column}


def _closing(fd: int, pieces: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
    """`pieces`, and the descriptor closed behind them, also if they are not all taken."""
    try:
        yield from pieces
    finally:
        os.close(fd)


def _json(entries: Iterator[Entry | None]) -> Generator[bytes, None, None]:
    """The array, in pieces."""
    texts: list[str] = []
    before = "["
    for entry in entries:
        if entry is None:
            yield b""
            continue
        texts.append(json.dumps(_json_object(entry), ensure_ascii=False, separators=(",", ":")))
        if len(texts) == _BATCH:
            yield (before + "\n" + ",\n".join(texts)).encode()
            texts.clear()
            before = ","
    rest = before + "\n" + ",\n".join(texts) if texts else before.rstrip(",")
    yield (rest + "\n]\n").encode()


def _json_object(entry: Entry) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": entry.name.decode(errors="replace"),
        "url": encode_name(entry.name) + ("/" if entry.kind is Kind.DIRECTORY else ""),
        "type": entry.kind.value,
    }
    if entry.size is not None:
        described["size"] = entry.size
    moment = "" if entry.modified is None else iso_time(entry.modified)
    if moment:
        described["mtime"] = moment
    if entry.is_link:
        described["link"] = True
    return described
