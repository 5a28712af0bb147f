"""Files with a password in front: what is for certain users must not be in shared caches (RFC 9111 §3.5)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kaserve import Server
from kaserve.handlers import Files, Mount
from kaserve.handlers.middleware.basic_auth import BasicAuth
from kaserve.handlers.middleware.write_auth import WriteAuth
from kaserve.handlers.static.site_headers import SiteHeaders, parse_rule
from kaserve.http.handler import BaseHandler
from kaserve.server.directory import new_directory
from tests.handlers.middleware.test_basic_auth import fast_hash
from tests.tools.server import config, connect

NAME = "app.3f9a1c2b.js"
HASH = fast_hash(b"secret")
SETTINGS: dict[str, Any] = {"auth": (f"ann:{HASH}",)}
ANN = f"Authorization: Basic {b64encode(b'ann:secret').decode()}"
PUBLIC, PRIVATE = (f"{word}, max-age=31536000, immutable" for word in ("public", "private"))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / NAME).write_text("content")
    return tmp_path


def files(site: Path) -> Files:
    return Files(site, headers=SiteHeaders(immutable=True))


def users() -> dict[str, str]:
    return {"ann": HASH}


def ask(handler: BaseHandler, target: str = f"/{NAME}", **settings: Any) -> str:
    """Returns the Cache-Control of a file."""
    with Server(handler, config(**settings)) as server, connect(server) as client:
        answer = client.ask(target, ANN)
        assert answer.status == 200
        return answer.value("cache-control")


WAYS: dict[str, tuple[Callable[[Path], BaseHandler], str, dict[str, Any]]] = {
    "settings": (files, "", SETTINGS),
    "settings and more middleware": (files, "", SETTINGS | {"cors": True, "header": ("X-More:1",)}),
    "settings around a Mount": (lambda site: Mount({"/a": files(site)}), "/a", SETTINGS),
    "settings of the command line": (
        lambda site: new_directory(config(directory=str(site), immutable=True)),
        "",
        SETTINGS,
    ),
    "BasicAuth": (lambda site: BasicAuth(files(site), users()), "", {}),
    "BasicAuth around a Mount": (lambda site: BasicAuth(Mount({"/a": files(site)}), users()), "/a", {}),
    "BasicAuth in a Mount": (lambda site: Mount({"/a": BasicAuth(files(site), users())}), "/a", {}),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_fingerprinted_file_is_private(site: Path, way: str) -> None:
    new_handler, prefix, settings = WAYS[way]
    with closing(new_handler(site)) as handler:
        assert ask(handler, f"{prefix}/{NAME}", **settings) == PRIVATE


def test_a_file_without_a_password_is_public(site: Path) -> None:
    with closing(files(site)) as handler:
        assert ask(handler) == PUBLIC


def test_a_file_next_to_private_ones_is_public(site: Path) -> None:
    with closing(Mount({"/a": BasicAuth(files(site), users()), "/b": files(site)})) as handler:
        assert ask(handler, f"/b/{NAME}") == PUBLIC


def test_a_password_for_writing_alone_makes_nothing_private(site: Path) -> None:
    with closing(WriteAuth(files(site), users())) as handler:
        assert ask(handler) == PUBLIC


def test_a_password_around_a_password_for_writing(site: Path) -> None:
    with closing(WriteAuth(files(site), users())) as handler:
        assert ask(handler, **SETTINGS) == PRIVATE


def test_what_was_public_and_is_remembered_becomes_private(site: Path) -> None:
    with closing(files(site)) as handler:
        assert ask(handler) == PUBLIC
        assert ask(handler, **SETTINGS) == PRIVATE


def test_two_sites_with_the_same_headers_are_told_apart(site: Path) -> None:
    headers = SiteHeaders(immutable=True)
    with closing(Files(site, headers=headers)) as one, closing(Files(site, headers=headers)) as other:
        assert ask(one, **SETTINGS) == PRIVATE
        assert ask(other) == PUBLIC


def test_a_rule_of_the_owner_is_kept(site: Path) -> None:
    headers = SiteHeaders(cache_control=[parse_rule("public, max-age=60")], immutable=True)
    with closing(Files(site, headers=headers)) as handler:
        assert ask(handler, **SETTINGS) == "public, max-age=60"
