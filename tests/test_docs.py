"""The documentation is true: its transcripts and examples, its links, and its options and defaults."""

from __future__ import annotations

import hashlib
import http.client
import importlib
import inspect
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kaserve
import kaserve.gunicorn
import kaserve.handlers
import kaserve.http.multipart
import kaserve.proxy
import kaserve.pytest_plugin
import kaserve.systemd
import kaserve.telemetry.snapshot
import kaserve.testing
from kaserve.config import options
from tests.tools.server import environment, missing, wait_for
from tests.tools.transcripts import ROOT, Block, Replay, Session, decode, encode, normalise, read_blocks

README = ROOT / "README.md"
KEEP_ALIVE = ROOT / "docs" / "keep-alive.md"
EMBEDDING = ROOT / "docs" / "embedding.md"
API = ROOT / "docs" / "api.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").rglob("*.md"))]


# Transcripts and examples.


@pytest.mark.parametrize("transcript", read_blocks(KEEP_ALIVE, "http-transcript"), ids=str)
def test_the_transcript_is_what_happens(transcript: Block) -> None:
    assert normalise(Replay(transcript).run()) == normalise(transcript.lines)


@pytest.mark.parametrize("session", read_blocks(KEEP_ALIVE, "console"), ids=str)
def test_the_commands_have_the_output_of_the_page(session: Block) -> None:
    for tool in sorted(Session(session).tools):
        if not _is_installed(tool):
            missing(f"{tool} is not installed")
    assert normalise(Session(session).run()) == normalise(session.lines)


def _is_installed(tool: str) -> bool:
    if tool != "nc":
        return shutil.which(tool) is not None
    try:  # there are several, and only OpenBSD's has -N
        done = subprocess.run(("nc", "-h"), capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return False
    return re.search(r"^\s*-N\s", done.stderr + done.stdout, re.MULTILINE) is not None


def test_each_section_has_a_transcript() -> None:
    shown = [block for kind in ("http-transcript", "console", "text") for block in read_blocks(KEEP_ALIVE, kind)]
    sections = {int(match[1]) for block in shown if (match := re.match(r"(\d+)\.", block.section))}
    assert sections >= set(range(1, 13)) - {3}  # section 3 has them in subsections
    assert {"The countdown", "The idle timer"} <= {block.section for block in shown}


def test_wsgi_example() -> None:
    (example,) = read_blocks(ROOT / "docs" / "wsgi.md", "python")
    names: dict[str, Any] = {}
    exec("\n".join(example.lines), names)
    with names["server"] as server:
        assert _get(server, "/") == (200, b"hello\n")
        assert _get(server, "/static/README.md")[0] in (200, 404)  # depends on the working directory
    names["site"].close()


def test_the_examples_of_embedding(capfd: pytest.CaptureFixture[str]) -> None:
    """All of them in order, as a user types them. Then what they define is used."""
    names: dict[str, Any] = {}
    for block in read_blocks(EMBEDDING, "python"):
        exec("\n".join(block.lines), names)
    with (
        kaserve.testing.serve(names["hello"]) as server,
        kaserve.testing.Faults(server) as faults,
    ):
        names["test_client"](lambda handler: server, lambda server: faults)
    assert names["server"].stopped
    assert capfd.readouterr() == ("", "")


def test_the_example_of_events() -> None:
    names: dict[str, Any] = {}
    for block in read_blocks(ROOT / "docs" / "events.md", "python"):
        exec("\n".join(block.lines), names)
    with kaserve.testing.serve(names["handler"]) as server:
        connection = http.client.HTTPConnection(*_tcp(server), timeout=10)
        connection.request("GET", "/events")
        response = connection.getresponse()
        assert response.readline() == b"retry: 2000\n"
        wait_for(lambda: len(names["waiting"]) == 1)
        names["publish"]("hello")
        assert [response.readline() for _ in range(2)] == [b"\n", b"data: hello\n"]
        connection.close()


def test_the_examples_of_streaming() -> None:
    names: dict[str, Any] = {}
    for block in read_blocks(ROOT / "docs" / "streaming.md", "python"):
        exec("\n".join(block.lines), names)
    body = b"a line\n" * 200_000
    digest = hashlib.sha256(body).hexdigest().encode()
    for handler, expected in (
        (names["Hash"](), digest),
        (names["Either"](), digest),
        (names["Echo"](), body),
        (names["lines"], b"200000 lines\n"),
    ):
        with kaserve.testing.serve(handler) as server:
            sent = body if expected != body else body[:50_000]  # http.client sends all of it before it reads
            assert _post(server, sent) == expected[: len(sent)]
    names["lines"].close()


def test_the_example_of_tunnels() -> None:
    names: dict[str, Any] = {}
    (example,) = read_blocks(ROOT / "docs" / "tunnels.md", "python")
    exec("\n".join(example.lines), names)
    with kaserve.testing.serve(names["handler"]) as server, socket.create_connection(_tcp(server)) as sock:
        for line in ("GET / HTTP/1.1", "Host: h", "Connection: upgrade", "Upgrade: echo", "", "hello"):
            sock.sendall(f"{line}\r\n".encode())
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as file:
            assert file.read().endswith(b"\r\n\r\nhello\r\n")
        assert _get(server, "/")[0] == 426


def _post(server: kaserve.Server, body: bytes) -> bytes:
    connection = http.client.HTTPConnection(*_tcp(server), timeout=10)
    try:
        connection.request("POST", "/", body)
        return connection.getresponse().read()
    finally:
        connection.close()


def test_the_examples_of_the_interface(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """All of them in order. Then the handlers that they define get requests."""
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    for block in read_blocks(API, "python"):
        exec("\n".join(block.lines), names)
    assert (caplog.records, capfd.readouterr()) == ([], ("", ""))
    with kaserve.testing.serve(names["stream"]) as server:
        connection = http.client.HTTPConnection(*_tcp(server), timeout=10)
        connection.request("GET", "/", headers={"TE": "trailers", "Connection": "TE, close"})
        response = connection.getresponse()
        assert response.getheader("Trailer") == "X-SHA256"
        assert response.read() == b"one two"
        connection.close()
    with kaserve.testing.serve(names["license"]) as server:
        assert _get(server, "/") == (200, (ROOT / "LICENSE").read_bytes())
    with pytest.raises(kaserve.HTTPError, match="405"):
        names["only_get"](kaserve.Request("PUT", "/", 1, []))


def _tcp(server: kaserve.Server) -> tuple[str, int]:
    assert isinstance(server.address, tuple)
    return server.address


MODULES = (
    kaserve,
    kaserve.handlers,
    kaserve.http.multipart,
    kaserve.proxy,
    kaserve.testing,
    kaserve.pytest_plugin,
    kaserve.telemetry.snapshot,
    kaserve.systemd,
    kaserve.gunicorn,
)
PUBLIC = [(module, name) for module in MODULES for name in module.__all__]

# Used by a command that tests/test_gunicorn.py runs.
WITHOUT_EXAMPLE = {"ASGIWorker", "Worker"}


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=lambda value: getattr(value, "__name__", value))
class TestEachPublicName:
    def test_is_documented_where_it_is_defined(self, module: Any, name: str) -> None:
        """So is each member of a class. A compiled class cannot tell attributes from properties."""
        value = getattr(module, name)
        if isinstance(value, str):
            return
        own = inspect.getdoc(value)
        assert own
        assert own != inspect.getdoc(value.__mro__[1] if inspect.isclass(value) else object)
        if inspect.isclass(value) and kaserve.IMPLEMENTATION == "pure":
            described = f"{own} {inspect.getdoc(value.__init__)}"
            undocumented = {
                member
                for member in _members(value)
                if not (
                    re.search(rf"\b{member}\b", described)
                    if inspect.ismemberdescriptor(vars(value)[member])
                    else inspect.getdoc(getattr(value, member))
                )
            }
            assert undocumented == set()

    def test_is_in_the_interface(self, module: Any, name: str) -> None:
        """docs/api.md names it in the section of its module, and the members of a class there or in its own part."""
        (section,) = re.findall(rf"^## {re.escape(module.__name__)}\n(.*?)(?=^## |\Z)", _prose(API), re.M | re.S)
        assert f"`{name}`" in section
        (part,) = re.findall(rf"^### {name}\n(.*?)(?=^###? |\Z)", section, re.M | re.S) or [section]
        documented = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", part))))
        assert _members(getattr(module, name)) - documented == set(), "not in docs/api.md"

    def test_is_used_by_an_example_that_is_run(self, module: Any, name: str) -> None:
        if name in WITHOUT_EXAMPLE:
            return
        blocks = read_blocks(API, "python") + read_blocks(EMBEDDING, "python")
        used = set(re.findall(r"\w+", "\n".join(line for block in blocks for line in block.lines)))
        assert {name, *_members(getattr(module, name))} - used - FOR_THE_SERVER == set()


# Methods that are public because modules of this package call them on each other.
FOR_THE_SERVER = {
    "before_body",
    "body_sink",
    "protect",
    "make_private",
    "attach",
    "detach",
    "end_of_turn",
    "take",
    "run",
    "stop",
    "is_idle",
    "write",
    "finish",
    "fail",
    "abandon",
    "wake",
    "owner",
    "awaits_continue",
    "blocked",
    "is_waiting",
    "failure",
}


def _members(value: Any) -> set[str]:
    """Public methods, properties and attributes. Without the fields of dataclasses, which have their own tables, and
    without what a class inherits or, as the faults do, overrides."""
    if not inspect.isclass(value) or issubclass(value, Exception):
        return set()
    fields = getattr(value, "__dataclass_fields__", {})
    known = {member for base in value.__mro__[1:] if base.__module__.startswith("kaserve.") for member in vars(base)}
    return {member for member in vars(value) if not member.startswith("_")} - set(fields) - known


def _get(server: kaserve.Server, target: str) -> tuple[int, bytes]:
    assert isinstance(server.address, tuple)
    connection = http.client.HTTPConnection(*server.address, timeout=10)
    try:
        connection.request("GET", target, headers={"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("lines", "data"),
    [
        pytest.param(["a", "", "b"], b"a\r\n\r\nb\r\n", id="CRLF"),
        pytest.param(["a\\n", "b\\"], b"a\nb", id="bare LF, and no line end"),
        pytest.param(["a\\x20", "\\x0d\\xff\\"], b"a \r\n\r\xff", id="invisible bytes"),
        pytest.param(["a\\", "HTTP/1.1 200 OK"], b"aHTTP/1.1 200 OK\r\n", id="a response after no line end"),
        pytest.param(["\\x5cn"], b"\\n\r\n", id="backslash"),
    ],
)
def test_lines_and_bytes(lines: list[str], data: bytes) -> None:
    assert decode(lines) == data
    assert encode(data) == lines


# Links, options and defaults.


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_links(document: Path) -> None:
    """Each relative link leads to a file, and its fragment to a heading or, in the reference, a public name."""
    links = re.findall(r"\]\(([^)\s]+)\)", _prose(document))
    broken = []
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        name, _, fragment = link.partition("#")
        target = document.parent / name if name else document
        if not target.exists() or (fragment and fragment not in _anchors(target) and not _is_public(target, fragment)):
            broken.append(link)
    assert broken == []


def _is_public(page: Path, name: str) -> bool:
    """Whether `page` of the reference describes a name, such as `kaserve.Server`."""
    return any(
        f"\n::: {module.__name__}\n" in page.read_text(encoding="utf-8") and name == f"{module.__name__}.{public}"
        for module, public in PUBLIC
    )


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "CONTRIBUTING.md"], ids=_name)
def test_links_have_titles(document: Path) -> None:
    """A reader of the site does not know the files that its pages are made from."""
    texts = re.findall(r"\[([^\]]+)\]\([^)\s]+\)", _prose(document))
    assert [text for text in texts if re.fullmatch(r"`?[\w./-]+\.md`?", text)] == []


def test_a_package_index_shows_no_relative_links() -> None:
    """What it shows is README.md, as setup.py passes it on."""
    done = subprocess.run(
        [sys.executable, "setup.py", "--quiet", "--long-description"],
        cwd=ROOT,
        env=environment(KASERVE_PURE="1"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith("# kaserve\n"), done.stderr
    links = re.findall(r"\[[^\]]*\]\(([^)]*)\)", done.stdout)
    assert [link for link in links if not link.startswith("https://")] == []


def _prose(document: Path) -> str:
    """The text without its blocks."""
    return re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def _anchors(document: Path) -> set[str]:
    """The fragments of its headings."""
    headings = re.findall(r"^#+ +(.+?) *$", _prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# These name options of other programs as well.
WITH_OTHER_OPTIONS = {"deployment.md", "migration.md", "probe.md"}


def _known_options() -> set[str]:
    known = {"--" + name.replace("_", "-") for name in options()} | {
        "--help",
        "--help-all",
        "--version",
        "--hash-password",
    }
    return known | {"--no-" + name.replace("_", "-") for name, option in options().items() if option.metavar is None}


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if path.name not in WITH_OTHER_OPTIONS], ids=_name)
def test_options_exist(document: Path) -> None:
    other_options = {"--raw", "--cacert", "--access-logformat"}  # curl, gunicorn
    assert set(re.findall(r"`(--[a-z-]+)", _prose(document))) - _known_options() - other_options == set()


def test_options_of_commands_exist() -> None:
    """In all commands that begin with `python -m kaserve` or `kaserve`, or pass options to it by make."""
    command = re.compile(r"(?:(?:python -m |\$ |^)kaserve(?! probe)(?= )|make serve ARGS=)(?:.*\\\n)*.*", re.MULTILINE)
    documents = [document for document in DOCUMENTS if document.name != "mistakes.md"]  # which has wrong commands
    commands = [line for document in documents for line in command.findall(document.read_text(encoding="utf-8"))]
    assert len(commands) > 50
    found = {option for line in commands for option in re.findall(r"(?<=[ \"`])--[a-z-]+", line)}
    assert found - _known_options() == set()


def test_defaults_are_right() -> None:
    """In all tables of settings."""
    rows = [
        (document.name, *row)
        for document in DOCUMENTS
        for table in re.findall(r"^\| option \| default \|.*\n((?:\|.*\n)+)", _prose(document), re.MULTILINE)
        for row in re.findall(r"^\| `--([a-z-]+)[^|]*` \| ([^|]+) \|", table, re.MULTILINE)
    ]
    assert {name for name, _, _ in rows} >= {"getting-started.md", "keep-alive.md", "logs.md"}
    for document, name, documented in rows:
        default = getattr(kaserve.Config(), name.replace("-", "_"))
        in_words: dict[Any, set[str]] = {
            0: {"0", "any number", "what the descriptor limit allows"},
            None: {"-"},
            (): {"-"},
        }
        assert documented in in_words.get(default, {f"{default:g}" if isinstance(default, float) else str(default)}), (
            f"{document}: --{name}"
        )


def test_the_chart_of_the_start_page_is_that_of_the_table(tmp_path: Path) -> None:
    drawn = tmp_path / "overview.svg"
    subprocess.run([sys.executable, "benchmarks/overview_chart.py", str(drawn)], cwd=ROOT, check=True, timeout=60)
    assert drawn.read_text(encoding="utf-8") == (ROOT / "docs/charts/overview.svg").read_text(encoding="utf-8")


def test_every_page_is_on_the_site() -> None:
    """The navigation has each page once, and no others. `make docs` (strict) checks the rest."""
    _, _, navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")
    shown = re.findall(r": (\S+\.md)$", navigation, re.MULTILINE)
    pages = (ROOT / "docs").rglob("*.md")
    assert sorted(shown) == sorted(page.relative_to(ROOT / "docs").as_posix() for page in pages)


def test_every_public_module_has_a_page_of_the_reference() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    assert sorted(re.findall(r"^::: (\S+)$", pages, re.MULTILINE)) == sorted(module.__name__ for module in MODULES)


def test_the_table_of_options_has_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "hooks"))
    table = importlib.import_module("options_table").tables()
    rows = re.findall(r"^\| <span id=\"([a-z-]+)\"></span>(.+?) \| (.+?) \| (.+) \|$", table, re.MULTILINE)
    assert [name for name, *_ in rows] == [name.replace("_", "-") for name in options()]
    shown = {name: (spellings, default) for name, spellings, default, _ in rows}
    assert shown["port"] == ("`PORT`", "`8000`")
    assert shown["keep-alive"] == ("`--keep-alive SECONDS`", "`120`")
    assert shown["bind"] == ("`-b`, `--bind ADDRESS`", "`127.0.0.1`")
    assert shown["cors"] == ("`--cors`", "off")
    assert all(text[0].isupper() and text.endswith(".") for *_, text in rows)
