"""Files over the wire: every kind of response keeps the connection, and no response is a mixture."""

from __future__ import annotations

import gzip
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kaserve import Server
from kaserve.handlers import Files
from kaserve.handlers.middleware.basic_auth import BasicAuth, parse_user
from kaserve.handlers.middleware.cors import CORSPreflight
from kaserve.handlers.middleware.passwords import hash_password
from kaserve.handlers.uploads.upload import Uploads
from tests.tools.server import Client, config, connect, get, post, request

SIZE = 40 * 1024 * 1024  # more than the buffers of two sockets hold
LARGE = b"0123456789abcdef" * (SIZE // 16)
TEXT = b"a line of text\n" * 200


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    (site / "a.txt").write_bytes(TEXT)
    (site / "large.txt").write_bytes(LARGE[:1_000_000])
    (site / "empty").touch()
    (site / "app.js").write_bytes(TEXT)
    (site / "app.js.br").write_bytes(b"as brotli")
    (site / "d").mkdir()
    (site / "out").symlink_to("/etc/passwd")
    with (site / "huge").open("wb") as file:
        file.truncate(5 * 1024**3)
        file.seek(2**32)
        file.write(b"here")
    return site


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[Server]:
    files = Files(site, compress=True)
    with Server(files, config()) as server:
        yield server
    files.close()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    client = connect(server)
    yield client
    client.close()


EVERY_KIND = [
    (get("/a.txt"), 200),
    (request("HEAD", "/a.txt"), 200),
    (get("/empty"), 200),
    (request("HEAD", "/huge"), 200),
    (get("/large.txt"), 200),
    (get("/large.txt", "Accept-Encoding: gzip"), 200),
    (request("HEAD", "/large.txt", "Accept-Encoding: gzip"), 200),
    (get("/app.js", "Accept-Encoding: br"), 200),
    (get("/"), 200),
    (request("OPTIONS", "/a.txt"), 204),
    (request("OPTIONS", "*"), 204),
    (get("/a.txt", "Range: bytes=0-9"), 206),
    (get("/a.txt", "Range: bytes=0-9,20-29"), 206),
    (get("/large.txt", "Range: bytes=0-9,500000-999999,-5"), 206),
    (get("/huge", "Range: bytes=0-0,4294967296-4294967299,-1"), 206),
    (get("/huge", "Range: bytes=5000000000-5000300000"), 206),
    (get("/d"), 301),
    (get("/a.txt", "If-None-Match: *"), 304),
    (request("HEAD", "/large.txt", "If-None-Match: *"), 304),
    (get("/%zz"), 400),
    (get("/out"), 403),
    (get("/nothing"), 404),
    (request("HEAD", "/nothing"), 404),
    (request("DELETE", "/a.txt"), 405),
    (post(b"some body", target="/a.txt"), 405),
    (request("PUT", "/a.txt", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n", 405),
    (request("TRACE", "/a.txt"), 405),
    (get("/app.js", "Accept-Encoding: identity;q=0"), 406),
    (get("/a.txt", 'If-Match: "x"'), 412),
    (get("/a.txt", "Range: bytes=999999-"), 416),
    (request("BREW", "/a.txt"), 501),
    (request("BREW", "/a.txt", "Content-Length: 3") + b"tea", 501),
]


@pytest.mark.parametrize(("asked", "status"), EVERY_KIND, ids=range(len(EVERY_KIND)))
def test_every_response_keeps_the_connection(client: Client, asked: bytes, status: int) -> None:
    for _ in range(2):
        (answer,) = client.exchange(asked)
        assert answer.status == status
        assert client.ask("/a.txt").body == TEXT


def test_all_of_them_in_one_pipeline(client: Client) -> None:
    sender = threading.Thread(target=client.send, args=(b"".join(asked for asked, _ in EVERY_KIND),))
    sender.start()
    for asked, status in EVERY_KIND:
        assert client.answer(asked.split(b" ", 1)[0].decode()).status == status
    sender.join()
    assert client.ask("/a.txt").body == TEXT


def test_a_large_body_for_a_file_is_not_received(client: Client) -> None:
    """The response comes at once, and the connection closes after it."""
    client.send(request("PUT", "/a.txt", "Content-Length: 1000000000"))
    assert client.answer("PUT").status == 405
    assert client.is_closed


def test_no_client_is_told_to_continue_before_an_error(client: Client) -> None:
    """RFC 9110 §10.1.1."""
    client.send(request("PUT", "/a.txt", "Content-Length: 5", "Expect: 100-continue"))
    assert client.answer("PUT").status == 405


def test_compressed_on_the_fly(client: Client) -> None:
    for _ in range(2):  # the second time from memory
        answer = client.ask("/large.txt", "Accept-Encoding: gzip")
        assert gzip.decompress(answer.body) == LARGE[:1_000_000]


def test_to_http_1_0_as_well(server: Server) -> None:
    for target, fields in (("/large.txt", ("Accept-Encoding: gzip",)), ("/large.txt", ("Range: bytes=0-9,20-29",))):
        client = connect(server)
        answer = client.ask(target, *fields, version="1.0")
        assert answer.status in (200, 206)
        client.close()


def test_several_ranges_of_a_huge_file(client: Client) -> None:
    answer = client.ask("/huge", "Range: bytes=4294967294-4294967301,0-2000000,-1")
    assert answer.status == 206
    assert b"\r\n\r\n\0\0here\0\0\r\n--" in answer.body
    assert len(answer.body) > 2_000_001


# Files that change while they are sent.


def start(server: Server, target: str) -> socket.socket:
    """A client that has asked and read the head, and no more."""
    assert isinstance(server.address, tuple)
    sock = socket.create_connection(server.address, timeout=20)
    sock.sendall(get(target))
    while b"\r\n\r\n" not in sock.recv(4096, socket.MSG_PEEK):
        pass
    return sock


def rest(sock: socket.socket) -> bytes:
    """The body, as far as it comes."""
    data = bytearray()
    try:
        while b"\r\n\r\n" not in data or len(data) - data.index(b"\r\n\r\n") - 4 < SIZE:
            piece = sock.recv(1 << 20)
            if not piece:
                break
            data += piece
    except ConnectionError:
        pass
    finally:
        sock.close()
    return bytes(data.partition(b"\r\n\r\n")[2])


def rewrite(path: Path) -> None:
    path.write_bytes(LARGE[::-1])


def rewrite_longer(path: Path) -> None:
    """In its place, as `cp` does it."""
    path.write_bytes(LARGE[::-1] + b"more")


def truncate(path: Path) -> None:
    os.truncate(path, SIZE - 100)


def empty(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("change", [rewrite, rewrite_longer, truncate, empty])
def test_a_file_that_is_written_to_is_broken_off(site: Path, server: Server, change: Callable[[Path], object]) -> None:
    path = site / "changing"
    path.write_bytes(LARGE)
    os.utime(path, (1, 1))
    sock = start(server, "/changing")
    change(path)
    assert len(rest(sock)) < SIZE


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def replace(path: Path) -> None:
    path.with_name("next").write_bytes(LARGE[::-1])
    path.with_name("next").replace(path)


@pytest.mark.parametrize("change", [append, replace, os.unlink])
def test_what_leaves_the_old_version_alone_does_no_harm(
    site: Path, server: Server, change: Callable[[Path], object]
) -> None:
    path = site / "changing"
    path.write_bytes(LARGE)
    sock = start(server, "/changing")
    change(path)
    assert rest(sock) == LARGE


def test_a_file_that_is_replaced_in_a_loop(site: Path, client: Client) -> None:
    """Length, tag and content are of one version, whether they come from memory or from the disk."""
    path = site / "loop"
    sizes = {b"a": 100, b"b": 40_000, b"c": 300_000}
    stop = threading.Event()

    def replace_often() -> None:
        while not stop.is_set():
            for letter, size in sizes.items():
                path.with_name("loop.next").write_bytes(letter * size)
                path.with_name("loop.next").replace(path)

    path.write_bytes(b"a" * 100)
    writer = threading.Thread(target=replace_often)
    writer.start()
    try:
        tags: dict[str, bytes] = {}
        for _ in range(500):
            answer = client.ask("/loop")
            assert answer.body == answer.body[:1] * sizes[answer.body[:1]]
            tag = dict(answer.fields)["etag"]
            assert tags.setdefault(tag, answer.body) == answer.body
    finally:
        stop.set()
        writer.join()


PASSWORD = "user:" + hash_password(b"password")


@pytest.mark.parametrize("wrap", ["none", "preflight", "basic auth", "uploads"])
def test_turns_are_counted(site: Path, wrap: str) -> None:
    """Also through middleware."""
    files = Files(site)
    handler: Any = files
    if wrap == "preflight":
        handler = CORSPreflight(files)
    elif wrap == "basic auth":
        handler = BasicAuth(files, dict([parse_user(PASSWORD)]))
    elif wrap == "uploads":
        handler = Uploads(files, site)
    with Server(handler, config()) as server, connect(server) as client:
        client.ask("/a.txt")
        assert files._resources.turn > 0
    getattr(handler, "close", files.close)()


def test_what_was_uploaded_is_seen_in_the_same_turn(tmp_path: Path) -> None:
    uploads = Uploads(Files(tmp_path), tmp_path, overwrite=True)
    (tmp_path / "a.txt").write_bytes(b"old")
    os.utime(tmp_path / "a.txt", (1, 1))
    with Server(uploads, config()) as server, connect(server) as client:
        put = request("PUT", "/a.txt", "Content-Length: 3") + b"new"
        answers = client.exchange(get("/a.txt"), put, get("/a.txt"))
        assert [answer.body for answer in (answers[0], answers[2])] == [b"old", b"new"]
    uploads.close()


def test_an_edit_shows_at_the_next_request(site: Path, client: Client) -> None:
    path = site / "edited"
    for version in range(200):
        path.write_bytes(b"%d" % version)
        assert client.ask("/edited").body == b"%d" % version
    os.utime(path, (1, 1))
    for content in (b"a", b"b", b"c"):
        path.write_bytes(content)
        assert client.ask("/edited").body == content
