"""A port, a directory and MODULE:APP are told apart by how they look."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaserve.cli.exit_codes import EXIT_USAGE, StartError
from kaserve.cli.positionals import read_positionals


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("dist", "2024", "shop"):
        (tmp_path / name).mkdir()
    (tmp_path / "dist" / "index.html").write_text("")
    (tmp_path / "blog.py").write_text("from flask import Flask\napp = Flask(__name__)\n")
    (tmp_path / "made.py").write_text("def create_app(): ...\ndef other(): ...\n")
    (tmp_path / "one.py").write_text("def hello(request): ...\n")
    (tmp_path / "many.py").write_text("def a(request): ...\ndef b(request): ...\n")
    (tmp_path / "broken.py").write_text("def (")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([], {}),
        (["8080"], {"port": "8080"}),
        (["dist"], {"directory": "dist"}),
        (["./2024"], {"directory": "./2024"}),
        (["2024"], {"port": "2024"}),
        (["-1"], {"port": "-1"}),  # which is refused as a port
        (["shop:app"], {"app": "shop:app"}),
        (["shop.web:make.app()"], {"app": "shop.web:make.app()"}),
        (["8080", "dist"], {"port": "8080", "directory": "dist"}),
        (["shop:app", "8001"], {"app": "shop:app", "port": "8001"}),
        (["shop:app", "dist"], {"app": "shop:app", "directory": "dist"}),  # which the settings refuse
    ],
)
def test_each_kind_in_any_order(arguments: list[str], found: dict[str, str]) -> None:
    assert read_positionals(arguments, "kaserve") == found
    assert read_positionals(reversed(arguments), "kaserve") == found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("80 90", "two ports are given, 80 and 90; give one, and --bind HOST:PORT for a second"),
        ("dist shop", "two directories are given, dist and shop; give one"),
        ("a:b c:d", "two applications are given, a:b and c:d; give one"),
        ("dits", "'dits' is not a port, not a directory in {here}, and not MODULE:APP; did you mean dist?"),
        ("nothing", "'nothing' is not a port, not a directory in {here}, and not MODULE:APP"),
        ("./dits", "there is no directory './dits'; did you mean ./dist?"),
        ("/no/such/place", "there is no directory '/no/such/place'"),
        ("dist/index.html", "dist/index.html is a file; serve its directory: kaserve dist"),
        ("blog", "blog.py is a Python file; write kaserve blog:app"),
        ("blog.py", "blog.py is a Python file; write kaserve blog:app"),
        ("./blog.py", "./blog.py is a Python file; write kaserve blog:app"),
        ("made.py", "made.py is a Python file; write kaserve 'made:create_app()'"),
        ("one.py", "one.py is a Python file; write kaserve one:hello"),
        ("many.py", "many.py is a Python file; write kaserve many:APP, where APP is the name of"),
        ("broken.py", "broken.py is a Python file; write kaserve broken:APP, where"),
        ("src/blog.py:app", "src/blog.py:app names a file; write the name of the module: kaserve src.blog:app"),
        ("blog:", "'blog:' is not MODULE:APP, such as shop:app or shop:create_app()"),
        ("blog:app(1)", "'blog:app(1)' is not MODULE:APP"),
        (":8080", ":8080 is an address; write kaserve 8080"),
        ("localhost:8080", "localhost:8080 is an address; write kaserve 8080"),
        ("0.0.0.0:8080", "0.0.0.0:8080 is an address; write kaserve --bind 0.0.0.0:8080"),
        ("[::1]:8080", "[::1]:8080 is an address; write kaserve --bind '[::1]:8080'"),  # as a shell needs it
        ("192.0.2.2:8000 dist", "192.0.2.2:8000 is an address; write kaserve --bind 192.0.2.2:8000 dist"),
        ("dist :8080", ":8080 is an address; write kaserve dist 8080"),
        ("unix:/run/site", "unix:/run/site is an address; write kaserve --bind unix:/run/site"),
        ("http://h/", "http://h/ is a URL; to examine a server, write kaserve probe http://h/"),
    ],
)
def test_what_is_neither_is_explained(arguments: str, message: str, directory: Path) -> None:
    with pytest.raises(StartError) as caught:
        read_positionals(arguments.split(), "kaserve")
    assert caught.value.code == EXIT_USAGE
    assert str(caught.value).startswith(message.format(here=directory))
    assert "\n" not in str(caught.value)
