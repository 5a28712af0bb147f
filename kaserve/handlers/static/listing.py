"""The listing of a directory: as a page, or as JSON for a client that prefers it or asks for `?json`.

Knows requests, and which form of a listing they ask for. Does not know how the page looks (`listing_page`), nor what is
in a directory and in which order (`directories`).

The JSON is an array with an object for each entry, sorted as the page would be:

    {"name": "a b.txt", "url": "a%20b.txt", "type": "file", "size": 12, "mtime": "2026-11-21T12:00:00Z"}

`type` is "directory", "file", "link" (one that leads nowhere, or where nothing is served) or "other" (never served);
`size` is there for files only, `mtime` unless it is unknown, and `"link": true` if there is a symbolic link in between.
JSON has no bytes: in a `name` that is not UTF-8, U+FFFD replaces what is not; its `url` is exact in any case.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from concurrent.futures import Executor
from typing import Any

from ...http.headers import FieldLine
from ...http.messages import Request, Response
from ...http.negotiation import IDENTITY, choose_coding, prefers_json
from ...threads.slices import begin
from .compress import available_codings, compress_pieces
from .directories import Column, Entry, Follow, Kind, Order, open_to_read, read_runs, sort_runs
from .listing_page import CONTENT_SECURITY_POLICY, WITH_UPLOADS, iso_time, render
from .paths import Segments, Tree, encode_name

__all__ = ["follow_in", "respond_with_listing"]

# An entry can change without any change to the date of its directory, so there is nothing to know a version by.
_COMMON: list[FieldLine] = [("Vary", "Accept, Accept-Encoding")]
_PAGE: list[FieldLine] = [
    ("Content-Type", "text/html; charset=utf-8"),
    *_COMMON,
    ("Referrer-Policy", "same-origin"),
]
_JSON: list[FieldLine] = [("Content-Type", "application/json"), *_COMMON]

_BATCH = 256  # entries in one piece of JSON


def respond_with_listing(
    request: Request,
    tree: Tree,
    segments: Segments,
    executor: Executor,
    *,
    show_hidden: bool = False,
    offer_zip: bool = False,
    form: str = "",
) -> Response:
    """Returns the listing of a directory, in the form and the order that the request asks for.

    Args:
        request: its path has to end in a slash.
        tree: where the directory is.
        segments: of the directory, below `tree`.
        executor: has the threads that read a large directory while its listing is sent.
        show_hidden: whether hidden entries are listed.
        offer_zip: whether the page has a link to `?zip`.
        form: HTML above the entries.

    Raises:
        OSError: as `Tree.open`; PermissionError if the directory may be searched, but not read.
    """
    order = _order(request)
    directory = tree.open(segments)
    try:
        fd = open_to_read(directory.fd)
    finally:
        os.close(directory.fd)
    runs = read_runs(fd, follow_in(tree, segments), show_hidden=show_hidden)
    entries = sort_runs(runs, order)
    if prefers_json(",".join(request.values("accept")), request.query):
        headers, pieces = _JSON, _json(entries)
    else:
        policy = WITH_UPLOADS if form else CONTENT_SECURITY_POLICY
        headers = [*_PAGE, ("Content-Security-Policy", policy)]
        pieces = render(segments, entries, order, offer_zip=offer_zip, form=form)
    # Always, and not only with --compress: a listing is made by us, is all text, and shrinks to a tenth. To compress it
    # takes less time than to make it.
    coding = choose_coding(", ".join(request.values("accept-encoding")), available_codings())
    if coding is not None and coding != IDENTITY:
        headers, pieces = [*headers, ("Content-Encoding", coding)], compress_pieces(pieces, coding)
    return Response(200, begin(executor, _closing(fd, pieces)), headers)


def follow_in(tree: Tree, segments: Segments) -> Follow:
    """Returns a function that follows a link in the directory at `segments`, by the rules for what is served."""

    def follow(name: bytes) -> os.stat_result:
        opened = tree.open((*segments, name), lambda status: True)
        if opened.fd >= 0:
            os.close(opened.fd)
        return opened.status

    return follow


def _order(request: Request) -> Order:
    """The order that the query asks for (`?sort=size&order=desc`); an argument that is not understood is ignored."""
    if not request.query_string:
        return Order()
    arguments = request.query
    column = _COLUMNS.get(arguments.get("sort", ""), Column.NAME)
    return Order(column, arguments.get("order") == "desc")


_COLUMNS = {column.value: column for column in Column}


def _closing(fd: int, pieces: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
    """`pieces`; closes the descriptor after the last one, or when the generator is closed."""
    try:
        yield from pieces
    finally:
        os.close(fd)


def _json(entries: Iterator[Entry | None]) -> Generator[bytes, None, None]:
    """The array, in pieces. A None among the entries is a pause, and makes an empty piece."""
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
    """One entry, as the module describes it."""
    described: dict[str, Any] = {
        "name": entry.name.decode(errors="replace"),
        "url": encode_name(entry.name) + ("/" if entry.kind is Kind.DIRECTORY else ""),
        "type": entry.kind.value,
    }
    if entry.size is not None:
        described["size"] = entry.size
    mtime = "" if entry.modified is None else iso_time(entry.modified)
    if mtime:
        described["mtime"] = mtime
    if entry.is_link:
        described["link"] = True
    return described
