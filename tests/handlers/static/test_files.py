"""Files: the responses to what is in a directory. Requests are parsed as the server does it; there are no sockets."""

from __future__ import annotations

import errno
import io
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaserve.handlers import Files
from kaserve.handlers.static.site_headers import SiteHeaders
from kaserve.http.dates import format_date
from kaserve.http.errors import HTTPError
from kaserve.http.framing import response_framing
from kaserve.http.headers import CONTENT_LENGTH
from kaserve.http.messages import Request
from kaserve.http.wire import encode_head
from tests.tools.files import MODIFIED, NAMES, NOW, SMALL, ReceivedResponse, ask, parse, write
from tests.tools.ids import readable


@pytest.fixture(autouse=True)
def _leaks() -> Iterator[None]:
    """Every descriptor that a test opens is closed at its end."""
    before = len(os.listdir("/dev/fd"))
    yield
    assert len(os.listdir("/dev/fd")) <= before


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """An empty directory; tmp_path/outside/secret and tmp_path/site-old/secret are not in it."""
    for path in ("outside/secret", "site-old/secret"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text("secret")
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


@pytest.fixture
def files(site: Path) -> Iterator[Files]:
    files = Files(site, clock=lambda: NOW)
    yield files
    files.close()


# Files


@pytest.mark.parametrize("size", [0, 1, 1024, SMALL, SMALL + 1, 1_000_000])
def test_a_file_is_served_whole(site: Path, files: Files, size: int) -> None:
    content = os.urandom(size)
    write(site / "a.bin", content)
    answer = ask(files, "/a.bin")
    assert (answer.status, answer.body) == (200, content)


def test_the_headers_of_a_file(site: Path, files: Files) -> None:
    write(site / "page.html")
    answer = ask(files, "/page.html")
    assert answer.names == NAMES  # length and date are the server's
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["last-modified"] == "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize("size", [0, 10, SMALL + 1, 1_000_000])
def test_head_is_get_without_the_content(site: Path, files: Files, size: int) -> None:
    """RFC 9110 §9.3.2: the same fields, the length among them."""
    write(site / "a.txt", b"x" * size)
    get, head = parse("/a.txt"), parse("/a.txt", "HEAD")
    lengths, fields = [], []
    for request in (get, head):
        response = files(request)
        _, flags = encode_head(response.fields)
        lengths.append(response_framing(response, flags & CONTENT_LENGTH != 0, request is get, False))
        fields.append([line for line in response.fields if line[0] != "Content-Length"])
        response.close()
    assert lengths == [size, size]
    assert fields[0] == fields[1]


def test_a_response_may_be_changed_without_changing_the_next(site: Path, files: Files) -> None:
    write(site / "a.txt")
    response = files(parse("/a.txt"))
    response.headers.add("X-Mine", "1")
    assert ask(files, "/a.txt").names == NAMES


def test_the_query_and_the_body_of_a_request_do_not_matter(site: Path, files: Files) -> None:
    write(site / "a.txt")
    request = parse("/a.txt?v=1&x=%2e%2e", "GET", "Content-Length: 4")
    request.body = io.BytesIO(b"body")
    files.before_body(request)
    assert ReceivedResponse(files(request)).body == b"content"


def test_absolute_form(site: Path, files: Files) -> None:
    """RFC 9112 §3.2.2."""
    write(site / "a.txt")
    assert ask(files, "http://example.com/a.txt?x").body == b"content"


@pytest.mark.parametrize(
    "name", ["ä.txt", "a b.txt", "100%.txt", "#1?.txt", "a\nb.txt", "-rf.txt", "c:d.txt", "\udcff.txt"]
)
def test_names_of_all_kinds(site: Path, files: Files, name: str) -> None:
    write(site / name)
    target = "/" + "".join(f"%{byte:02x}" for byte in os.fsencode(name))
    assert ask(files, target).body == b"content"


# Validators, RFC 9110 §8.8


def test_the_tag_is_strong_and_changes_with_the_file(site: Path, files: Files) -> None:
    """RFC 9110 §8.8.3."""
    tags = set()
    path = site / "a.txt"
    for content, modified in [("1", 0), ("12", 0), ("1", 1), ("1", 1.0001), ("1", -1.5), ("2", -1.5)]:
        write(path, content, modified)
        tag = ask(files, "/a.txt").headers["etag"]
        assert tag[0] == tag[-1] == '"'
        assert tag == ask(files, "/a.txt").headers["etag"]
        tags.add(tag)
    write(site / "b.txt", "1", -1.5)
    os.replace(site / "b.txt", path)  # another file of the same size and time
    tags.add(ask(files, "/a.txt").headers["etag"])
    assert len(tags) == 7


@pytest.mark.parametrize(
    ("modified", "expected"),
    [
        (MODIFIED + 0.999, MODIFIED),  # fractions are cut off, never rounded up
        (NOW, NOW),
        (NOW + 0.5, NOW),
        (NOW + 1e6, NOW),
    ],
)
def test_last_modified_is_never_in_the_future(site: Path, files: Files, modified: float, expected: float) -> None:
    """RFC 9110 §8.8.2.1."""
    write(site / "a.txt", modified=modified)
    assert ask(files, "/a.txt").headers["last-modified"] == format_date(expected)


@pytest.mark.parametrize("modified", [0, 1, -1, 315_532_800, 315_619_200, 499_162_500])
def test_the_date_of_a_reproducible_build_is_not_sent(site: Path, files: Files, modified: float) -> None:
    """Containers say 0, Nix 1, zip 1980, npm 1985; an edit keeps it. The tag still tells versions apart."""
    write(site / "a.txt", "old", modified)
    old = ask(files, "/a.txt")
    assert old.names == NAMES - {"Last-Modified"}
    since = "If-Modified-Since: " + format_date(max(modified, 0))
    assert ask(files, "/a.txt", "GET", since).status == 200
    assert ask(files, "/a.txt", "GET", f"If-None-Match: {old.headers['etag']}").status == 304
    assert ask(files, "/a.txt", "GET", "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT").status == 200  # §13.1.4
    ranged = ask(files, "/a.txt", "GET", "Range: bytes=0-0", "If-Range: " + format_date(max(modified, 0)))
    assert ranged.status == 200  # §13.1.5: without a date of its own the file does not match
    write(site / "a.txt", "new", modified)
    changed = ask(files, "/a.txt", "GET", f"If-None-Match: {old.headers['etag']}")
    assert (changed.status, changed.body) == (200, b"new")


def test_a_date_in_the_future_goes_with_the_time(site: Path) -> None:
    write(site / "a.txt", modified=NOW + 10)
    now = NOW
    files = Files(site, clock=lambda: now)
    for seconds, expected in ((0, 0), (5, 5), (10, 10), (20, 10), (7, 7)):  # at last the clock is set back
        now = NOW + seconds
        assert ask(files, "/a.txt").headers["last-modified"] == format_date(NOW + expected)
    files.close()


def test_a_year_that_http_cannot_write_is_left_out(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(site / "a.txt")
    files = Files(site, clock=lambda: 1e12)
    really_fstat = os.fstat

    def fstat(fd: int) -> os.stat_result:
        status = really_fstat(fd)
        if not os.path.isfile(f"/dev/fd/{fd}"):
            return status
        values = list(status)
        values[8] = 10**12 - 1
        return os.stat_result(values, {"st_mtime": 1e12 - 1, "st_mtime_ns": (10**12 - 1) * 10**9, "st_ctime_ns": 0})

    monkeypatch.setattr(os, "fstat", fstat)
    answer = ask(files, "/a.txt", "GET", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT")
    assert answer.status == 200
    assert answer.names == NAMES - {"Last-Modified"}
    files.close()


# Conditions, RFC 9110 §13; their own tables are those of test_apps_conditional


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("size", [0, 10, SMALL + 1])
def test_304_for_both_validators(site: Path, files: Files, method: str, size: int) -> None:
    """RFC 9110 §15.4.5: it has the fields that caches need, and no others."""
    write(site / "a.html", b"x" * size)
    headers = ask(files, "/a.html").headers
    for condition in (f"If-None-Match: {headers['etag']}", f"If-Modified-Since: {headers['last-modified']}"):
        answer = ask(files, "/a.html", method, condition)
        assert (answer.status, answer.body) == (304, b"")
        assert answer.fields == [("ETag", headers["etag"]), ("Cache-Control", "no-cache")]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("If-None-Match: *",), 304),
        (('If-None-Match: "x", W/{etag}',), 304),
        (('If-None-Match: "x"', "If-None-Match: {etag}"), 304),
        (('If-None-Match: "x"',), 200),
        (("If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT",), 304),
        (("If-Modified-Since: Sun Nov  6 08:49:37 1994",), 304),
        (("If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT",), 200),
        (("If-Modified-Since: yesterday",), 200),
        (('If-None-Match: "x"', "If-Modified-Since: Mon, 07 Nov 1994 00:00:00 GMT"), 200),
        (("If-None-Match: {etag}", "If-Modified-Since: Sat, 05 Nov 1994 00:00:00 GMT"), 304),
        (("If-Unheard-Of: *",), 200),
    ],
    ids=readable,
)
def test_conditions(site: Path, files: Files, lines: tuple[str, ...], status: int) -> None:
    write(site / "a.html", modified=MODIFIED + 0.7)  # fractions do not make it newer than its own date
    etag = ask(files, "/a.html").headers["etag"]
    assert ask(files, "/a.html", "GET", *(line.format(etag=etag) for line in lines)).status == status


def test_an_edit_shows_at_the_next_request(site: Path, files: Files) -> None:
    write(site / "a.html", "old")
    etag = ask(files, "/a.html").headers["etag"]
    write(site / "a.html", "new", MODIFIED + 0.001)
    answer = ask(files, "/a.html", "GET", f"If-None-Match: {etag}")
    assert (answer.status, answer.body) == (200, b"new")


def test_conditions_do_not_turn_errors_into_304(site: Path, files: Files) -> None:
    """RFC 9110 §13.2.1."""
    (site / "d").mkdir()
    assert ask(files, "/nothing", "GET", "If-None-Match: *").status == 404
    assert ask(files, "/d", "GET", "If-None-Match: *").status == 301


def test_the_index_is_conditional_too(site: Path, files: Files) -> None:
    write(site / "index.html")
    assert ask(files, "/", "GET", "If-None-Match: *").status == 304


# Conditions of writers; ranges, RFC 9110 §14


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("If-Match: {etag}",), 200),
        (("If-Match: *",), 200),
        (("If-Match: W/{etag}",), 412),
        (('If-Match: "x"',), 412),
        (("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT",), 200),
        (("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT",), 412),
        (("If-Unmodified-Since: nonsense",), 200),
        (("If-Match: {etag}", "If-None-Match: {etag}"), 304),
    ],
    ids=readable,
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_preconditions(site: Path, files: Files, lines: tuple[str, ...], status: int, method: str) -> None:
    write(site / "a.html", modified=MODIFIED + 0.7)
    etag = ask(files, "/a.html").headers["etag"]
    assert ask(files, "/a.html", method, *(line.format(etag=etag) for line in lines)).status == status


@pytest.mark.parametrize("size", [26, SMALL + 26, 2_000_026])
@pytest.mark.parametrize(
    ("value", "start", "stop"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=-7", -7, None),
        ("bytes=5-", 5, None),
        ("bytes=0-9999999", 0, None),
        ("BYTES=3-3", 3, 4),
    ],
)
def test_a_range(site: Path, files: Files, size: int, value: str, start: int, stop: int | None) -> None:
    content = os.urandom(size)
    write(site / "a.bin", content)
    whole = ask(files, "/a.bin")
    answer = ask(files, "/a.bin", "GET", f"Range: {value}")
    assert (answer.status, answer.body) == (206, content[start:stop])
    first = start % size
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(answer.body) - 1}/{size}"
    for name in ("ETag", "Last-Modified", "Content-Type"):
        assert answer.headers[name] == whole.headers[name]


@pytest.mark.parametrize("size", [26, SMALL + 26, 2_000_026])
def test_several_ranges(site: Path, files: Files, size: int) -> None:
    """§14.6; the parts are those that were asked for, in that order."""
    content = os.urandom(size)
    write(site / "a.bin", content)
    answer = ask(files, "/a.bin", "GET", "Range: bytes=20-21, 0-4, -2")
    assert answer.status == 206
    assert "content-range" not in answer.headers  # §15.3.7.2
    assert answer.headers.get_all("content-type") == [answer.headers["content-type"]]
    boundary = answer.headers["content-type"].removeprefix("multipart/byteranges; boundary=").encode()
    expected = b""
    for start, stop in ((20, 22), (0, 5), (size - 2, size)):
        expected += b"\r\n--%b\r\nContent-Type: application/octet-stream\r\n" % boundary
        expected += b"Content-Range: bytes %d-%d/%d\r\n\r\n" % (start, stop - 1, size) + content[start:stop]
    assert answer.body == expected + b"\r\n--%b--\r\n" % boundary  # zsync waits for the first line end, too


def test_boundaries_cannot_be_foreseen(site: Path, files: Files) -> None:
    write(site / "a.bin", b"x" * 26)
    types = {ask(files, "/a.bin", "GET", "Range: bytes=0-0,2-2").headers["content-type"] for _ in range(9)}
    assert len(types) == 9


@pytest.mark.parametrize("value", ["bytes=0-", "bytes=0-0", "bytes=5-9", "bytes=-5", "bytes=-0", "bytes=0-0,2-3"])
def test_an_empty_file_has_no_ranges(site: Path, files: Files, value: str) -> None:
    """§14.2: a Range may be ignored. Some clients always send one; nginx, Apache and Go respond with 200 as well."""
    write(site / "a.bin", b"")
    answer = ask(files, "/a.bin", "GET", f"Range: {value}")
    assert (answer.status, answer.body, answer.headers.get("content-range")) == (200, b"", None)


@pytest.mark.parametrize("size", [26, SMALL + 26])
def test_a_range_that_cannot_be_satisfied(site: Path, files: Files, size: int) -> None:
    """§15.5.17."""
    write(site / "a.bin", b"x" * size)
    for value in (f"bytes={size}-", f"bytes={size}-{size + 5}", "bytes=-0"):
        answer = ask(files, "/a.bin", "GET", f"Range: {value}")
        assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{size}")


@pytest.mark.parametrize(
    ("method", "lines"),
    [
        ("GET", ("Range: items=0-1",)),
        ("GET", ("Range: bytes=1-0",)),
        ("GET", ("Range: bytes=x",)),
        ("GET", ("Range: bytes=0-1", "Range: bytes=3-4")),
        ("GET", ("Range: bytes=" + ",".join(f"{n}-{n}" for n in range(0, 200, 2)),)),
        ("HEAD", ("Range: bytes=0-1",)),  # §14.2: for GET alone
        ("HEAD", ("Range: bytes=9999-",)),
        ("GET", ("Range: bytes=0-1", 'If-Range: "x"')),
        ("GET", ("Range: bytes=0-1", "If-Range: W/{etag}")),
        ("GET", ("Range: bytes=9999-", 'If-Range: "x"')),
        ("GET", ("Range: bytes=0-1", "If-Range: Sun, 06 Nov 1994 08:49:38 GMT")),
        ("GET", ("Range: bytes=0-1", "If-Range: nonsense")),
        ("GET", ("If-Range: {etag}",)),
    ],
    ids=readable,
)
def test_ranges_that_do_not_count(site: Path, files: Files, method: str, lines: tuple[str, ...]) -> None:
    write(site / "a.bin", b"x" * 1000)
    whole = ask(files, "/a.bin")
    answer = ask(files, "/a.bin", method, *(line.format(etag=whole.headers["etag"]) for line in lines))
    assert (answer.status, answer.fields) == (200, whole.fields)


@pytest.mark.parametrize("value", ["{etag}", "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT"])
def test_if_range(site: Path, files: Files, value: str) -> None:
    """§13.1.5."""
    write(site / "a.bin", b"x" * 1000)
    line = "If-Range: " + value.format(etag=ask(files, "/a.bin").headers["etag"])
    assert ask(files, "/a.bin", "GET", "Range: bytes=0-1", line).status == 206
    assert ask(files, "/a.bin", "GET", "Range: bytes=1000-", line).status == 416


def test_conditions_come_before_ranges(site: Path, files: Files) -> None:
    """§13.2.2."""
    write(site / "a.bin", b"x" * 1000)
    etag = ask(files, "/a.bin").headers["etag"]
    assert ask(files, "/a.bin", "GET", "Range: bytes=0-1", f"If-None-Match: {etag}").status == 304
    assert ask(files, "/a.bin", "GET", "Range: bytes=9999-", f"If-None-Match: {etag}").status == 304
    assert ask(files, "/a.bin", "GET", "Range: bytes=0-1", 'If-Match: "x"').status == 412
    assert ask(files, "/a.bin", "GET", "Range: bytes=0-1", f"If-Match: {etag}").status == 206


@pytest.mark.parametrize("target", ["/d/", "/?zip"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("If-Match: *", 200),
        ('If-Match: "x"', 412),
        ('If-None-Match: "x", W/"y"', 200),
        ('If-None-Match: ""', 200),
        ("If-None-Match: *", 304),
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT", 200),  # for there is no date, §13.1.3, §13.1.4
        ("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT", 200),
        ("Range: bytes=0-1", 200),
    ],
)
def test_conditions_of_what_has_no_validators(site: Path, target: str, method: str, line: str, status: int) -> None:
    """§13.1.1, §13.1.2: `*` is true of whatever there is, and a tag of nothing that has none."""
    write(site / "d/a.txt")
    files = Files(site, zip=True, headers=SiteHeaders([("X-Mine", "1")]))
    answer = ask(files, target, method, line)
    assert answer.status == status
    assert answer.headers["x-mine"] == "1"
    if status == 304:
        assert answer.body == b""
        assert answer.names <= {"Vary", "Cache-Control", "X-Mine"}  # §15.4.5
    assert ask(files, "/nothing/", method, line).status == 404  # §13.2.1: they count only if all else is well
    files.close()


def test_a_range_of_what_is_only_taken_compressed(site: Path) -> None:
    """§14.2: a Range may be ignored; that there is nothing acceptable (§12.5.3) would not be true."""
    write(site / "a.txt", b"x" * 2000)
    files = Files(site, compress=True)
    answer = ask(files, "/a.txt", "GET", "Accept-Encoding: gzip, identity;q=0", "Range: bytes=0-1")
    assert (answer.status, answer.headers["content-encoding"]) == (200, "gzip")
    assert ask(files, "/a.txt", "GET", "Accept-Encoding: identity;q=0", "Range: bytes=0-1").status == 406
    files.close()


@pytest.mark.parametrize("target", ["/nothing", "/%zz", "/fifo"])
def test_the_type_of_an_error_is_not_guessed_either(site: Path, files: Files, target: str) -> None:
    os.mkfifo(site / "fifo")
    assert ask(files, target).headers["x-content-type-options"] == "nosniff"
    write(site / "404.html")
    assert ask(files, target).headers["x-content-type-options"] == "nosniff"


def test_a_suffix_of_nothing_is_all_of_it(site: Path, files: Files) -> None:
    write(site / "a.bin", b"")
    assert ask(files, "/a.bin", "GET", "Range: bytes=-5").status == 200


def test_the_end_of_a_huge_file(site: Path, files: Files) -> None:
    with (site / "huge").open("wb") as file:
        file.truncate(5 * 1024**3)
        file.seek(2**32)
        file.write(b"here")
    answer = ask(files, "/huge", "GET", "Range: bytes=4294967295-4294967300")
    assert (answer.status, answer.body) == (206, b"\0here\0")
    assert answer.headers["content-range"] == "bytes 4294967295-4294967300/5368709120"
    answer = ask(files, "/huge", "GET", "Range: bytes=0-0,4294967296-4294967299,-1")
    assert answer.body.count(b"\r\n\r\nhere\r\n") == 1


# Own error pages, single pages, clean URLs


@pytest.mark.parametrize("size", [10, SMALL + 1])
@pytest.mark.parametrize("target", ["/nothing", "/nothing/", "/d/nothing.png", "/a.html/b"])
def test_the_own_page_for_what_is_not_there(site: Path, files: Files, target: str, size: int) -> None:
    write(site / "404.html", b"x" * size)
    write(site / "a.html")
    for lines in ((), ("If-None-Match: *",), ("Range: bytes=0-1",), ("If-Match: *",)):
        answer = ask(files, target, "GET", *lines)
        assert (answer.status, answer.body) == (404, b"x" * size)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "etag" not in answer.headers
    assert ask(files, target, "HEAD").status == 404
    assert ask(files, "/404.html").status == 200


@pytest.mark.parametrize("kind", ["directory", "link"])
def test_an_error_page_that_is_unavailable(site: Path, files: Files, kind: str) -> None:
    if kind == "directory":
        (site / "404.html").mkdir()
    else:
        (site / "404.html").symlink_to("/etc/passwd")
    assert ask(files, "/nothing").body.startswith(b"404 Not Found")


PAGE = ("GET", "/app/route", "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (PAGE, 200),
        (("HEAD", *PAGE[1:]), 200),
        ((*PAGE[:2], "Accept: */*"), 200),  # curl
        ((*PAGE[:2], "X: y"), 200),  # says nothing of what it takes
        ((*PAGE[:2], "Accept: TEXT/HTML"), 200),
        ((*PAGE, "Sec-Fetch-Mode: navigate"), 200),
        (("GET", "/app/route/", PAGE[2]), 200),
        (("GET", "/v1.2/route", PAGE[2]), 200),
        (("GET", "/route?file=a.js", PAGE[2]), 200),
        (("GET", "/user/jane.doe", *PAGE[2:], "Sec-Fetch-Mode: navigate"), 200),  # a browser shows it, dot or not
        (("GET", "/user/jane.doe", PAGE[2], "Sec-Fetch-Mode: no-cors"), 404),
        (("GET", "/logo.png", "Accept: image/png", "Sec-Fetch-Mode: navigate"), 404),
        (("GET", "/missing.js", PAGE[2]), 404),
        ((*PAGE[:2], "Accept: application/json"), 404),
        ((*PAGE[:2], "Accept: application/json, text/html;q=0"), 404),
        ((*PAGE[:2], "Accept: image/avif,image/webp"), 404),
        ((*PAGE[:2], "Accept: */*", "Sec-Fetch-Mode: cors"), 404),
        (("GET", "/.git/route", PAGE[2]), 200),
        (("GET", "/%", PAGE[2]), 400),
        (("POST", *PAGE[1:]), 405),
    ],
    ids=readable,
)
def test_a_single_page(site: Path, request_: tuple[str, ...], status: int) -> None:
    write(site / "index.html", "the page")
    write(site / "404.html", "not there")
    files = Files(site, spa=True, clock=lambda: NOW)
    method, target, *lines = request_
    answer = ask(files, target, method, *lines)
    assert answer.status == status
    if method == "GET" and status in (200, 404):
        assert answer.body == (b"the page" if status == 200 else b"not there")
    if status == 200:
        assert ask(files, target, method, *lines, "If-None-Match: *").status == 304
        assert answer.headers["vary"] == "Accept, Sec-Fetch-Mode"  # RFC 9110 §12.5.5
    files.close()


def test_a_single_page_that_is_not_there(site: Path) -> None:
    files = Files(site, spa=True)
    assert ask(files, "/route").status == 404
    files.close()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/about", (200, b"about")),
        ("/about?x", (200, b"about")),
        ("/about.html", (200, b"about")),
        ("/d/e", (200, b"e")),
        ("/d", (200, b"page d")),  # a page comes before the directory of that name
        ("/d/", (200, b"index d")),
        ("/only", (301, b"")),
        ("/file", (200, b"file")),
        ("/about/", (404, None)),
        ("/nothing", (404, None)),
        ("/", (200, b"root")),
    ],
    ids=readable,
)
def test_clean_urls(site: Path, target: str, expected: tuple[int, bytes | None]) -> None:
    for name, content in (
        ("about.html", "about"),
        ("d/e.html", "e"),
        ("d.html", "page d"),
        ("d/index.html", "index d"),
        ("file", "file"),
        ("file.html", "page"),
        ("only/index.html", "only"),
        ("index.html", "root"),
    ):
        write(site / name, content)
    files = Files(site, clean_urls=True, clock=lambda: NOW)
    answer = ask(files, target)
    assert answer.status == expected[0]
    assert expected[1] is None or answer.body == expected[1]
    if answer.status == 200 and target != "/file":
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
    files.close()


def test_clean_urls_only_on_request(site: Path, files: Files) -> None:
    write(site / "about.html")
    assert ask(files, "/about").status == 404


# Hidden names, symbolic links


@pytest.mark.parametrize(
    ("target", "hidden"),
    [
        ("/.env", True),
        ("/%2Eenv", True),
        ("/.git/config", True),
        ("/.git", True),
        ("/.git/", True),
        ("/d/.env", True),
        ("/d/../.env", True),
        ("/.well-known/x", False),
        ("/.well-known/.x", True),
        ("/d/.well-known/x", True),
    ],
)
def test_hidden_names(site: Path, files: Files, target: str, hidden: bool) -> None:
    """As if they were not there; also in listings."""
    for name in (".env", ".git/config", "d/.env", ".well-known/x", ".well-known/.x", "d/.well-known/x"):
        write(site / name)
    assert ask(files, target).status == (404 if hidden else 200)
    if hidden:
        assert ask(files, target).body == ask(files, "/nothing").body
    assert Links(ask(files, "/").body).hrefs == ["d/"]
    shown = Files(site, hidden=True)
    assert ask(shown, target).status in (200, 301)
    assert Links(ask(shown, "/").body).hrefs == [".git/", ".well-known/", "d/", ".env"]
    shown.close()


@pytest.mark.parametrize(
    ("symlinks", "statuses"), [("inside", (200, 403, 200)), ("all", (200, 200, 200)), ("none", (403, 403, 200))]
)
def test_symbolic_links(site: Path, symlinks: str, statuses: tuple[int, ...]) -> None:
    write(site / "a.txt")
    (site / "in").symlink_to("a.txt")
    (site / "out").symlink_to("../outside/secret")
    files = Files(site, symlinks=symlinks, clock=lambda: 1e10)
    for _ in range(2):
        files.end_of_turn()
        assert tuple(ask(files, target).status for target in ("/in", "/out", "/a.txt")) == statuses
    files.close()


def test_an_archive_is_not_mistaken_for_the_index(site: Path) -> None:
    """The index is remembered under the same path."""
    write(site / "d/index.html")
    write(site / ".hidden/a")
    files = Files(site, zip=True, clock=lambda: 1e10)
    for _ in range(2):
        files.end_of_turn()
        assert ask(files, "/d/").body == b"content"
        assert ask(files, "/d/?zip").headers["content-type"] == "application/zip"
        assert ask(files, "/d?zip").headers["location"] == "d/?zip"
        assert ask(files, "/.hidden/?zip").status == 404
    files.close()


def test_files_that_the_server_itself_has_changed_are_looked_at_again(site: Path) -> None:
    """Within one turn: an upload, and after it in the pipeline a request for the file."""
    write(site / "a.txt", "old")
    files = Files(site, clock=lambda: 1e10)
    files.end_of_turn()
    assert ask(files, "/a.txt").body == b"old"
    write(site / "a.txt", "new")
    files.files_changed()
    assert ask(files, "/a.txt").body == b"new"
    files.close()


def test_an_unknown_policy(site: Path) -> None:
    with pytest.raises(ValueError, match="some"):
        Files(site, symlinks="some")


# Directories


@pytest.mark.parametrize("index", ["index.html", "index.htm"])
def test_the_index_of_a_directory(site: Path, files: Files, index: str) -> None:
    write(site / index, "root")
    write(site / "d" / index, "below")
    for target, content in (
        ("/", b"root"),
        ("/?q", b"root"),
        ("/d/", b"below"),
        ("/d/.", b"below"),
        ("/d/..", b"root"),
    ):
        answer = ask(files, target)
        assert (answer.status, answer.body) == (200, content)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_index_html_comes_first(site: Path, files: Files) -> None:
    write(site / "index.htm", "second")
    write(site / "index.html", "first")
    assert ask(files, "/").body == b"first"


def test_a_directory_is_no_index(site: Path, files: Files) -> None:
    (site / "index.html").mkdir()
    (site / "index.htm").mkdir()
    assert b"Index of /" in ask(files, "/").body


def test_an_index_that_may_not_be_served_is_not_passed_over(site: Path, files: Files) -> None:
    (site / "index.html").symlink_to(site.parent / "outside/secret")
    assert ask(files, "/").status == 403


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/d", "/d/"),
        ("/d?a=b&c=%2F//x", "/d/?a=b&c=%2F//x"),
        ("/d?", "/d/"),
        ("/%64", "/d/"),
        ("/./d", "/d/"),
        ("/x/../d", "/d/"),
        ("/d/e", "/d/e/"),
        ("//d", "/d/"),
        ("///d//e", "/d/e/"),
        ("/d/..//d", "/d/"),
        ("/l", "/l/"),
        ("/evil.example", "/evil.example/"),
        ("//evil.example", "/evil.example/"),
        ("//evil.example/%2e%2e/d", "/d/"),
        ("///evil.example", "/evil.example/"),
        ("/.//evil.example", "/evil.example/"),
        ("/http:", "/http%3A/"),
        ("/http:/evil.example", "/http%3A/evil.example/"),
        ("http://example.com/d", "/d/"),
        ("http://example.com//evil.example", "/evil.example/"),
        ("/%C3%A4%20%25%23%3F%22%0a", "/%C3%A4%20%25%23%3F%22%0A/"),
        ("/%ff", "/%FF/"),
    ],
)
def test_redirects_to_the_trailing_slash(site: Path, files: Files, target: str, location: str) -> None:
    """RFC 9110 §15.4.2, RFC 3986 §4.2: relative, so never to another host, and a prefix that a proxy took off stays."""
    for name in ("d/e", "evil.example", "http:/evil.example", 'ä %#?"\n', "\udcff"):
        (site / name).mkdir(parents=True)
    (site / "l").symlink_to("d")
    answer = ask(files, target)
    assert answer.status == 301
    reference = answer.headers["location"]
    assert not urlsplit(reference).scheme
    assert not reference.startswith("/")
    above = urlsplit(location).path.rstrip("/").rpartition("/")[0]
    assert reference.removeprefix("./") == location[len(above) + 1 :]
    path = urlsplit(target).path if "example.com" in target else target.partition("?")[0]
    for prefix in ("http://example.com", "https://example.com/files"):
        assert urljoin(prefix + path, reference).startswith(prefix + "/")
    followed = urljoin("http://example.com" + path, reference)
    assert ask(files, followed).status == 200
    assert answer.headers["cache-control"] == "no-cache"  # or a browser would redirect for ever


@pytest.mark.parametrize("target", ["/\\evil.example", "/%2fevil.example", "//%2fevil.example"])
def test_what_a_browser_may_take_for_another_host_is_not_redirected(site: Path, files: Files, target: str) -> None:
    for name in ("evil.example", "\\evil.example"):
        (site / name).mkdir()
    assert ask(files, target).status == 404


def test_a_backslash_is_part_of_a_name(site: Path, files: Files) -> None:
    """Encoded, no browser takes it for a slash."""
    write(site / "a\\b/c\\d.txt")
    assert ask(files, "/a%5cb/c%5Cd.txt").body == b"content"
    assert ask(files, "/a%5cb").headers["location"] == "a%5Cb/"
    assert "a%5Cb/" in Links(ask(files, "/").body).hrefs


class Links(HTMLParser):
    """What a page leads to, other than itself in another order."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.hrefs: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href") or ""
        if tag == "a" and not href.startswith("?"):
            self.hrefs.append(href)


HARD_NAMES = [
    *(rb"""plain|a b|"|'|<script>|&amp;|100%|%41|#|?|a?b#c|C:|c:d|-rf|javascript:alert(1)|a...|~|+|;|@""".split(b"|")),
    *(b"\n", b"\x7f", b"\xff\x80", "ä".encode(), "\u202e".encode(), b"x" * 255),
]


def test_everything_in_a_listing_can_be_followed(site: Path, files: Files) -> None:
    for name in HARD_NAMES:
        write(site / os.fsdecode(name), name)
        write(site / "d" / os.fsdecode(name) / "index.html", b"below " + name)
    for base, prefix in (("/", b""), ("/d/", b"below ")):
        answer = ask(files, base)
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        bodies = []
        for href in Links(answer.body).hrefs:
            url = urlsplit(urljoin(f"http://example.com{base}", href))
            assert url.netloc == "example.com"
            if url.path not in ("/", "/d/"):
                bodies.append(ask(files, url.path).body)
        assert sorted(bodies) == sorted(prefix + name for name in HARD_NAMES)


def test_a_listing_tells_kinds_apart(site: Path, files: Files) -> None:
    write(site / "f", b"x" * 1536)
    (site / "d").mkdir()
    (site / "l").symlink_to("d")
    (site / "broken").symlink_to("nothing")
    (site / "outward").symlink_to("/etc")
    os.mkfifo(site / "fifo")
    page = ask(files, "/").body.decode()
    assert Links(page.encode()).hrefs == ["d/", "l/", "broken", "f", "fifo", "outward"]
    assert '<tr class="file"><td><a href="f"><bdi>f</bdi></a></td><td><data value="1536">1.5 KiB</data></td>' in page
    assert '<time datetime="1994-11-06T08:49:37Z">1994-11-06 <span>08:49</span></time>' in page
    for kind, count in (("directory", 2), ("link", 2), ("other", 1)):
        assert page.count(f'<tr class="{kind}">') == count
    assert page.count("<data") == 1  # the sizes of other things say nothing


Scanned = Callable[[Callable[[list[os.DirEntry[str]]], list[Any]]], None]


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> Scanned:
    """scanned(act): what is found in a directory is what act() makes of it."""

    def install(act: Callable[[list[os.DirEntry[str]]], list[Any]]) -> None:
        really = os.scandir

        @contextmanager
        def scandir(fd: int) -> Iterator[Iterator[Any]]:
            with really(fd) as entries:
                yield iter(act(sorted(entries, key=lambda entry: entry.name)))

        monkeypatch.setattr(os, "scandir", scandir)

    return install


def test_an_entry_that_vanishes_is_left_out(site: Path, files: Files, scanned: Scanned) -> None:
    """b is deleted after the directory was read."""
    write(site / "a")
    write(site / "b")

    def delete(entries: list[os.DirEntry[str]]) -> list[Any]:
        (site / "b").unlink()
        return entries

    scanned(delete)
    assert Links(ask(files, "/").body).hrefs == ["a"]


# Nothing but the files below the directory


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/nothing", 404),
        ("/nothing/", 404),
        ("/nothing/a", 404),
        ("/a.txt/", 404),
        ("/a.txt/b", 404),
        ("/a.txt/.", 404),
        ("/" + "x" * 256, 404),
        ("/" + "x" * 8000, 404),
        ("/" + "d/" * 4000, 404),
        ("/" + "x/" * 4000, 404),
        ("/loop", 404),
        ("/loop/a", 404),
        ("/dangling", 404),
        ("/a.txt%00", 404),
        ("/%00", 404),
        ("/%", 400),
        ("/%4", 400),
        ("/%zz", 400),
        ("/a%txt", 400),
        ("/outward", 403),
        ("/outward/", 403),
        ("/outward/secret", 403),
        ("/secret", 403),
        ("/null", 403),
        ("/fifo", 403),
        ("/to-fifo", 403),
        ("/fifo/", 404),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_errors_are_ordinary_responses(site: Path, files: Files, method: str, target: str, status: int) -> None:
    """RFC 9110 §15.5: not exceptions, for these keep the connection."""
    write(site / "a.txt")
    (site / "d").mkdir()
    (site / "loop").symlink_to("loop")
    (site / "dangling").symlink_to("nothing")
    (site / "outward").symlink_to("../outside")
    (site / "secret").symlink_to(site.parent / "site-old/secret")
    (site / "null").symlink_to("/dev/null")
    (site / "to-fifo").symlink_to("fifo")
    os.mkfifo(site / "fifo")
    answer = ask(files, target, method)
    assert answer.status == status
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert str(site).encode() not in answer.body


UPS = r"""
    ..  %2e%2e  %2E%2E  .%2e  %2e.  ..%2f  ..%2F..  %2e%2e%2f  ..\  ..%5c  %2e%2e%5c
    %252e%252e  ..%252f  ..%255c  %uff0e%uff0e  %u2216..
    %c0%ae%c0%ae  %e0%80%ae%e0%80%ae  ..%c0%af  ..%ef%bc%8f  %ef%bc%8e%ef%bc%8e
    ..;  ..|  ..?  ..%00  ..%00/  ..%01  ..%09  ..%0d  ..%20  %20..
    ...  .../  ....  ....//  ..//  .//..  %2e%2e%2e
""".split()
SECRETS = ["outside/secret", "outside%2fsecret", "outside%5csecret", "site-old/secret", "../site-old/secret"]


@pytest.mark.parametrize("up", UPS)
def test_no_encoding_climbs(site: Path, files: Files, up: str) -> None:
    """As many ways as people have found in other servers."""
    write(site / "d/e/f", "inside")
    for start in ("/", "//", "/d/", "/d/e/", "/d/e/f/", "/nothing/", "/./", "/d/../", "http://example.com/"):
        for times in (1, 2, 3, 4, 20):
            for secret in SECRETS:
                for slash in ("/", ""):
                    answer = ask(files, start + (up + slash) * times + secret)
                    assert b"secret" not in answer.body
                    assert answer.status in (200, 301, 400, 404)
                    assert answer.status in (400, 404) or "?" in up


PIECES = st.sampled_from(
    [*UPS, "/", "//", ".", "%2f", "d", "e", "f", "l", "up", "here", "secret", "outside", "site", "site-old", "%", "a"]
)


@given(st.lists(PIECES, max_size=12).map(lambda pieces: "/" + "".join(pieces)) | st.text().map("/".__add__))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
def test_nothing_outside_is_ever_served(site: Path, files: Files, raw_path: str) -> None:
    """Whatever is asked for, with links about that lead inside and outside."""
    if not (site / "d").exists():
        write(site / "d/e/f", "inside")
        write(site / "a", "inside")
        for link, target in (
            ("l", "../outside"),
            ("up", ".."),
            ("here", "."),
            ("d/l", "../../outside/secret"),
            ("d/e/up", "../.."),
        ):
            (site / link).symlink_to(target)
    request = Request("GET", raw_path, 1, [], 0)
    request.raw_path = raw_path
    answer = ReceivedResponse(files(request))
    if answer.status == 200 and b"<html" not in answer.body:
        assert answer.body == b"inside"
    elif answer.status == 200:
        assert "secret" not in Links(answer.body).hrefs
    else:
        assert answer.status in (301, 400, 403, 404)


def test_links_inside_are_followed(site: Path, files: Files) -> None:
    write(site / "d/a.html", "inside")
    (site / "l").symlink_to("d")
    (site / "page").symlink_to("l/a.html")
    assert ask(files, "/l/a.html").body == b"inside"
    answer = ask(files, "/page")
    assert answer.body == b"inside"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"  # by the name that was asked for, not *.html


# Files whose content is made when it is read


def made_when_read(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Has files look as they do in /proc and /sys: they have another size, and no blocks."""
    really_stat, really_fstat = os.stat, os.fstat

    def made(status: os.stat_result) -> os.stat_result:
        if not stat.S_ISREG(status.st_mode):
            return status
        values = list(status)
        values[6] = size
        times = {name: getattr(status, name) for name in ("st_mtime", "st_ctime", "st_mtime_ns", "st_ctime_ns")}
        return os.stat_result(values, {**times, "st_blocks": 0})

    monkeypatch.setattr(os, "stat", lambda *args, **kwargs: made(really_stat(*args, **kwargs)))
    monkeypatch.setattr(os, "fstat", lambda fd: made(really_fstat(fd)))


@pytest.mark.parametrize("size", [0, 4096])
@pytest.mark.parametrize("length", [5, 100_000])
def test_a_file_whose_size_is_not_true_is_read_to_its_end(
    site: Path, monkeypatch: pytest.MonkeyPatch, size: int, length: int
) -> None:
    """As in /proc, where it is 0, and in /sys, where it is a page. Nothing is remembered of it."""
    write(site / "version", b"x" * length)
    files = Files(site, clock=lambda: 1e10, compress=True)
    files.end_of_turn()
    with monkeypatch.context() as patch:
        made_when_read(patch, size)
        for line in ("X: 1", "Range: bytes=0-1", 'If-None-Match: "x"', "Accept-Encoding: gzip"):
            answer = ask(files, "/version", "GET", line)
            assert (answer.status, answer.body) == (200, b"x" * length)
            assert answer.names == {"Cache-Control", "Content-Type", "X-Content-Type-Options"}
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert ask(files, "/version", "HEAD").status == 200
        write(site / "version", b"")
        assert ask(files, "/version").body == b""
        write(site / "version", b"again")  # the times of a file in /proc say nothing
        assert ask(files, "/version").body == b"again"
    files.close()


def test_a_file_of_unknown_size_is_bounded(
    site: Path, files: Files, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(site / "kallsyms", b"x" * (5 * 1024 * 1024))
    made_when_read(monkeypatch, 0)
    assert ask(files, "/kallsyms").status == 500
    assert "its size is not known" in caplog.text


@pytest.mark.skipif(not os.path.isfile("/proc/version"), reason="this system has no /proc")
def test_proc() -> None:
    files = Files("/proc")
    assert ask(files, "/version").body == Path("/proc/version").read_bytes()
    assert ask(files, "/cpuinfo").body.startswith(b"processor")
    files.close()


# What goes wrong on the disk


def failing(number: int) -> Callable[..., object]:
    def fail(*args: object, **kwargs: object) -> object:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.EACCES, 403),
        (errno.EPERM, 403),
        (errno.ENOENT, 404),
        (errno.EILSEQ, 404),
        (errno.EIO, 500),
        (errno.ESTALE, 500),
        (errno.ENOMEM, 500),
        (errno.EMFILE, 503),
        (errno.ENFILE, 503),
    ],
)
@pytest.mark.parametrize("function", ["open", "fstat", "pread"])
def test_errors_of_the_system(
    site: Path,
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    function: str,
    number: int,
    status: int,
) -> None:
    """Those that are not caused by the client are logged as well."""
    write(site / "a.txt")
    for target in ("/a.txt", "/d/b.txt"):
        write(site / target[1:])
        caplog.clear()
        with monkeypatch.context() as patch:
            patch.setattr(os, function, failing(number))
            answer = ask(files, target)
        assert answer.status == status
        logged = [record.getMessage() for record in caplog.records if record.name == "kaserve"]
        assert len(logged) == (status >= 500)
        assert all(target in line and os.strerror(number) in line for line in logged)
        assert ask(files, target).status == 200  # and afterwards all is well


Guard = Callable[[str, int], None]


@pytest.fixture
def guard(site: Path, files: Files) -> Iterator[Guard]:
    """guard(path, mode) sets the permissions of d/a.txt, d/index.html, e/a.txt, or of the directories.

    For root they would not count, so root is nobody for the time of the test.
    """
    for path in ("d/a.txt", "d/index.html", "e/a.txt"):
        write(site / path)
    user = os.geteuid()
    nobody = user or 65534

    def chmod(path: str, mode: int) -> None:
        """mode: for everybody, the owner included."""
        os.seteuid(user)
        (site / path).chmod(mode)
        os.seteuid(nobody)

    os.seteuid(nobody)
    yield chmod
    os.seteuid(user)
    for path in ("d", "e"):
        (site / path).chmod(0o755)


def test_a_file_that_may_not_be_read(files: Files, guard: Guard) -> None:
    """RFC 9110 §15.5.4. An index is not passed over for that; and HEAD says what GET would."""
    guard("d/a.txt", 0)
    guard("d/index.html", 0)
    for target in ("/d/a.txt", "/d/"):
        for method in ("GET", "HEAD"):
            assert ask(files, target, method).status == 403


def test_directories_need_only_be_searched(files: Files, guard: Guard) -> None:
    guard("d", 0o111)
    guard("e", 0o111)
    assert ask(files, "/d/a.txt").body == b"content"
    assert ask(files, "/d/").body == b"content"
    assert ask(files, "/e").status == 301
    assert ask(files, "/e/").status == 403  # for a listing, they have to be read
    guard("e", 0o555)
    assert ask(files, "/e/").status == 200


@pytest.mark.parametrize("mode", [0, 0o444])
def test_a_directory_that_may_not_be_searched(files: Files, guard: Guard, mode: int) -> None:
    guard("e", mode)
    for target in ("/e/a.txt", "/e/nothing", "/e/"):
        assert ask(files, target).status == 403


def test_an_entry_that_may_not_be_looked_at_is_listed(files: Files, scanned: Scanned) -> None:
    """As security modules may have it, for one file in a directory."""

    class Sealed:
        name = "sealed"

        def stat(self, *, follow_symlinks: bool) -> os.stat_result:
            raise PermissionError(errno.EACCES, "sealed")

    scanned(lambda entries: [*entries, Sealed()])
    assert Links(ask(files, "/").body).hrefs == ["sealed"]


# Files that change


AtReading = Callable[[Callable[[], object], int], None]


@pytest.fixture
def at_reading(monkeypatch: pytest.MonkeyPatch) -> AtReading:
    """at_reading(act, times) has act() called each time before content is read, that often."""

    def install(act: Callable[[], object], times: int) -> None:
        really = os.pread
        left = times

        def pread(fd: int, length: int, offset: int) -> bytes:
            nonlocal left
            if left:
                left -= 1
                act()
            return really(fd, length, offset)

        monkeypatch.setattr(os, "pread", pread)

    return install


@pytest.mark.parametrize("content", [b"", b"short", b"same size", b"much longer", b"x" * (SMALL + 1)], ids=readable)
def test_a_file_that_changes_while_it_is_read_is_read_again(
    site: Path, files: Files, at_reading: AtReading, content: bytes
) -> None:
    """The tag and the date are of the same version as the content (RFC 9110 §8.8.1)."""
    write(site / "a.txt", b"the first")
    before = ask(files, "/a.txt")
    at_reading(lambda: write(site / "a.txt", content, MODIFIED + 5), 1)
    answer = ask(files, "/a.txt")
    assert answer.body == content
    after = ask(files, "/a.txt")
    assert answer.fields == after.fields
    assert answer.headers["etag"] != before.headers["etag"]


def test_a_condition_is_evaluated_again_when_the_file_changed(site: Path, files: Files, at_reading: AtReading) -> None:
    write(site / "a.txt", "a", MODIFIED + 1)
    at_reading(lambda: write(site / "a.txt", "b", MODIFIED), 1)
    assert ask(files, "/a.txt", "GET", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT").status == 304


def test_a_file_that_always_changes_is_not_served(
    site: Path, files: Files, at_reading: AtReading, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 9110 §15.6.4: an error is better than a mixture."""
    write(site / "a.txt", "0")
    versions = iter(range(1, 1000))

    def change() -> None:
        version = next(versions)
        write(site / "a.txt", str(version), MODIFIED + version)

    at_reading(change, -1)
    assert ask(files, "/a.txt").status == 503
    assert next(versions) < 20
    assert "/a.txt" in caplog.text


def replace(path: Path) -> None:
    write(path.with_name("new"), "is here")
    path.with_name("new").replace(path)


@pytest.mark.parametrize("act", [os.unlink, replace])
def test_a_file_that_is_deleted_or_replaced_is_served_as_it_was(
    site: Path, files: Files, at_reading: AtReading, act: Callable[[Path], object]
) -> None:
    write(site / "a.txt", "was here")
    at_reading(lambda: act(site / "a.txt"), 1)
    assert ask(files, "/a.txt").body == b"was here"


@pytest.mark.parametrize("size", [500, SMALL + 500])
def test_a_file_that_is_replaced_in_a_loop_is_always_of_one_version(site: Path, size: int) -> None:
    """Every response has the length, the tag and the content of the same version; the mtime says which that is."""
    path = site / "a.txt"
    write(path, b"0" * size, MODIFIED)
    files = Files(site)
    stop = threading.Event()

    def replace_often() -> None:
        version = 0
        while not stop.is_set():
            version = (version + 1) % 10
            write(site / "new", b"%d" % version * (size + version), MODIFIED + version)
            os.replace(site / "new", path)

    writer = threading.Thread(target=replace_often)
    writer.start()
    try:
        for _ in range(1000):
            answer = ask(files, "/a.txt")
            version = int(answer.body[:1])
            assert answer.body == b"%d" % version * (size + version)
            assert answer.headers["last-modified"] == format_date(MODIFIED + version)
    finally:
        stop.set()
        writer.join()
        files.close()


# Methods


UNKNOWN = ["BREW", "get", "Get", "GETS", "HEAD2", "options", "!"]  # methods are case-sensitive, RFC 9110 §9.1


@pytest.mark.parametrize(
    ("method", "status"),
    [
        *((method, 405) for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE")),
        *((method, 501) for method in UNKNOWN),
    ],
)
@pytest.mark.parametrize("target", ["/a.txt", "/", "/nothing", "/%"])
def test_methods_that_files_do_not_have(site: Path, files: Files, method: str, status: int, target: str) -> None:
    """RFC 9110 §15.5.6, §15.6.2: ordinary responses, which keep the connection; a 405 says what is allowed."""
    write(site / "a.txt")
    ask(files, "/a.txt")  # and now it is remembered
    answer = ask(files, target, method)
    assert answer.status == status
    assert answer.headers.get("allow") == ("GET, HEAD, OPTIONS" if status == 405 else None)


@pytest.mark.parametrize(
    "line",
    ["Content-Length: 65536", "Transfer-Encoding: chunked", "Content-Length: 5\r\nExpect: 100-continue"],
)
@pytest.mark.parametrize(("method", "status"), [("PUT", 405), ("BREW", 501)])
def test_other_methods_are_rejected_before_their_body(files: Files, method: str, status: int, line: str) -> None:
    """What becomes of the body is for the connection to decide."""
    request = parse("/", method, line)
    with pytest.raises(HTTPError) as caught:
        files.before_body(request)
    assert caught.value.status == status
    assert caught.value.headers == (
        *((("Allow", "GET, HEAD, OPTIONS"),) if status == 405 else ()),
        ("X-Content-Type-Options", "nosniff"),
    )


@pytest.mark.parametrize("target", ["*", "/", "/a.txt", "/nothing", "http://example.com"])
def test_options(files: Files, target: str) -> None:
    """RFC 9110 §9.3.7."""
    files.before_body(parse(target, "OPTIONS"))
    answer = ask(files, target, "OPTIONS")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.fields == [("Allow", "GET, HEAD, OPTIONS")]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_readers_are_not_refused(files: Files, method: str) -> None:
    files.before_body(parse("/", method))


# The handler itself


def test_a_directory_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Files(tmp_path / "nothing")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        Files(str(tmp_path / "file"))


def test_the_directory_is_known(site: Path, files: Files) -> None:
    assert files.directory == str(site)


def test_the_working_directory_may_change(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(site / "a.txt")
    monkeypatch.chdir(site.parent)
    files = Files("site")
    monkeypatch.chdir("/")
    assert ask(files, "/a.txt").body == b"content"
    files.close()


def test_no_response_leaves_a_descriptor(site: Path, files: Files, caplog: pytest.LogCaptureFixture) -> None:
    """The fixture counts; here after many, so that one in a hundred would show."""
    caplog.set_level(logging.CRITICAL)
    write(site / "a.txt")
    write(site / "large", b"x" * (SMALL + 1))
    write(site / "d/e/b.txt")
    (site / "l").symlink_to("d/e/b.txt")
    (site / "out").symlink_to("..")
    for target in (
        "/a.txt",
        "/large",
        "/d",
        "/d/",
        "/d/e/b.txt",
        "/l",
        "/out/site/a.txt",
        "/d/e/b.txt/c",
        "/%",
        "/nothing",
        "/",
    ):
        for method in ("GET", "HEAD"):
            for line in ("X: y", "If-None-Match: *"):
                for _ in range(20):
                    ask(files, target, method, line)


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
ICON = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"  # of a browser that wants an icon for a tab


# A browser asks every site for /favicon.ico.


def test_a_site_without_an_icon_has_a_small_one(files: Files) -> None:
    answer = ask(files, "/favicon.ico", "GET", f"Accept: {ICON}")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/svg+xml")
    assert answer.body.startswith(b"<svg ")
    assert answer.headers["vary"] == "Accept"
    assert answer.headers["cache-control"] == "no-cache"  # the site's own one shows as soon as it is there


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        pytest.param("/favicon.ico", "*/*", id="program"),
        pytest.param("/favicon.ico", BROWSER, id="page"),
        pytest.param("/favicon.ico", "image/*;q=0", id="no image"),
        pytest.param("/favicon.png", ICON, id="another image"),
        pytest.param("/a/favicon.ico", ICON, id="another directory"),
        pytest.param("/favicon.ico/", ICON, id="directory"),
    ],
)
def test_whatever_else_is_missing_is_a_404(files: Files, path: str, accept: str) -> None:
    assert ask(files, path, "GET", f"Accept: {accept}").status == 404


def test_the_icon_of_a_site_is_its_own(site: Path, files: Files) -> None:
    write(site / "favicon.ico", b"icon")
    assert ask(files, "/favicon.ico", "GET", f"Accept: {ICON}").body == b"icon"


def test_a_site_with_its_own_404_decides_about_icons_as_well(site: Path, files: Files) -> None:
    write(site / "404.html", b"not there")
    answer = ask(files, "/favicon.ico", "GET", f"Accept: {ICON}")
    assert (answer.status, answer.body) == (404, b"not there")


def test_a_single_page_application_has_no_icon_but_its_own(site: Path) -> None:
    write(site / "index.html")
    with closing(Files(site, spa=True)) as files:
        assert ask(files, "/favicon.ico", "GET", f"Accept: {ICON}").status == 404


def test_a_browser_gets_an_error_as_a_page(files: Files) -> None:
    answer = ask(files, "/a/b", "GET", f"Accept: {BROWSER}")
    assert (answer.status, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert b'<a href="./">One level up</a> <a href="../">Back to the start page</a>' in answer.body
    assert ask(files, "/a/b").body == b"404 Not Found: there is nothing here\n"
