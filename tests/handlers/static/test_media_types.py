"""Media types: a table of suffixes, and that nothing else decides."""

from __future__ import annotations

import mimetypes
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kaserve.handlers.static.media_types import media_type


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
        ("settings.yaml", "application/yaml"),
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
        ("live.ts", "video/mp2t"),
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
    for suffix in (".tar", ".rtx", ".tiff", ".mov", ".py", ".sh", ".eml"):
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
