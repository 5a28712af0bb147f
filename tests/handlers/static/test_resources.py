"""Resources: what is remembered, when it is looked at again, and which form of it is chosen.

Through `Files`, whose responses show it; the clock is ten seconds ahead, so that no file is racy.
"""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import pytest

from kaserve.handlers import Files
from kaserve.http.messages import Response
from tests.tools.files import SMALL, ask, parse
from tests.tools.ids import readable

TEXT = b"some text that is worth it\n" * 100
LARGE = TEXT * 100
ENCODED = {"br": b"as brotli", "zstd": b"as zstandard", "gzip": b"as gzip"}
SUFFIXES = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


Make = Callable[..., Files]


@pytest.fixture
def make(site: Path) -> Iterator[Make]:
    made: list[Files] = []
    before = len(os.listdir("/dev/fd"))

    def make(**options: Any) -> Files:
        made.append(Files(site, clock=lambda: time.time() + 10.0, **options))
        return made[-1]

    yield make
    for files in made:
        files.close()
    assert len(os.listdir("/dev/fd")) <= before


Calls = Callable[[], list[str]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """calls() returns the system calls since it was last called."""
    log: list[str] = []

    def watch(name: str) -> None:
        really = getattr(os, name)

        def function(*args: object, **kwargs: object) -> object:
            log.append(name)
            return really(*args, **kwargs)

        monkeypatch.setattr(os, name, function)

    for name in ("open", "stat", "fstat", "read", "pread", "preadv", "scandir"):
        watch(name)

    def calls() -> list[str]:
        result = log.copy()
        log.clear()
        return result

    return calls


# The memory


def test_a_hot_file_costs_one_look_a_turn(site: Path, make: Make, calls: Calls) -> None:
    (site / "d").mkdir()
    (site / "d/a.txt").write_bytes(b"content")
    files = make()
    for turn in range(5):
        files.end_of_turn()
        calls()
        for _ in range(3):
            assert ask(files, "/d/a.txt").body == b"content"
        if turn:
            assert calls() == ["stat"]


@pytest.mark.parametrize(
    "lines", [("Accept-Encoding: gzip",), ("If-None-Match: *",), ("Range: bytes=0-1",)], ids=readable
)
def test_within_a_turn_nothing_is_looked_at_twice(site: Path, make: Make, calls: Calls, lines: tuple[str, ...]) -> None:
    (site / "a.txt").write_bytes(b"content")
    files = make()
    files.end_of_turn()
    first = ask(files, "/a.txt", "GET", *lines)
    calls()
    again = ask(files, "/a.txt", "GET", *lines)
    assert calls() == []
    assert (again.status, again.body, again.fields) == (first.status, first.body, first.fields)


def test_the_same_objects_are_sent_each_time(site: Path, make: Make) -> None:
    (site / "a.txt").write_bytes(b"content")
    files = make()
    for _ in range(2):
        files.end_of_turn()
        ask(files, "/a.txt")
    assert files(parse("/a.txt")).body is files(parse("/a.txt")).body


@pytest.mark.parametrize("content", [b"new", b"other length", LARGE], ids=readable)
@pytest.mark.parametrize("first", [b"old", LARGE[::-1]], ids=readable)
@pytest.mark.parametrize("counted", [True, False])
def test_an_edit_shows_in_the_next_turn(site: Path, make: Make, first: bytes, content: bytes, counted: bool) -> None:
    path = site / "a.txt"
    path.write_bytes(first)
    files = make()
    tags = set()
    for expected in (first, content, first):
        path.write_bytes(expected)
        for _ in range(3):
            if counted:
                files.end_of_turn()
            answer = ask(files, "/a.txt")
            assert answer.body == expected
            tags.add(answer.headers["etag"])
    assert len(tags) == 3


REPEATED = [
    pytest.param((), 200, id="plain"),
    pytest.param(("Accept-Encoding: gzip",), 200, id="coded"),
    pytest.param(("If-None-Match: {etag}",), 304, id="unchanged"),
    pytest.param(("Accept-Encoding: gzip", "If-None-Match: {etag}"), 304, id="coded-unchanged"),
    pytest.param(("If-None-Match: {etag}", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"), 304, id="tag-and-date"),
]


@pytest.mark.parametrize(("lines", "status"), REPEATED)
@pytest.mark.parametrize("precompressed", [False, True])
def test_a_response_is_made_once_and_repeated(
    site: Path, make: Make, monkeypatch: pytest.MonkeyPatch, lines: tuple[str, ...], status: int, precompressed: bool
) -> None:
    """The second one is what the first one was, to the last header, and nothing is decided for it."""
    provide(site, *(["gzip"] if precompressed else []))
    files = make()
    files.end_of_turn()
    coded = [line for line in lines if line.startswith("Accept-Encoding")]
    etag = ask(files, "/app.js", "GET", *coded).headers["etag"]
    lines = tuple(line.format(etag=etag) for line in lines)
    first = ask(files, "/app.js", "GET", *lines)
    assert (first.status, first.body == b"") == (status, status == 304)
    assert first.headers["etag"] == etag
    monkeypatch.setattr(files, "_respond", lambda request: pytest.fail("it was made again"))
    again = ask(files, "/app.js", "GET", *lines)
    assert (again.status, again.body, again.fields) == (first.status, first.body, first.fields)


@pytest.mark.parametrize(
    ("target", "method", "lines"),
    [
        pytest.param("/app.js", "HEAD", (), id="head"),
        pytest.param("/app.js", "POST", (), id="post"),
        pytest.param("/app.js", "GET", ('If-None-Match: "other"',), id="other-tag"),
        pytest.param("/app.js", "GET", ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",), id="date"),
        pytest.param("/app.js", "GET", ("Range: bytes=0-1",), id="range"),
        pytest.param("/app.js", "GET", ('If-Match: "x"',), id="precondition"),
        pytest.param("/app.js", "GET", ("Accept-Encoding: identity;q=0",), id="not-acceptable"),
        pytest.param("/app.js", "GET", ("Accept-Encoding: " + "x" * 600,), id="long-header"),
        pytest.param("/", "GET", (), id="listing"),
        pytest.param("/nothing", "GET", (), id="nothing"),
    ],
)
def test_other_responses_are_made_each_time(
    site: Path, make: Make, target: str, method: str, lines: tuple[str, ...]
) -> None:
    provide(site)
    files = make()
    files.end_of_turn()
    ask(files, "/app.js")
    before = ask(files, target, method, *lines)
    resource = files._resources.recall("/app.js")
    assert resource is not None
    assert (len(resource.plans), len(resource.plans_of_turn)) == (1, 0)
    after = ask(files, target, method, *lines)
    assert (before.status, before.body, before.fields) == (after.status, after.body, after.fields)


def test_few_plans_are_remembered_whatever_clients_send(site: Path, make: Make) -> None:
    provide(site)
    files = make()
    files.end_of_turn()
    etag = ask(files, "/app.js").headers["etag"]
    for number in range(1000):
        assert ask(files, "/app.js", "GET", f"Accept-Encoding: x{number}").status == 200
        assert ask(files, "/app.js", "GET", f'If-None-Match: "{number}", {etag}').status == 304
    resource = files._resources.recall("/app.js")
    assert resource is not None
    assert len(resource.plans) + len(resource.plans_of_turn) <= 32


def test_remembered_contents_are_bounded_with_the_cache(site: Path, make: Make) -> None:
    """What is remembered for a path holds the same contents as the cache."""
    files = make()
    files.end_of_turn()
    files._resources._cache._max_bytes = 3 * SMALL
    for number in range(20):
        (site / f"{number}.bin").write_bytes(os.urandom(SMALL))
        assert ask(files, f"/{number}.bin").status == 200
        held = [resource.plain.content for resource in files._resources._remembered.values()]
        assert sum(len(content or b"") for content in held) <= 3 * SMALL


def delete(path: Path) -> None:
    path.unlink()


def forbid(path: Path) -> None:
    path.unlink()
    path.symlink_to("../outside")


def become_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(("change", "status"), [(delete, 404), (forbid, 403), (become_directory, 301)])
@pytest.mark.parametrize("size", [10, SMALL + 1])
def test_what_is_gone_is_gone_in_the_next_turn(
    site: Path, make: Make, change: Callable[[Path], None], status: int, size: int
) -> None:
    (site.parent / "outside").write_bytes(b"x" * size)
    (site / "a.txt").write_bytes(b"x" * size)
    files = make()
    for _ in range(3):
        files.end_of_turn()
        assert ask(files, "/a.txt").status == 200
    change(site / "a.txt")
    files.end_of_turn()
    assert ask(files, "/a.txt").status == status


def test_a_directory_on_the_way_may_become_a_link(site: Path, make: Make) -> None:
    """It leads to the same names outside, which are other files."""
    for directory in (site / "d", site.parent / "outside"):
        directory.mkdir()
        (directory / "a.txt").write_bytes(os.fsencode(directory.name))
    files = make()
    files.end_of_turn()
    assert ask(files, "/d/a.txt").body == b"d"
    (site / "d").rename(site / "moved")
    (site / "d").symlink_to(site.parent / "outside")
    files.end_of_turn()
    assert ask(files, "/d/a.txt").status == 403


def test_an_index_that_comes_first_is_noticed(site: Path, make: Make) -> None:
    (site / "index.htm").write_bytes(b"second")
    files = make()
    for _ in range(2):
        files.end_of_turn()
        assert ask(files, "/").body == b"second"
    (site / "index.html").write_bytes(b"first")
    files.end_of_turn()
    assert ask(files, "/").body == b"first"


def test_a_file_without_a_suffix_comes_before_its_clean_url(site: Path, make: Make) -> None:
    (site / "about.html").write_bytes(b"page")
    files = make(clean_urls=True)
    for _ in range(2):
        files.end_of_turn()
        assert ask(files, "/about").body == b"page"
    (site / "about").write_bytes(b"file")
    files.end_of_turn()
    assert ask(files, "/about").body == b"file"


def test_large_files_are_opened_once_for_all(site: Path, make: Make, calls: Calls) -> None:
    (site / "a.bin").write_bytes(LARGE)
    files = make()
    responses: list[Response] = []
    for turn in range(3):
        files.end_of_turn()
        responses += [files(parse("/a.bin")) for _ in range(10)]
        if turn:
            assert calls() == ["stat"]
        calls()
    bodies: list[Any] = [response.body for response in responses]
    assert len({getattr(body, "_file", None) or body.fd for body in bodies}) == 1
    for response in responses:
        response.close()


@pytest.mark.parametrize("line", ["X: y", "Range: bytes=0-", "Accept-Encoding: gzip"])
def test_a_large_file_that_is_another_one_when_it_is_opened(site: Path, make: Make, line: str) -> None:
    """It was looked at in this turn, but not opened yet: the response is made again, of the new version."""
    (site / "a.txt").write_bytes(LARGE)
    files = make(compress=True)
    for _ in range(2):
        files.end_of_turn()
        old = ask(files, "/a.txt", "HEAD", line)
    for _ in range(2):
        files.end_of_turn()  # and it is closed
    ask(files, "/a.txt", "HEAD", line)
    (site / "new").write_bytes(LARGE[::-1])
    (site / "new").replace(site / "a.txt")
    answer = ask(files, "/a.txt", "GET", line)
    content = gzip.decompress(answer.body) if "content-encoding" in answer.headers else answer.body
    assert content == LARGE[::-1]
    assert answer.headers["etag"] != old.headers["etag"]


def test_a_deleted_file_is_not_kept_open(site: Path, make: Make) -> None:
    before = len(os.listdir("/dev/fd"))
    (site / "a.bin").write_bytes(LARGE)
    files = make()
    files.end_of_turn()
    ask(files, "/a.bin")
    for _ in range(2):
        files.end_of_turn()
    assert len(os.listdir("/dev/fd")) == before + 1  # the directory
    files.close()


def test_a_site_that_is_switched(site: Path, make: Make) -> None:
    """The directory is a link to a version of the site; in between, it is replaced."""
    for name in ("one", "two"):
        (site.parent / name).mkdir()
        (site.parent / name / "a.txt").write_text(name)
        (site.parent / name / f"{name}.txt").write_text(name)
    site.rmdir()
    site.symlink_to("one")
    files = make()
    for counted in (False, True):
        for name in ("one", "two", "one"):
            (site.parent / "next").symlink_to(name)
            (site.parent / "next").rename(site)
            if counted:
                files.end_of_turn()
            assert ask(files, "/a.txt").body == name.encode()
            assert ask(files, f"/{name}.txt").status == 200
            assert ask(files, "/two.txt" if name == "one" else "/one.txt").status == 404


def test_the_memory_is_bounded(site: Path, make: Make) -> None:
    (site / "a.txt").write_bytes(b"content")
    files = make()
    files.end_of_turn()
    for number in range(5000):
        assert ask(files, "/" + "./" * (number % 100) + "/" * (number // 100) + "a.txt").status == 200
    assert len(files._resources._remembered) <= 4096


# Precompressed files (RFC 9110 §12.5.3)


def provide(site: Path, *codings: str, name: str = "app.js") -> None:
    (site / name).write_bytes(TEXT)
    for coding in codings:
        (site / (name + SUFFIXES[coding])).write_bytes(ENCODED[coding])


@pytest.mark.parametrize(
    ("there", "accepted", "expected"),
    [
        (("br", "zstd", "gzip"), "gzip, deflate, br, zstd", "br"),
        (("zstd", "gzip"), "gzip, deflate, br, zstd", "zstd"),
        (("gzip",), "gzip, deflate, br, zstd", "gzip"),
        (("br", "gzip"), "gzip", "gzip"),
        (("br", "gzip"), "br;q=0.1, gzip;q=0.2", "gzip"),
        (("br", "gzip"), "br;q=0, gzip", "gzip"),
        (("br", "gzip"), "*", "br"),
        (("gzip",), "x-gzip", "gzip"),
        (("gzip",), "identity;q=0, gzip;q=0.1", "gzip"),
        (("gzip",), "br", ""),
        (("gzip",), "gzip;q=0", ""),
        (("gzip",), "identity, gzip;q=0.5", ""),
        (("gzip",), "", ""),
        ((), "gzip", ""),
    ],
    ids=readable,
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file_in_a_coding(
    site: Path, make: Make, there: tuple[str, ...], accepted: str, expected: str, method: str
) -> None:
    provide(site, *there)
    files = make()
    for _ in range(2):
        files.end_of_turn()
        answer = ask(files, "/app.js", method, f"Accept-Encoding: {accepted}")
        assert answer.status == 200
        assert answer.headers.get("content-encoding", "") == expected
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        assert answer.headers.get("vary") == ("Accept-Encoding" if there else None)
        if method == "GET":
            assert answer.body == ENCODED.get(expected, TEXT)


@pytest.mark.parametrize("accepted", ["identity;q=0", "*;q=0", "identity;q=0, br"])
def test_nothing_that_is_acceptable(site: Path, make: Make, accepted: str) -> None:
    """RFC 9110 §15.5.7."""
    provide(site, "gzip")
    answer = ask(make(), "/app.js", "GET", f"Accept-Encoding: {accepted}")
    assert (answer.status, answer.headers["vary"]) == (406, "Accept-Encoding")


def test_vary_stands_on_everything(site: Path, make: Make) -> None:
    provide(site, "gzip")
    files = make()
    for _ in range(2):
        files.end_of_turn()
        for lines in ((), ("Accept-Encoding: gzip",), ("Range: bytes=0-1",), ("If-None-Match: *",)):
            assert ask(files, "/app.js", "GET", *lines).headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("conditional", [False, True], ids=["full", "unchanged"])
def test_vary_comes_and_goes_with_the_precompressed_file(site: Path, conditional: bool) -> None:
    """Within a second, also for clients that accept no coding: a cache keeps their response for those that do."""
    now = time.time() + 10.0
    provide(site)
    files = Files(site, clock=lambda: now)
    path = site / "app.js.gz"
    etag = ask(files, "/app.js").headers["etag"]
    lines = [f"If-None-Match: {etag}"] if conditional else []
    for act, vary in ((lambda: None, None), (lambda: path.write_bytes(b"x"), "Accept-Encoding"), (path.unlink, None)):
        act()
        now += 1.0
        for _ in range(2):
            files.end_of_turn()
            answer = ask(files, "/app.js", "GET", *lines)
            assert (answer.status, answer.headers.get("vary")) == (304 if conditional else 200, vary)
    files.close()


def test_a_precompressed_file_that_was_rewritten_is_not_unchanged(site: Path, make: Make) -> None:
    """In its place, which its directory does not show."""
    provide(site, "gzip")
    files = make()
    accept = "Accept-Encoding: gzip"
    files.end_of_turn()
    etag = ask(files, "/app.js", "GET", accept).headers["etag"]
    for _ in range(2):
        files.end_of_turn()
        assert ask(files, "/app.js", "GET", accept, f"If-None-Match: {etag}").status == 304
    (site / "app.js.gz").write_bytes(b"rewritten")
    files.end_of_turn()
    answer = ask(files, "/app.js", "GET", accept, f"If-None-Match: {etag}")
    assert (answer.status, answer.body) == (200, b"rewritten")


def test_a_precompressed_file_takes_the_place_of_what_was_compressed_on_the_fly(site: Path) -> None:
    """Within a second for a client whose version is still good, at once for any other."""
    now = time.time() + 10.0
    provide(site)
    files = Files(site, compress=True, clock=lambda: now)
    accept = "Accept-Encoding: gzip"
    files.end_of_turn()
    etag = ask(files, "/app.js", "GET", accept).headers["etag"]
    assert ask(files, "/app.js", "GET", accept, f"If-None-Match: {etag}").status == 304
    (site / "app.js.gz").write_bytes(b"precompressed")
    now += 1.0
    files.end_of_turn()
    answer = ask(files, "/app.js", "GET", accept, f"If-None-Match: {etag}")
    assert (answer.status, answer.body) == (200, b"precompressed")
    files.close()


def test_each_coding_has_its_own_tag(site: Path, make: Make) -> None:
    """RFC 9110 §8.8.3.3: what one of them is good for is nothing to the others."""
    provide(site, "gzip", "br")
    files = make()
    tags = {
        coding: ask(files, "/app.js", "GET", f"Accept-Encoding: {coding}").headers["etag"]
        for coding in ("identity", "gzip", "br")
    }
    assert len(set(tags.values())) == 3
    for _ in range(2):
        files.end_of_turn()
        for mine, tag in tags.items():
            for theirs in tags:
                lines = (f"Accept-Encoding: {theirs}", f"If-None-Match: {tag}")
                answer = ask(files, "/app.js", "GET", *lines)
                assert answer.status == (304 if mine == theirs else 200)
                if answer.status == 304:
                    assert answer.fields == [
                        ("ETag", tag),
                        ("Cache-Control", "no-cache"),
                        ("Vary", "Accept-Encoding"),
                    ]


def test_ranges_are_of_what_was_chosen(site: Path, make: Make) -> None:
    provide(site, "gzip")
    files = make()
    answer = ask(files, "/app.js", "GET", "Accept-Encoding: gzip", "Range: bytes=3-")
    assert (answer.status, answer.body) == (206, ENCODED["gzip"][3:])
    assert answer.headers["content-range"] == "bytes 3-6/7"
    assert answer.headers["content-encoding"] == "gzip"
    answer = ask(files, "/app.js", "GET", "Accept-Encoding: gzip", "Range: bytes=0-0,6-")
    assert answer.body.count(b"Content-Encoding: gzip") == 2
    assert "content-encoding" not in answer.headers  # it is the parts that are coded


@pytest.mark.parametrize(
    ("name", "coding", "content_type"),
    [
        ("Build/game.framework.js.br", "br", "text/javascript; charset=utf-8"),
        ("Build/game.wasm.br", "br", "application/wasm"),
        ("Build/game.data.br", "br", "application/octet-stream"),
        ("Build/game.symbols.json.br", "br", "application/json"),
        ("Build/game.loader.js.gz", "gzip", "text/javascript; charset=utf-8"),
        ("Build/game.wasm.gz", "gzip", "application/wasm"),
        ("Build/game.data.gz", "gzip", "application/octet-stream"),
        ("x.js.br", "br", "text/javascript; charset=utf-8"),
        ("logo.svgz", "gzip", "image/svg+xml"),
        # What has a meaning of its own.
        ("a.tar.gz", None, "application/gzip"),
        ("covtype.data.gz", None, "application/gzip"),
        ("data.json.gz", None, "application/gzip"),
        ("access.log.gz", None, "application/gzip"),
        ("a.tar.br", None, "application/x-brotli"),
        ("page.html.zst", None, "application/zstd"),
        ("forced.js.br", None, "application/x-mine"),
    ],
)
def test_a_compressed_file_that_pages_ask_for_by_its_own_name(
    site: Path, make: Make, name: str, coding: str | None, content_type: str
) -> None:
    """RFC 9110 §8.4; Unity's builds for WebGL are like that."""
    (site / name).parent.mkdir(exist_ok=True)
    (site / name).write_bytes(b"compressed")
    files = make(types={"forced.*": "application/x-mine"}, compress=True)
    for _ in range(2):
        files.end_of_turn()
        for lines in ((), ("Accept-Encoding: gzip, deflate, br, zstd",)):
            answer = ask(files, "/" + name, "GET", *lines)
            assert answer.body == b"compressed"
            assert answer.headers.get("content-encoding") == coding
            assert answer.headers["content-type"] == content_type
            assert answer.headers.get("vary") == ("Accept-Encoding" if coding else None)
        plain = ask(files, "/" + name, "GET", "Accept-Encoding: identity")  # the file, for those who cannot decode it
        assert (plain.body, plain.headers.get("content-encoding")) == (b"compressed", None)
        assert (plain.headers["etag"] == answer.headers["etag"]) is (coding is None)


@pytest.mark.parametrize("name", ["app.js.gz", "app.js.zst"])
def test_a_file_in_a_coding_may_be_asked_for_as_such(site: Path, make: Make, name: str) -> None:
    provide(site, "gzip", "br", "zstd")
    answer = ask(make(), "/" + name, "GET", "Accept-Encoding: gzip, br, zstd")
    assert answer.body in ENCODED.values()
    assert "content-encoding" not in answer.headers
    assert answer.headers["content-type"] in ("application/gzip", "application/x-brotli", "application/zstd")


def test_the_index_in_a_coding(site: Path, make: Make) -> None:
    provide(site, "gzip", name="index.html")
    assert ask(make(), "/", "GET", "Accept-Encoding: gzip").body == ENCODED["gzip"]


def test_a_file_in_a_coding_alone_is_not_the_file(site: Path, make: Make) -> None:
    (site / "app.js.gz").write_bytes(b"x")
    assert ask(make(), "/app.js", "GET", "Accept-Encoding: gzip").status == 404


@pytest.mark.parametrize("kind", ["directory", "fifo", "outward", "dangling"])
def test_what_cannot_be_served_is_passed_over(site: Path, make: Make, kind: str) -> None:
    provide(site, "gzip")
    path = site / "app.js.br"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/etc/passwd" if kind == "outward" else "nothing")
    assert ask(make(), "/app.js", "GET", "Accept-Encoding: gzip, br").body == ENCODED["gzip"]


def test_one_that_is_out_of_date_is_not_served(site: Path, make: Make) -> None:
    """The file was edited, and not compressed again yet."""
    provide(site, "gzip")
    os.utime(site / "app.js.gz", (1, 1))
    files = make()
    for _ in range(2):
        files.end_of_turn()
        assert ask(files, "/app.js", "GET", "Accept-Encoding: gzip").body == TEXT
    (site / "app.js.gz").write_bytes(b"new")
    files.end_of_turn()
    assert ask(files, "/app.js", "GET", "Accept-Encoding: gzip").body == b"new"


@pytest.mark.parametrize("counted", [True, False])
def test_one_that_comes_goes_or_changes(site: Path, make: Make, counted: bool) -> None:
    provide(site)
    files = make()
    path = site / "app.js.gz"
    for act, expected in (
        (lambda: None, TEXT),
        (lambda: path.write_bytes(b"first"), b"first"),
        (lambda: path.write_bytes(b"second"), b"second"),
        (lambda: path.unlink(), TEXT),
    ):
        act()
        for _ in range(2):
            if counted:
                files.end_of_turn()
            assert ask(files, "/app.js", "GET", "Accept-Encoding: gzip").body == expected


# Compressed on the fly


@pytest.mark.parametrize("content", [TEXT, LARGE[:50_000], LARGE], ids=readable)
def test_compressed_on_the_fly(site: Path, make: Make, content: bytes) -> None:
    (site / "a.txt").write_bytes(content)
    files = make(compress=True)
    answers = []
    for _ in range(3):
        files.end_of_turn()
        for _ in range(2):
            answers.append(ask(files, "/a.txt", "GET", "Accept-Encoding: gzip"))
    for answer in answers:
        assert gzip.decompress(answer.body) == content
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.headers["etag"].startswith('W/"')
        assert "accept-ranges" not in answer.headers
        assert answer.fields == answers[0].fields
    plain = ask(files, "/a.txt")
    assert (plain.body, plain.headers["vary"]) == (content, "Accept-Encoding")
    assert plain.headers["etag"] not in answers[0].headers["etag"]


def test_what_was_compressed_is_kept(site: Path, make: Make) -> None:
    (site / "a.txt").write_bytes(LARGE)
    files = make(compress=True)
    for expected in (True, False):
        files.end_of_turn()
        response = files(parse("/a.txt", "GET", "Accept-Encoding: gzip"))
        assert (not isinstance(response.body, bytes)) is expected
        if expected:
            for future in cast(Iterable[Future[bytes]], response.body):
                future.result()
        response.close()


@pytest.mark.parametrize("content", [TEXT, LARGE], ids=readable)
def test_revalidation_of_what_was_compressed(site: Path, make: Make, content: bytes) -> None:
    (site / "a.txt").write_bytes(content)
    files = make(compress=True)
    files.end_of_turn()
    accept = "Accept-Encoding: gzip"
    etag = ask(files, "/a.txt", "GET", accept).headers["etag"]
    for _ in range(2):
        answer = ask(files, "/a.txt", "GET", accept, f"If-None-Match: {etag}")
        assert answer.status == 304
        assert answer.fields == [("ETag", etag), ("Cache-Control", "no-cache"), ("Vary", "Accept-Encoding")]
    assert ask(files, "/a.txt", "GET", f"If-None-Match: {etag}").status == 200
    assert ask(files, "/a.txt", "GET", accept, f"If-Match: {etag}").status == 412  # a strong comparison


def test_ranges_are_of_the_file_itself(site: Path, make: Make) -> None:
    (site / "a.txt").write_bytes(TEXT)
    files = make(compress=True)
    etag = ask(files, "/a.txt", "GET", "Accept-Encoding: gzip").headers["etag"]
    answer = ask(files, "/a.txt", "GET", "Accept-Encoding: gzip", "Range: bytes=5-8")
    assert (answer.status, answer.body) == (206, TEXT[5:9])
    assert answer.headers.get("content-encoding") is None
    assert answer.headers["vary"] == "Accept-Encoding"
    answer = ask(files, "/a.txt", "GET", "Accept-Encoding: gzip", "Range: bytes=5-8", f"If-Range: {etag}")
    assert (answer.status, answer.body) == (200, TEXT)


@pytest.mark.parametrize(("name", "content"), [("a.png", TEXT), ("a.txt", b"tiny"), ("a.gz", TEXT)], ids=readable)
def test_what_is_not_worth_it_is_left_alone(site: Path, make: Make, name: str, content: bytes) -> None:
    (site / name).write_bytes(content)
    answer = ask(make(compress=True), "/" + name, "GET", "Accept-Encoding: gzip")
    assert answer.body == content
    assert "vary" not in answer.headers


def test_a_file_beside_it_comes_first(site: Path, make: Make) -> None:
    provide(site, "gzip")
    answer = ask(make(compress=True), "/app.js", "GET", "Accept-Encoding: gzip")
    assert answer.body == ENCODED["gzip"]
    assert not answer.headers["etag"].startswith("W/")


@pytest.mark.parametrize("content", [TEXT, LARGE], ids=readable)
def test_head_of_what_is_compressed(site: Path, make: Make, content: bytes) -> None:
    (site / "a.txt").write_bytes(content)
    files = make(compress=True)
    head = ask(files, "/a.txt", "HEAD", "Accept-Encoding: gzip")
    assert head.fields == ask(files, "/a.txt", "GET", "Accept-Encoding: gzip").fields


def test_an_edit_shows_in_what_is_compressed(site: Path, make: Make) -> None:
    files = make(compress=True)
    for content in (TEXT, TEXT[::-1], LARGE, TEXT):
        (site / "a.txt").write_bytes(content)
        for _ in range(2):
            files.end_of_turn()
            assert gzip.decompress(ask(files, "/a.txt", "GET", "Accept-Encoding: gzip").body) == content
