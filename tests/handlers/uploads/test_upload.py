"""Uploads: what is stored, what never is, and that nothing is ever half there."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from kaserve.handlers import Files, Mount
from kaserve.handlers.middleware.basic_auth import BasicAuth
from kaserve.handlers.static.site_headers import SiteHeaders
from kaserve.handlers.uploads import incoming_file
from kaserve.handlers.uploads.upload import FORM, Uploads
from kaserve.http.errors import HTTPError
from kaserve.http.messages import Request, Response
from kaserve.http.sinks import deliver
from tests.handlers.middleware.test_basic_auth import ANN, USERS, WRONG
from tests.http.test_multipart import END, part
from tests.tools.files import parse
from tests.tools.hooks import open_sink, respond
from tests.tools.ids import readable
from tests.tools.server import connect, request, serving, wait_for

FORM_TYPE = "Content-Type: multipart/form-data; boundary=xyz"


@pytest.fixture(autouse=True)
def _leaks() -> Iterator[None]:
    before = len(os.listdir("/dev/fd"))
    yield
    assert len(os.listdir("/dev/fd")) <= before


@pytest.fixture(params=["unnamed", "named", "without links"])
def _ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ways in which a file gets its name; systems and file systems differ."""
    if request.param != "unnamed":
        monkeypatch.setattr(incoming_file, "_UNNAMED", 0)
    elif not incoming_file._UNNAMED:
        pytest.skip("this system cannot name a file after it was made")
    if request.param == "without links":

        def link(*_: Any, **__: Any) -> None:
            raise OSError(errno.EPERM, "no hard links")

        monkeypatch.setattr(os, "link", link)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (site / "old.txt").write_bytes(b"old")
    (site / ".hidden").mkdir()
    (site / "out").symlink_to("../outside")
    (site / "in").symlink_to("sub")
    (site / "link.txt").symlink_to("old.txt")
    os.mkfifo(site / "fifo")
    return site


class Taker:
    """Uploads, fed as the server does it."""

    def __init__(self, site: Path, **options: Any) -> None:
        self.uploads = Uploads(Files(site), site, **options)

    def __call__(self, method: str, target: str, body: bytes | None, *lines: str) -> Response:
        length = () if body is None else (f"Content-Length: {len(body)}",)
        request = parse(target, method, *length, *lines)
        try:
            if body:
                self.send(request, body)
            return respond(self.uploads, request)
        finally:
            request.close()

    def send(self, request: Request, body: bytes) -> None:
        sink = open_sink(self.uploads, request)
        try:
            for start in range(0, len(body), 1000):
                sink.write(body[start : start + 1000])
            deliver(sink, request)
        except BaseException:
            sink.abandon()
            raise


@pytest.fixture
def take(site: Path) -> Iterator[Taker]:
    taker = Taker(site, headers=(("X-Mine", "1"),))
    yield taker
    taker.uploads.close()


def test_links_are_followed_as_files_are(site: Path) -> None:
    for symlinks, through_in, through_out in (("inside", 201, 403), ("none", 403, 403), ("all", 201, 201)):
        taker = Taker(site, symlinks=symlinks)
        assert taker("PUT", f"/in/{symlinks}", b"x").status == through_in
        assert taker("PUT", f"/out/{symlinks}", b"x").status == through_out
        taker.uploads.close()
    assert {path.name for path in (site.parent / "outside").iterdir()} == {"all"}


def test_hidden_names_if_wanted(site: Path) -> None:
    taker = Taker(site, hidden=True)
    assert taker("PUT", "/.hidden/.x", b"x").status == 201
    assert (site / ".hidden/.x").read_bytes() == b"x"
    taker.uploads.close()


def test_what_is_well_known_at_the_root_is_not_hidden(take: Taker, site: Path) -> None:
    """RFC 8615 §3: nor is it well known anywhere else."""
    (site / ".well-known").mkdir()
    (site / "sub/.well-known").mkdir()
    assert take("PUT", "/.well-known/x", b"x").status == 201
    assert take("PUT", "/sub/.well-known/x", b"x").status == 403


def test_under_a_mount(site: Path) -> None:
    """RFC 9110 §10.2.2: Location is relative to the path as the client sees it."""
    mount = Mount({"/files/": Uploads(Files(site), site)})
    with closing(mount), serving(mount, access_log=False) as server, connect(server) as client:
        client.send(request("PUT", "/files/sub/new", "Content-Length: 1") + b"x")
        assert dict(client.answer("PUT").fields)["location"] == "new"
        body = part(b"one", b'name="f"; filename="f"') + END
        client.send(request("POST", "/files/sub/", FORM_TYPE, f"Content-Length: {len(body)}") + body)
        answer = client.answer("POST")
        assert (answer.status, dict(answer.fields)["location"]) == (303, "./")


def test_a_small_one_in_chunks_that_is_refused_keeps_the_connection(site: Path) -> None:
    uploads = Uploads(Files(site), site)
    with closing(uploads), serving(uploads, access_log=False) as server, connect(server) as client:
        client.send(request("PUT", "/old.txt", "Transfer-Encoding: chunked") + b"3\r\nnew\r\n0\r\n\r\n")
        assert client.answer("PUT").status == 409
        assert client.ask("/old.txt").body == b"old"
        client.send(request("PUT", "/old.txt", "Transfer-Encoding: chunked") + b"20000\r\n" + b"x" * 0x20000)
        assert client.answer("PUT").status == 409
        assert client.is_closed


@pytest.fixture
def overwrite(site: Path) -> Iterator[Taker]:
    taker = Taker(site, overwrite=True)
    yield taker
    taker.uploads.close()


def names(site: Path) -> set[str]:
    return {str(path.relative_to(site)) for path in site.rglob("*")}


@pytest.mark.usefixtures("_ways")
class TestPut:
    @pytest.mark.parametrize("size", [0, 1, 100_000])
    def test_a_new_file(self, take: Taker, site: Path, size: int) -> None:
        """RFC 9110 §9.3.4, §10.2.2."""
        content = os.urandom(size)
        response = take("PUT", "/sub/new%20file.bin", content or None)
        assert response.status == 201
        assert response.headers["location"] == "new%20file.bin"
        assert response.headers["x-mine"] == "1"
        assert (site / "sub/new file.bin").read_bytes() == content
        served = take("GET", "/sub/" + response.headers["location"], None)
        assert served.headers["etag"] == response.headers["etag"]
        served.close()
        assert [name for name in names(site) if "kaserve" in name] == []

    def test_an_old_file_stays(self, take: Taker, site: Path) -> None:
        assert take("PUT", "/old.txt", b"new").status == 409
        assert (site / "old.txt").read_bytes() == b"old"

    def test_an_old_file_is_replaced(self, overwrite: Taker, site: Path) -> None:
        with open(site / "old.txt", "rb") as reader:
            response = overwrite("PUT", "/old.txt", b"new")
            assert (response.status, response.body) == (204, b"")
            assert reader.read() == b"old"  # another file took its place
        assert (site / "old.txt").read_bytes() == b"new"
        assert "etag" in response.headers

    def test_permissions_are_what_the_umask_leaves(self, take: Taker, site: Path) -> None:
        before = os.umask(0o027)
        try:
            take("PUT", "/a", b"x")
        finally:
            os.umask(before)
        assert (site / "a").stat().st_mode & 0o7777 == 0o640

    @pytest.mark.parametrize("mode", [0o640, 0o600, 0o400, 0o666, 0o4755])
    def test_the_permissions_of_a_file_that_is_replaced_are_kept(self, overwrite: Taker, site: Path, mode: int) -> None:
        """But for the bits that would run the new content as its owner."""
        old = site / "old.txt"
        old.chmod(mode)
        if os.geteuid() == 0:
            os.chown(old, 1234, 5678)
        before = old.stat()
        assert overwrite("PUT", "/old.txt", b"new").status == 204
        after = old.stat()
        assert stat.S_IMODE(after.st_mode) == mode & 0o777
        assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
        body = part(b"form", b'filename="old.txt"') + END
        assert overwrite("POST", "/", body, FORM_TYPE).status == 303
        assert old.read_bytes() == b"form"
        assert stat.S_IMODE(old.stat().st_mode) == mode & 0o777

    def test_a_group_that_cannot_be_kept_loses_nothing_to_another(
        self, overwrite: Taker, site: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = site / "old.txt"
        old.chmod(0o664)
        really = os.fstat

        def fchown(*_: object) -> None:
            raise PermissionError(errno.EPERM, "not a member of it")

        def fstat(fd: int) -> os.stat_result:
            status = really(fd)
            values = list(status)
            values[5] += 1
            times = {name: getattr(status, name) for name in ("st_mtime_ns", "st_ctime_ns")}
            return os.stat_result(values, times)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fchown", fchown)
            patch.setattr(os, "fstat", fstat)
            assert overwrite("PUT", "/old.txt", b"new").status == 204
        assert stat.S_IMODE(old.stat().st_mode) == 0o644

    @pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "identity, gzip", "unknown"])
    @pytest.mark.parametrize("method", ["PUT", "POST"])
    def test_a_body_in_a_coding_is_not_stored(self, take: Taker, site: Path, method: str, coding: str) -> None:
        """RFC 9110 §15.5.16; §12.5.3 has the header that says what to do."""
        response = take(method, "/new", b"\x1f\x8b", FORM_TYPE, f"Content-Encoding: {coding}")
        assert (response.status, response.headers["accept-encoding"]) == (415, "identity")
        assert not (site / "new").exists()

    def test_identity_is_no_coding(self, take: Taker, site: Path) -> None:
        assert take("PUT", "/new", b"x", "Content-Encoding: identity").status == 201

    def test_the_second_of_two_uploads_loses(self, take: Taker, site: Path) -> None:
        """Another file of the name appears while this one arrives."""
        first, second = (parse("/a", "PUT", "Content-Length: 1") for _ in range(2))
        take.send(first, b"1")
        take.send(second, b"2")
        assert respond(take.uploads, second).status == 201
        assert respond(take.uploads, first).status == 409
        first.close()
        second.close()
        assert (site / "a").read_bytes() == b"2"

    def test_a_file_that_appears_at_the_last_moment_stays(
        self, take: Taker, site: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(incoming_file.IncomingFile, "_status", lambda self: None)
        assert take("PUT", "/old.txt", b"new").status == 409
        assert (site / "old.txt").read_bytes() == b"old"

    @pytest.mark.parametrize("method", ["PUT", "POST"])
    def test_what_is_never_complete_is_gone(self, take: Taker, site: Path, method: str) -> None:
        before = names(site)
        sink = open_sink(take.uploads, parse("/a" if method == "PUT" else "/", method, "Content-Length: 99", FORM_TYPE))
        sink.write(b"x" if method == "PUT" else part(b"x" * 100)[:-50])
        sink.abandon()
        assert names(site) == before

    def test_what_is_complete_but_gets_no_response_is_gone(self, take: Taker, site: Path) -> None:
        before = names(site)
        request = parse("/a", "PUT", "Content-Length: 1")
        take.send(request, b"x")
        request.close()
        assert names(site) == before

    def test_a_full_disk(self, take: Taker, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def write(*_: Any) -> int:
            raise OSError(errno.ENOSPC, "full")

        before = names(site)
        monkeypatch.setattr(os, "write", write)
        with pytest.raises(HTTPError) as caught:
            take("PUT", "/a", b"x")
        assert caught.value.status == 507
        with pytest.raises(HTTPError) as caught:
            take("POST", "/", part(b"x") + END, FORM_TYPE)
        assert caught.value.status == 507
        monkeypatch.undo()
        assert names(site) == before


class TestRefused:
    """Nothing of the body is stored."""

    @pytest.mark.parametrize(
        ("target", "status"),
        [
            ("/", 409), ("/sub", 409), ("/sub/", 409), ("/sub/.", 409), ("/none/a", 409), ("/old.txt/a", 409),
            ("/fifo", 409), ("/link.txt", 409), ("/out", 409), ("/out/a", 403), ("/../a", 409), ("/%2e%2e/a", 409),
            ("/sub/%2e%2e%2f%2e%2e%2fa", 409), ("/sub/..%5c..%5ca", 409), ("/a%00b", 409), ("/%zz", 400),
            ("/.a", 403), ("/.hidden/a", 403), ("/sub/.git/a", 403), ("/" + "x" * 300, 400),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("body", [b"x", None])
    def test_names(self, overwrite: Taker, site: Path, target: str, status: int, body: bytes | None) -> None:
        before = names(site.parent)
        assert overwrite("PUT", target, body).status == status
        assert names(site.parent) == before

    def test_links_inside_are_followed_on_the_way(self, take: Taker, site: Path) -> None:
        assert take("PUT", "/in/a", b"x").status == 201
        assert (site / "sub/a").read_bytes() == b"x"

    def test_hidden_names_when_they_are_wanted(self, site: Path) -> None:
        take = Taker(site, hidden=True)
        assert take("PUT", "/.hidden/.a", b"x").status == 201
        take.uploads.close()

    def test_well_known(self, take: Taker, site: Path) -> None:
        (site / ".well-known").mkdir()
        assert take("PUT", "/.well-known/a", b"x").status == 201

    def test_a_part_of_a_file(self, take: Taker) -> None:
        """RFC 9110 §14.5."""
        assert take("PUT", "/a", b"x", "Content-Range: bytes 0-0/9").status == 400

    @pytest.mark.parametrize("method", ["DELETE", "PATCH", "TRACE"])
    def test_methods(self, take: Taker, method: str) -> None:
        for body in (b"x", None):
            response = take(method, "/old.txt", body)
            assert response.status == 405
            assert response.headers["allow"] == "GET, HEAD, OPTIONS, PUT, POST"
        assert take("MKCOL-X", "/", b"x").status == 501
        assert take("OPTIONS", "/", None).headers["allow"] == "GET, HEAD, OPTIONS, PUT, POST"

    @pytest.mark.parametrize("line", ["Expect: 100-continue", "X: 1"])
    def test_a_large_body_is_refused_before_it_is_sent(self, take: Taker, line: str) -> None:
        length = 1 if line.startswith("E") else 1 << 20
        with pytest.raises(HTTPError) as caught:
            take.uploads.body_sink(parse("/old.txt", "PUT", f"Content-Length: {length}", line))
        assert caught.value.status == 409
        assert ("X-Mine", "1") in caught.value.headers

    @pytest.mark.parametrize(
        ("lines", "is_foreign"),
        [
            (["Origin: http://example.com"], False),
            (["Origin: http://EXAMPLE.com"], False),
            (["Origin: http://other.example"], True),
            (["Origin: http://example.com:81"], True),
            (["Origin: null"], True),
            (["Sec-Fetch-Site: same-origin"], False),
            (["Sec-Fetch-Site: none"], False),
            (["Sec-Fetch-Site: same-site"], True),
            (["Sec-Fetch-Site: cross-site", "Origin: http://example.com"], True),
        ],
        ids=readable,
    )
    def test_pages_of_others(self, take: Taker, lines: list[str], is_foreign: bool) -> None:
        assert take("PUT", "/a", b"x", *lines).status == (403 if is_foreign else 201)
        assert take("POST", "/", part(b"x", b'filename="b"') + END, FORM_TYPE, *lines).status == (
            403 if is_foreign else 303
        )


class TestConditions:
    """RFC 9110 §13.1.1, §13.1.2, §13.1.4."""

    @pytest.mark.parametrize(
        ("target", "line", "status"),
        [
            ("/new", "If-None-Match: *", 201),
            ("/new", "If-Match: *", 412),
            ("/new", 'If-Match: "x"', 412),
            ("/new", 'If-None-Match: "x"', 201),
            ("/old.txt", "If-None-Match: *", 412),
            ("/old.txt", "If-Match: *", 204),
            ("/old.txt", 'If-Match: "x"', 412),
            ("/old.txt", 'If-Match: "x", ETAG', 204),
            ("/old.txt", "If-Match: W/ETAG", 412),  # strong comparison
            ("/old.txt", "If-None-Match: W/ETAG", 412),  # weak comparison
            ("/old.txt", 'If-None-Match: "x"', 204),
            ("/old.txt", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT", 412),
            ("/old.txt", "If-Unmodified-Since: Fri, 31 Dec 9999 23:59:59 GMT", 204),
            ("/old.txt", "If-Unmodified-Since: tomorrow", 204),
            ("/old.txt", "If-Match: ETAG\r\nIf-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT", 204),
            ("/old.txt", "If-Match: ETAG\r\nIf-None-Match: ETAG", 412),
            ("/old.txt", 'If-Match: "x"\r\nIf-None-Match: "x"', 412),
        ],
    )
    def test_put(self, overwrite: Taker, target: str, line: str, status: int) -> None:
        etag = overwrite("HEAD", "/old.txt", None)
        etag.close()
        assert overwrite("PUT", target, b"new", line.replace("ETAG", etag.headers["etag"])).status == status

    def test_it_is_looked_at_again_in_the_end(self, overwrite: Taker, site: Path) -> None:
        request = parse("/new", "PUT", "Content-Length: 1", "If-None-Match: *")
        overwrite.send(request, b"x")
        (site / "new").write_bytes(b"other")
        assert respond(overwrite.uploads, request).status == 412
        request.close()
        assert (site / "new").read_bytes() == b"other"


@pytest.mark.usefixtures("_ways")
def test_fingerprinted_names_may_change(site: Path) -> None:
    """Clients would not ask for an uploaded file again for a year."""
    files = Files(site, headers=SiteHeaders(immutable=True))
    with closing(files), pytest.raises(ValueError, match=r"must not have SiteHeaders\(immutable=True\)"):
        Uploads(files, site)


class TestForms:
    def test_files(self, take: Taker, site: Path) -> None:
        """Back to the directory, RFC 9110 §15.4.4."""
        content = os.urandom(100_000)
        locations = {"/sub/": "./", "/sub": "sub/", "/x/../sub": "sub/", "/sub/.": "./", "/sub/x/..": "../"}
        for number, (target, location) in enumerate(locations.items()):
            parts = part(content, b'name="file"; filename="a%d"' % number) + part(b"", b'filename="b%d"' % number)
            response = take("POST", target, parts + part(b"x", b'name="n"') + END, FORM_TYPE)
            assert (response.status, response.headers["location"]) == (303, location)
            assert (site / f"sub/a{number}").read_bytes() == content
            assert (site / f"sub/b{number}").read_bytes() == b""
        assert len(names(site / "sub")) == 10

    @pytest.mark.parametrize("name", [b"../../evil", b"/etc/evil", b"C:\\evil", b"..\\evil", b"outside/evil"])
    def test_names_lose_their_directories(self, take: Taker, site: Path, name: bytes) -> None:
        assert take("POST", "/sub/", part(b"x", b'filename="' + name + b'"') + END, FORM_TYPE).status == 303
        assert (site / "sub/evil").read_bytes() == b"x"

    @pytest.mark.parametrize(
        ("name", "status"), [(b".", 400), (b"..", 400), (b"a%0Ab", 400), (b".bashrc", 403), (b"x" * 300, 400)]
    )
    def test_names_that_cannot_be(self, take: Taker, site: Path, name: bytes, status: int) -> None:
        before = names(site)
        assert take("POST", "/", part(b"x", b'filename="' + name + b'"') + END, FORM_TYPE).status == status
        assert names(site) == before

    def test_a_browser_gets_a_page_with_a_way_back(self, take: Taker) -> None:
        body = part(b"new", b'filename="old.txt"') + END
        response = take("POST", "/", body, FORM_TYPE, "Accept: text/html,application/xhtml+xml,*/*;q=0.8")
        page = response.body
        assert isinstance(page, bytes)
        assert response.status == 409
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.headers["content-security-policy"].startswith("default-src 'none'")
        assert b"There is something of this name already; 0 files were stored, 1 was not." in page
        assert b'<a href="">Back to the directory</a>' in page  # the directory itself, whatever a proxy calls it
        assert response.headers["x-mine"] == "1"

    @pytest.mark.parametrize("accept", [(), ("Accept: */*",), ("Accept: text/plain",), ("Accept: application/json",)])
    def test_a_program_gets_a_line(self, take: Taker, accept: tuple[str, ...]) -> None:
        response = take("POST", "/", part(b"new", b'filename="old.txt"') + END, FORM_TYPE, *accept)
        assert (response.status, response.headers["content-type"]) == (409, "text/plain; charset=utf-8")

    def test_an_old_file_stays_and_the_others_are_stored(self, take: Taker, site: Path) -> None:
        body = part(b"1", b'filename="old.txt"') + part(b"2", b'filename="a"') + part(b"3", b'filename="a"') + END
        response = take("POST", "/", body, FORM_TYPE)
        assert response.status == 409
        assert isinstance(response.body, bytes)
        assert b"1 file was stored, 2 were not" in response.body
        assert ((site / "old.txt").read_bytes(), (site / "a").read_bytes()) == (b"old", b"2")

    def test_an_old_file_is_replaced(self, overwrite: Taker, site: Path) -> None:
        assert overwrite("POST", "/", part(b"new", b'filename="old.txt"') + END, FORM_TYPE).status == 303
        assert (site / "old.txt").read_bytes() == b"new"

    @pytest.mark.parametrize(
        ("target", "line", "body", "status"),
        [
            ("/", "Content-Type: text/plain", b"x", 415),
            ("/", "X: 1", b"x", 415),
            ("/", FORM_TYPE, END, 400),
            ("/", FORM_TYPE, part(b"", b'filename=""') + END, 400),
            ("/", FORM_TYPE, part(b"x", b'filename="a"')[:-9], 400),
            ("/", FORM_TYPE, b"--xyzzy", 400),
            ("/", FORM_TYPE, b"--xyzzy\r\n\r\n" + b"x" * 5000, 400),
            ("/", FORM_TYPE, None, 400),
            ("/old.txt", FORM_TYPE, part(b"x") + END, 409),
            ("/none/", FORM_TYPE, part(b"x") + END, 409),
            ("/out/", FORM_TYPE, part(b"x") + END, 403),
            ("/.hidden/", FORM_TYPE, part(b"x") + END, 403),
        ],
    )
    def test_what_is_no_upload(
        self, take: Taker, site: Path, target: str, line: str, body: bytes | None, status: int
    ) -> None:
        before = names(site.parent)
        assert take("POST", target, body, line).status == status
        assert names(site.parent) == before


def test_the_form_is_on_the_listing(site: Path) -> None:
    files = Files(site, form=FORM)
    response = files(parse("/"))
    assert isinstance(response.body, bytes)
    assert FORM.encode() in response.body
    files.close()


class TestOverConnections:
    def test_one_connection_for_all(self, site: Path, take: Taker) -> None:
        """After every kind of response the same connection serves the next request; chunks need no length."""
        form = part(b"x" * 50_000, b'filename="f"') + END
        chunked = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        requests = [
            (request("PUT", "/a", "Content-Length: 3") + b"abc", 201),
            (request("PUT", "/a", "Content-Length: 3") + b"abc", 409),
            (request("PUT", "/b", "Transfer-Encoding: chunked") + chunked, 201),
            (request("PUT", "/c"), 201),
            (request("PUT", "/.d", "Content-Length: 3") + b"abc", 403),
            (request("POST", "/", FORM_TYPE, f"Content-Length: {len(form)}") + form, 303),
            (request("POST", "/", "Content-Length: 3") + b"abc", 415),
            (request("DELETE", "/a"), 405),
            (request("GET", "/a", "Content-Length: 3") + b"abc", 200),
        ]
        with serving(take.uploads) as server, connect(server) as client:
            for wire, status in requests:
                client.send(wire)
                answer = client.answer()
                assert (answer.status, answer.persists) == (status, True)
        assert [(site / name).read_bytes() for name in "abc"] == [b"abc", b"abcde", b""]

    def test_a_client_that_disconnects_in_the_middle_leaves_nothing(self, site: Path, take: Taker) -> None:
        before = names(site)
        with serving(take.uploads) as server:
            with connect(server) as client:
                client.send(request("PUT", "/a", "Content-Length: 1000000") + b"x" * 1000)
                client.send(b"x" * 1000)
            wait_for(lambda: server.stats.accepted == 1 and server.open_connections == 0)
            assert names(site) == before

    def test_behind_basic_auth(self, site: Path, take: Taker) -> None:
        """The first request of a user already has a large body, which comes while the password is checked."""
        content = os.urandom(3_000_000)
        length = f"Content-Length: {len(content)}"
        before = names(site)
        door = BasicAuth(take.uploads, USERS)
        with serving(door) as server:
            for line in (WRONG, WRONG, "X: 1"):
                with connect(server) as client:
                    client.send(request("PUT", "/a", line, length))
                    with suppress(ConnectionError):  # the connection closes after a rejection
                        client.send(content)
                    # The connection stays if the body was complete before the verdict, and closes if it was not.
                    assert client.answer().status == 401
            assert names(site) == before
            with connect(server) as client:
                client.send(request("PUT", "/a", ANN, length) + content)
                assert client.answer().status == 201
                assert client.ask("/a", ANN).body == content
        door._pool.shutdown()

    def test_no_client_is_told_to_continue_before_an_error(self, take: Taker) -> None:
        with serving(take.uploads) as server, connect(server) as client:
            client.send(request("PUT", "/old.txt", "Expect: 100-continue", "Content-Length: 3"))
            assert client.answer().status == 409

    def test_a_body_that_is_too_large(self, site: Path, take: Taker) -> None:
        before = names(site)
        with serving(take.uploads, limit_request_body=1000) as server:
            for line, body in (("Content-Length: 1001", b""), ("Transfer-Encoding: chunked", b"3e9\r\n" + b"x" * 1001)):
                with connect(server) as client:
                    client.send(request("PUT", "/a", line) + body)
                    assert client.answer().status == 413
        assert names(site) == before
