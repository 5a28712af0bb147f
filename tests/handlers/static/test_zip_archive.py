"""Directories as zip archives: everything that may be served is in them, nothing else, and they are right or broken."""

from __future__ import annotations

import errno
import io
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from stat import S_ISDIR, S_ISREG

import pytest

from kaserve import Request, Response
from kaserve.handlers import Files
from kaserve.handlers.static import directories, zip_archive
from kaserve.handlers.static.paths import Tree
from kaserve.handlers.static.zip_archive import respond_with_archive, wants_archive
from kaserve.threads.slices import IncrementalBody
from tests.tools.server import connect, get, serving

PIECE = 64 * 1024


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def ask(site: Path, executor: ThreadPoolExecutor) -> Iterator[Callable[..., Response]]:
    """ask(): the response with an archive of the site, or of what is at `names` in it."""
    tree = Tree(site)
    yield lambda *names, **how: respond_with_archive(tree, names, executor, **how)
    tree.close()


def pieces(response: Response) -> Iterator[bytes]:
    assert isinstance(response.body, IncrementalBody)
    try:
        for piece in response.body:
            content = piece.result() if isinstance(piece, Future) else piece
            assert isinstance(content, bytes)
            yield content
    finally:
        response.close()


def unpack(response: Response) -> zipfile.ZipFile:
    unpacked = zipfile.ZipFile(io.BytesIO(b"".join(pieces(response))))
    assert unpacked.testzip() is None
    return unpacked


Ask = Callable[..., Response]


def contents(unpacked: zipfile.ZipFile) -> dict[str, bytes]:
    return {name: unpacked.read(name) for name in unpacked.namelist()}


def test_all_that_is_there(site: Path, ask: Ask) -> None:
    large = os.urandom(3 * PIECE + 1)
    for name, content in {"a.txt": b"a", "empty": b"", "d/e/b b.txt": b"b" * 5000, "d/large": large}.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(content)
    (site / "nothing in it").mkdir()
    unpacked = unpack(ask())
    assert contents(unpacked) == {
        "a.txt": b"a",
        "empty": b"",
        "d/": b"",
        "d/e/": b"",
        "d/e/b b.txt": b"b" * 5000,
        "d/large": large,
        "nothing in it/": b"",
    }
    assert unpacked.comment == b""
    assert contents(unpack(ask(b"d", b"e"))) == {"b b.txt": b"b" * 5000}  # relative to the requested directory


def test_an_empty_directory(ask: Ask) -> None:
    assert contents(unpack(ask())) == {}


def test_dates_and_permissions(site: Path, ask: Ask) -> None:
    (site / "run.sh").touch()
    (site / "d").mkdir()
    (site / "run.sh").chmod(0o4755)
    (site / "d").chmod(0o700)
    for name in ("run.sh", "d"):
        os.utime(site / name, (784111777, 784111777))
    unpacked = unpack(ask())
    run, d = unpacked.getinfo("run.sh"), unpacked.getinfo("d/")
    assert (S_ISREG(run.external_attr >> 16), run.external_attr >> 16 & 0o7777) == (True, 0o755)
    assert (S_ISDIR(d.external_attr >> 16), d.external_attr >> 16 & 0o7777) == (True, 0o700)
    for info in (run, d):
        assert info.date_time[:5] == time.localtime(784111777)[:5]
        assert info.extra == b"UT\x05\x00\x01" + (784111777).to_bytes(4, "little")


@pytest.mark.parametrize("seconds", [-1 << 40, -1, 0, 315532799, (1 << 32) + 1, 1 << 36])
def test_dates_that_the_format_does_not_have(site: Path, ask: Ask, seconds: int) -> None:
    (site / "a").touch()
    try:
        os.utime(site / "a", (seconds, seconds))
    except OSError:
        pytest.skip("the file system cannot store this date either")
    assert 1980 <= unpack(ask()).getinfo("a").date_time[0] <= 2038


@pytest.mark.parametrize(
    ("name", "label"),
    [
        (b"plain.txt", "plain.txt"),
        ("größe 日本.txt".encode(), "größe 日本.txt"),
        (b"\xff\x80.txt", "%FF%80.txt"),
        (b"new\nline", "new\nline"),
        (b"100%", "100%"),
        (b"<a href='x'>&\"", "<a href='x'>&\""),
        (b"C:", "C:"),
        (b"-rf", "-rf"),
        (b"...", None),
        (b"back\\slash", None),
    ],
)
def test_names(site: Path, ask: Ask, name: bytes, label: str | None) -> None:
    (site / os.fsdecode(name)).write_bytes(b"content")
    assert contents(unpack(ask())) == ({} if label is None else {label: b"content"})


def test_hidden_files(site: Path, ask: Ask) -> None:
    (site / ".git").mkdir()
    (site / ".git" / "config").write_bytes(b"secret")
    (site / ".env").write_bytes(b"secret")
    unpacked = unpack(ask())
    assert contents(unpacked) == {}
    assert unpacked.comment == b""
    assert set(unpack(ask(show_hidden=True)).namelist()) == {".git/", ".git/config", ".env"}


def test_links_and_what_is_no_file(tmp_path: Path, site: Path, ask: Ask) -> None:
    """A link to a file inside is that file; nothing leads out or in circles, and what is missing is named."""
    (tmp_path / "secret").write_bytes(b"secret")
    (site / "d").mkdir()
    (site / "d" / "f").write_bytes(b"inside")
    for name, target in {"in": "d/f", "out": "../secret", "etc": "/etc", "up": "..", "loop": ".", "gone": "x"}.items():
        (site / name).symlink_to(target)
    os.mkfifo(site / "pipe")
    unpacked = unpack(ask())
    assert contents(unpacked) == {"d/": b"", "d/f": b"inside", "in": b"inside"}
    first, *left_out = unpacked.comment.decode().splitlines()
    assert first == "Left out (6):"
    assert sorted(line.partition(":")[0] for line in left_out) == [
        '"etc"',
        '"gone"',
        '"loop"',
        '"out"',
        '"pipe"',
        '"up"',
    ]
    assert b"secret" not in unpacked.comment


def test_names_that_the_format_cannot_tell_apart(site: Path, ask: Ask) -> None:
    (site / os.fsdecode(b"\xff")).write_bytes(b"1")
    (site / "%FF").write_bytes(b"2")
    unpacked = unpack(ask())
    assert unpacked.namelist() == ["%FF"]
    assert b"Left out (1)" in unpacked.comment


def test_what_may_not_be_read(site: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    (site / "a").write_bytes(b"a")
    (site / "b").write_bytes(b"b")
    (site / "d").mkdir()
    (site / "d" / "c").write_bytes(b"c")
    really_open, really_read = Tree.open, directories.open_to_read

    def refuse(tree: Tree, names: tuple[bytes, ...]) -> object:
        if names == (b"b",):
            raise PermissionError(13, "Permission denied")
        return really_open(tree, names)

    entered: list[int] = []

    def refuse_second(fd: int) -> int:
        entered.append(fd)
        if len(entered) == 2:
            raise PermissionError(13, "Permission denied")
        return really_read(fd)

    monkeypatch.setattr(Tree, "open", refuse)
    monkeypatch.setattr(zip_archive, "open_to_read", refuse_second)
    unpacked = unpack(ask())
    assert contents(unpacked) == {"a": b"a"}
    assert sorted(unpacked.comment.decode().splitlines()) == [
        '"b": Permission denied',
        '"d": Permission denied',
        "Left out (2):",
    ]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ENOMEM])
def test_what_is_the_fault_of_the_server_is_not_left_out(
    site: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (site / "a").write_bytes(b"a")
    taken = pieces(ask())

    def fail(tree: Tree, names: tuple[bytes, ...]) -> object:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Tree, "open", fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        b"".join(taken)


def test_the_comment_is_cut_off_where_the_format_ends(site: Path, ask: Ask) -> None:
    for number in range(300):
        (site / f"{number:0240}ä").symlink_to("nothing")
    comment = unpack(ask()).comment
    assert 65000 < len(comment) <= 65535
    assert comment.decode().startswith("Left out (300):\n")


def test_a_directory_that_is_not_there_is_an_error_before_anything_is_sent(ask: Ask) -> None:
    with pytest.raises(FileNotFoundError):
        ask(b"nothing")


Change = Callable[[Path], object]


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite(path: Path) -> None:
    path.write_bytes(b"y" * path.stat().st_size)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


@pytest.mark.parametrize("size", [10, PIECE, 3 * PIECE])
@pytest.mark.parametrize("change", [grow, rewrite, lambda path: os.truncate(path, 5)])
def test_an_archive_of_a_file_that_changes_breaks_off(
    site: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch, change: Change, size: int
) -> None:
    (site / "a").write_bytes(b"x" * size)
    really = os.read

    def read(fd: int, length: int) -> bytes:
        data = really(fd, length)
        monkeypatch.undo()
        change(site / "a")
        return data

    taken = pieces(ask())
    monkeypatch.setattr(os, "read", read)
    with pytest.raises(OSError, match="changed while it was put into an archive"):
        b"".join(taken)


@pytest.mark.parametrize("change", [os.unlink, lambda path: os.replace(path.parent / "b", path)])
def test_a_file_that_is_deleted_or_replaced_is_there_as_it_was(
    site: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    (site / "d").mkdir()
    (site / "d" / "a").write_bytes(b"x" * (PIECE + 1))
    (site / "d" / "b").write_bytes(b"y")
    really = os.read

    def read(fd: int, length: int) -> bytes:
        data = really(fd, length)
        if data[:1] == b"x" and len(data) == PIECE:
            change(site / "d" / "a")
        return data

    monkeypatch.setattr(os, "read", read)
    assert contents(unpack(ask()))["d/a"] == b"x" * (PIECE + 1)


def test_nothing_stays_open(site: Path, ask: Ask, executor: ThreadPoolExecutor) -> None:
    for number in range(50):
        (site / f"d{number}").mkdir()
        (site / f"d{number}" / "f").write_bytes(b"x" * 2 * PIECE)
    before = len(os.listdir("/dev/fd"))
    ask().close()
    taken = pieces(ask())
    for _ in range(10):
        next(taken)
    taken.close()  # type: ignore[attr-defined]  # a generator, whatever its annotation says
    executor.submit(int).result()
    executor.shutdown()
    assert len(os.listdir("/dev/fd")) <= before


def test_pieces_are_bounded(site: Path, ask: Ask) -> None:
    (site / "large").write_bytes(os.urandom(20 * PIECE))
    for number in range(200):
        (site / f"{number}").write_bytes(os.urandom(1000))
    sizes = [len(piece) for piece in pieces(ask())]
    assert max(sizes) < 2 * PIECE
    assert len(sizes) > 30


def test_large_entries_use_zip64(site: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those beyond 4 GiB do: whether one needs it is known from its size, before it is read."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    (site / "a").write_bytes(b"x" * 2000)
    data = b"".join(pieces(ask()))
    assert data[4:6] == b"\x2d\x00"  # version 4.5 of the format is needed to extract it
    assert b"\x01\x00\x10\x00" in data  # the field for sizes of 64 bits
    monkeypatch.undo()
    assert contents(zipfile.ZipFile(io.BytesIO(data))) == {"a": b"x" * 2000}


# The response


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("zip", True),
        ("zip=", True),
        ("zip=1", True),
        ("sort=size&zip", True),
        ("", False),
        ("zipped", False),
        ("q=zip", False),
        ("ZIP", False),
    ],
)
def test_when_it_wants_archive(query: str, expected: bool) -> None:
    request = Request("GET", "/", 1, [])
    request.query = query
    assert wants_archive(request) is expected


@pytest.mark.parametrize(
    ("name", "disposition"),
    [
        (None, 'attachment; filename="files.zip"'),
        (b"photos", 'attachment; filename="photos.zip"'),
        (b"my photos (1)", 'attachment; filename="my photos (1).zip"'),
        ("größe".encode(), "attachment; filename=\"gr__e.zip\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.zip"),
        (b'a"b\r\nc', "attachment; filename=\"a_b__c.zip\"; filename*=UTF-8''a%22b%0D%0Ac.zip"),
        (b"100%", "attachment; filename=\"100_.zip\"; filename*=UTF-8''100%25.zip"),
        (b"\xff", "attachment; filename=\"_.zip\"; filename*=UTF-8''%EF%BF%BD.zip"),
    ],
)
def test_what_it_is_called(site: Path, ask: Ask, name: bytes | None, disposition: str) -> None:
    """RFC 6266 §4.3, RFC 8187 §3.2."""
    if name is not None:
        (site / os.fsdecode(name)).mkdir()
    response = ask(*([] if name is None else [name]))
    assert response.status == 200
    assert response.headers["content-type"] == "application/zip"
    assert response.headers["content-disposition"] == disposition
    response.close()


def test_over_one_connection(site: Path) -> None:
    """In chunks, and the connection serves the next request."""
    (site / "d").mkdir()
    (site / "d" / "a").write_bytes(os.urandom(5 * PIECE))
    (site / "index.html").write_bytes(b"index")
    with closing(Files(site, zip=True)) as files, serving(files) as server, connect(server) as client:
        for _ in range(3):
            packed = client.ask("/d/?zip")
            assert (packed.status, packed.framing) == (200, "chunked")
            assert len(zipfile.ZipFile(io.BytesIO(packed.body)).read("a")) == 5 * PIECE
            head = client.ask("/d/?zip", method="HEAD")
            assert (head.status, head.body) == (200, b"")
            assert client.ask("/?zip").value("content-type") == "application/zip"  # also where there is an index
            assert client.ask("/d?zip").value("location") == "d/?zip"
            assert client.ask("/").body == b"index"
            assert client.ask("/nothing/?zip").status == 404


def test_an_archive_that_cannot_be_completed_is_no_archive(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is reset in the middle of a chunked body, which no client takes for an end."""
    (site / "a").write_bytes(os.urandom(3 * PIECE))
    really = os.read

    def read(fd: int, length: int) -> bytes:
        os.truncate(site / "a", PIECE)
        return really(fd, length)

    with closing(Files(site, zip=True)) as files, serving(files) as server, connect(server) as client:
        with monkeypatch.context() as patch:
            patch.setattr(os, "read", read)
            client.send(get("/?zip"))
            with pytest.raises(ConnectionResetError):
                client.rest()
        with connect(server) as another:
            assert another.ask("/?zip").status == 200


def test_without_the_setting_there_are_none(site: Path) -> None:
    (site / "a").write_bytes(b"a")
    with closing(Files(site)) as files, serving(files) as server, connect(server) as client:
        assert client.ask("/?zip").value("content-type") == "text/html; charset=utf-8"
