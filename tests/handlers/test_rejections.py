"""Requests that handlers reject: they count alike, whether the body shows it before the call or the call itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from kaserve.handlers import Files, Mount
from kaserve.handlers.middleware.basic_auth import BasicAuth
from kaserve.handlers.middleware.headers import HeaderMiddleware
from kaserve.handlers.static.site_headers import SiteHeaders
from kaserve.handlers.uploads.upload import Uploads
from kaserve.http.errors import HTTPError
from kaserve.http.handler import BaseHandler
from kaserve.http.messages import Request
from tests.handlers.middleware.test_basic_auth import fast_hash
from tests.tools.server import connect, request, serving

REJECTIONS: dict[str, tuple[Callable[[Path], BaseHandler], str, str, int]] = {
    "Files": (Files, "DELETE", "/", 405),
    "Files, unknown method": (Files, "BREW", "/", 501),
    "Uploads": (lambda site: Uploads(Files(site), site), "DELETE", "/", 405),
    "Mount": (lambda site: Mount({"/a": Files(site)}), "GET", "/b", 404),
    "BasicAuth": (lambda site: BasicAuth(Files(site), {"ann": fast_hash(b"secret")}), "GET", "/", 401),
}


@pytest.mark.parametrize("body", [b"", b"body"])
@pytest.mark.parametrize("kind", REJECTIONS)
def test_a_rejected_request_is_counted_with_and_without_a_body(tmp_path: Path, kind: str, body: bytes) -> None:
    new_handler, method, target, status = REJECTIONS[kind]
    length = [f"Content-Length: {len(body)}"] if body else []
    with closing(new_handler(tmp_path)) as handler, serving(handler) as server, connect(server) as client:
        for _ in range(2):
            client.send(request(method, target, *length) + body)
            answer = client.answer(method)
            assert (answer.status, answer.persists) == (status, True)
        assert server.stats.refused == {status: 2}


def test_an_own_page_of_the_server_counts_as_well() -> None:
    with serving(lambda request: pytest.fail("called"), status="/status") as server, connect(server) as client:
        client.send(request("DELETE", "/status"))
        answer = client.answer("DELETE")
        assert (answer.status, answer.value("allow")) == (405, "GET, HEAD")
        assert server.stats.refused == {405: 1}


@pytest.mark.parametrize("has_body", [False, True])
def test_a_header_of_an_error_is_not_added_twice(tmp_path: Path, has_body: bool) -> None:
    """Files has added its own headers when the middleware sees the error."""
    files = Files(tmp_path, headers=SiteHeaders([("X-Where", "site")]))
    more = (("x-where", "middleware"), ("X-More", "1"))
    with closing(HeaderMiddleware(files, more)) as handler, pytest.raises(HTTPError) as raised:
        (handler.before_body if has_body else handler)(Request("DELETE", "/", 1, []))
    names = [name.lower() for name, _ in raised.value.headers]
    assert sorted(names) == ["allow", "x-content-type-options", "x-more", "x-where"]


def test_headers_do_not_change_whether_the_connection_closes() -> None:
    for close in (False, True):
        error = HTTPError(400, "no", (("A", "1"),), close=close).with_headers((("B", "2"),))
        assert (error.close, error.headers) == (close, (("A", "1"), ("B", "2")))
