"""Media types: by the suffix of a name, by the rules of a site, and where both say nothing, by the content."""

from __future__ import annotations

import mimetypes
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kaserve.handlers import Files
from kaserve.handlers.static.media_types import MediaTypes, media_type, parse_type
from tests.tools.files import ask, write


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("index.htm", "text/html; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("app.js", "text/javascript; charset=utf-8"),  # RFC 9239
        ("app.mjs", "text/javascript; charset=utf-8"),
        ("notes.txt", "text/plain; charset=utf-8"),
        ("README.md", "text/markdown; charset=utf-8"),
        ("data.csv", "text/csv; charset=utf-8"),
        ("captions.vtt", "text/vtt; charset=utf-8"),
        ("feed.xml", "text/xml; charset=utf-8"),
        ("data.json", "application/json"),  # RFC 8259 §11: there is no charset parameter
        ("app.js.map", "application/json"),
        ("site.webmanifest", "application/manifest+json"),
        ("places.geojson", "application/geo+json"),
        ("feed.atom", "application/atom+xml"),
        ("page.xhtml", "application/xhtml+xml"),
        ("code.wasm", "application/wasm"),
        ("paper.pdf", "application/pdf"),
        ("settings.yaml", "text/plain; charset=utf-8"),
        ("logo.svg", "image/svg+xml"),
        ("logo.png", "image/png"),
        ("logo.gif", "image/gif"),
        ("photo.jpg", "image/jpeg"),
        ("photo.avif", "image/avif"),
        ("photo.webp", "image/webp"),
        ("photo.jxl", "image/jxl"),
        ("favicon.ico", "image/vnd.microsoft.icon"),
        ("font.woff", "font/woff"),
        ("font.woff2", "font/woff2"),
        ("font.ttf", "font/ttf"),
        ("font.otf", "font/otf"),
        ("song.mp3", "audio/mpeg"),
        ("song.flac", "audio/flac"),
        ("film.mp4", "video/mp4"),
        ("film.webm", "video/webm"),
        ("live.m3u8", "application/vnd.apple.mpegurl"),
        ("app.ts", "text/plain; charset=utf-8"),
        ("song.opus", "audio/ogg"),
        ("main.rs", "text/plain; charset=utf-8"),
        ("App.tsx", "text/plain; charset=utf-8"),
        ("part.stl", "model/stl"),
        ("track.gpx", "application/gpx+xml"),
        ("a.zip", "application/zip"),
        # Compressed files are served as they are.
        ("a.tar.gz", "application/gzip"),
        ("a.tgz", "application/gzip"),
        ("a.tar.xz", "application/x-xz"),
        ("page.html.zst", "application/zstd"),
        # Case, and what has no suffix.
        ("PHOTO.JPG", "image/jpeg"),
        ("Index.HtMl", "text/html; charset=utf-8"),
        ("LICENSE", "application/octet-stream"),
        ("trailing.", "application/octet-stream"),
        (".html", "application/octet-stream"),
        ("..html", "text/html; charset=utf-8"),
        (".hidden.html", "text/html; charset=utf-8"),
        ("", "application/octet-stream"),
        ("page.html~", "application/octet-stream"),
        ("page.unheard-of", "application/octet-stream"),
        ("page.\u212btml", "application/octet-stream"),
    ],
)
def test_the_type_follows_from_the_suffix(name: str, expected: str) -> None:
    assert media_type(name.encode()) == expected


def test_names_need_not_be_utf8() -> None:
    assert media_type(b"\xff\xfe.html") == "text/html; charset=utf-8"
    assert media_type(b"a.\xff") == "application/octet-stream"


def test_the_standard_table_is_in_it() -> None:
    for suffix in (".tar", ".rtx", ".tiff", ".mov", ".py", ".latex", ".eml"):
        assert media_type(b"a" + suffix.encode()).split(";")[0] == mimetypes.MimeTypes().types_map[True][suffix]


def test_every_text_says_its_charset_and_nothing_else_does() -> None:
    from kaserve.handlers.static import media_types

    for value in media_types._TABLE.values():
        assert re.fullmatch(r"text/[\w.+-]+; charset=utf-8|(?!text/)[a-z]+/[\w.+-]+", value, re.ASCII), value


def test_the_tables_of_the_system_do_not_count(tmp_path: Path) -> None:
    """In a process of its own, whose first use of mimetypes reads such a table."""
    table = tmp_path / "mime.types"
    table.write_text("text/wrong html\nx/invented invented\n")
    program = (
        "import sys, mimetypes\n"
        "mimetypes.knownfiles[:] = [sys.argv[1]]\n"
        "assert mimetypes.guess_type('a.invented')[0] == 'x/invented'\n"
        "from kaserve.handlers.static.media_types import media_type\n"
        "print(media_type(b'a.html'), media_type(b'a.invented'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(table)], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "text/html; charset=utf-8 application/octet-stream"


TEXT = "text/plain; charset=utf-8"
BINARY = "application/octet-stream"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("README", b"Read me\n", TEXT),
        ("LICENSE", "\u00a9 2026\n".encode(), TEXT),
        ("Makefile", b"all:\n\ttrue\n", TEXT),
        ("empty", b"", TEXT),
        ("long", b"x" * 100_000, TEXT),
        ("cut", b"x" * 511 + "\u00e4".encode() + b"x" * 100_000, TEXT),  # in the middle of a character
        ("bin/tool", b"\x7fELF\x02\x01\x01\0", BINARY),
        ("large", b"x\0" * 100_000, BINARY),
        ("latin-1", "\u00e4".encode("latin-1"), BINARY),  # would be shown with the wrong letters
        ("half", "\u00e4".encode()[:1], BINARY),
        ("page", b"<script>alert(1)</script>", TEXT),  # never HTML
        ("data.unknown", b"text", BINARY),  # a suffix says that a program knows better
        ("config.yaml", b"\0", TEXT),
        ("pyproject.toml", b"a = 1", TEXT),
        ("dump.sql", b"select 1", TEXT),
        ("run.sh", b"#!/bin/sh", TEXT),
        ("app.ts", b"let a: number = 1\n", TEXT),
        ("film.ts", b"G@\x11\0" * 47, "video/mp2t"),
        ("film-000.TS", b"G@\x11\0" * 47 * 1000, "video/mp2t"),
        # RFC 8615: what other programs look for.
        (".well-known/apple-app-site-association", b"{}", "application/json"),
        ("apple-app-site-association", b"{}", "application/json"),
        (".well-known/openid-configuration", b'{"issuer": 1}', "application/json"),
        (".well-known/matrix/server", b'\n{"m.server": 1}', "application/json"),
        (".well-known/com.apple.remotemanagement", b"{}", "application/json"),
        (".well-known/webfinger", b"{}", "application/jrd+json"),
        (".well-known/host-meta", b"<XRD/>", "application/xrd+xml"),
        (".well-known/acme-challenge/a_b-c", b"a_b-c.d", TEXT),
        (".well-known/security.txt", b"Contact: x", TEXT),
        ("matrix/server", b"{}", TEXT),
    ],
)
def test_the_type_of_a_file(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    write(tmp_path / name, content)
    files = Files(tmp_path)
    for _ in range(2):
        files.end_of_turn()
        assert ask(files, "/" + name).headers["content-type"] == expected
        assert ask(files, "/" + name, "HEAD").headers["content-type"] == expected
    files.close()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.log", "text/x-log; charset=utf-8"),
        ("deep/a.log", "text/x-log; charset=utf-8"),
        ("deep/b.bin", "application/x-deep"),
        ("b.bin", "application/octet-stream"),
        ("README", "text/markdown; charset=latin-1"),
        ("a.html", "text/html; charset=utf-8"),
    ],
)
def test_the_rules_of_a_site_come_first(tmp_path: Path, path: str, expected: str) -> None:
    write(tmp_path / path)
    given = ("*.log=text/x-log", "deep/*=application/x-deep", "README = text/markdown; charset=latin-1")
    files = Files(tmp_path, types=dict(map(parse_type, given)))
    assert ask(files, "/" + path).headers["content-type"] == expected
    files.close()


@pytest.mark.parametrize(
    "text", ["", "*.log", "*.log=", "=text/plain", "*.log=text", "a=a/b;", "a=a/b\r\nX: 1", "a=\xe4/b"]
)
def test_no_type(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be PATTERN=TYPE"):
        parse_type(text)


def test_without_rules_nothing_is_matched() -> None:
    assert MediaTypes().by_rule((b"a",)) is None
