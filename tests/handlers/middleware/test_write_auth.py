"""WriteAuth: everybody reads, known users write, and nothing of a stranger's body is stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kaserve.handlers import Files
from kaserve.handlers.middleware.write_auth import WriteAuth
from kaserve.handlers.uploads.upload import Uploads
from tests.handlers.middleware.test_basic_auth import ANN, USERS, WRONG
from tests.tools.server import Client, connect, get, request, serving


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    (tmp_path / "a.txt").write_bytes(b"content")
    handler = WriteAuth(Uploads(Files(tmp_path), tmp_path, overwrite=True), USERS)
    with closing(handler), serving(handler, access_log=False) as server, connect(server) as client:
        yield client


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_everybody_reads(client: Client, method: str) -> None:
    client.send(request(method, "/a.txt"))
    assert client.answer(method).status == (204 if method == "OPTIONS" else 200)


@pytest.mark.parametrize("lines", [(), (WRONG,)])
@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
def test_strangers_do_not_write(client: Client, tmp_path: Path, method: str, lines: tuple[str, ...]) -> None:
    """RFC 9110 §15.5.2; also for a request whose body has not been accepted yet."""
    client.send(request(method, "/a.txt", "Content-Length: 3", *lines) + b"new")
    answer = client.answer(method)
    assert answer.status == 401
    assert answer.value("www-authenticate").startswith("Basic ")
    assert (tmp_path / "a.txt").read_bytes() == b"content"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    client.send(get("/a.txt"))
    assert client.answer().status == 200


def test_users_write(client: Client, tmp_path: Path) -> None:
    for content in (b"one", b"two"):  # before the password is known, and after
        client.send(request("PUT", "/a.txt", "Content-Length: 3", ANN) + content)
        assert client.answer("PUT").status == 204
        assert (tmp_path / "a.txt").read_bytes() == content
