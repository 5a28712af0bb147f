"""Directory listings: names nobody would give a file, and a page that is right all the same."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaserve.apps.listing import Entry, Kind, render

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """What a browser gets from a page: its links with their text, its rows, and whether its tags are balanced."""

    def __init__(self, page: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[tuple[str, str]] = []
        self.classes: list[str] = []
        self.cells: list[list[str]] = []
        self.text: dict[str, str] = {}
        self.feed(page.decode())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        attributes = dict(attrs)
        if tag == "a":
            self.links.append((attributes["href"] or "", ""))
        if tag == "tr":
            self.classes.append(attributes.get("class") or "")
            self.cells.append([])
        if tag == "td":
            self.cells[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.text[self.open[-1]] = self.text.get(self.open[-1], "") + data
        if "a" in self.open:
            href, text = self.links[-1]
            self.links[-1] = href, text + data
        if "td" in self.open:
            self.cells[-1][-1] += data


def page(*entries: Entry, names: tuple[bytes, ...] = ()) -> Page:
    return Page(render(names, entries))


def file(name: bytes, size: int | None = 1, modified: float | None = 0) -> Entry:
    return Entry(name, Kind.FILE, size, modified)


def directory(name: bytes) -> Entry:
    return Entry(name, Kind.DIRECTORY, None, 0)


def target(href: str) -> bytes:
    """The path, decoded, that a browser on /here/ would ask for, which must be on the same host."""
    url = urlsplit(urljoin("http://host/here/", href))
    assert (url.scheme, url.netloc, url.query, url.fragment) == ("http", "host", "", "")
    return unquote_to_bytes(url.path)


HARD_NAMES = [
    b"a b",
    b" leading and trailing ",
    b"two  spaces",
    b'"quoted"',
    b"it's",
    b"<script>alert(1)</script>",
    b"</title></table>",
    b"&amp;",
    b"&lt",
    b"100%",
    b"%41",
    b"%2e%2e",
    b"#1",
    b"?query",
    b"a?b#c",
    b"semi;colon",
    b"a+b",
    b"new\nline",
    b"tab\tcr\r",
    b"\x01\x1b[31m\x7f",
    b"C:",
    b"javascript:alert(1)",
    b"mailto:me@here",
    b"-rf",
    b"--help",
    b"...",
    b"~",
    b"@import",
    b"back\\slash",
    b"{braces}",
    b"[v6]",
    b"\xff\xfe not utf-8 \x80",
    b"\xed\xa0\x80 surrogate",
    "größe.txt".encode(),
    "\u202egnp.exe".encode(),
    "\u0085\ufdd0\uffff\U0010ffff".encode(),
    "日本語".encode(),
]


@pytest.mark.parametrize("name", HARD_NAMES)
@pytest.mark.parametrize("kind", [Kind.FILE, Kind.DIRECTORY])
def test_a_link_leads_to_exactly_the_name(name: bytes, kind: Kind) -> None:
    """RFC 3986 §2.1, §4.2: also for a colon, which would make it a URL with a scheme."""
    ((href, _),) = page(Entry(name, kind, 1, 0)).links
    assert target(href) == b"/here/" + name + (b"/" if kind is Kind.DIRECTORY else b"")
    assert re.fullmatch(r"[A-Za-z0-9\-._~%]+/?", href)


@given(st.binary(min_size=1).filter(lambda name: not {47, 0} & set(name) and name not in (b".", b"..")))
def test_any_name_survives_and_breaks_nothing(name: bytes) -> None:
    listed = page(file(name), names=(name,))
    assert target(listed.links[1][0]) == b"/here/" + name
    assert len(listed.links) == 2
    assert "script" not in listed.tags


@pytest.mark.parametrize("name", HARD_NAMES)
def test_the_page_has_no_character_that_html_forbids(name: bytes) -> None:
    text = render((name,), [file(name)]).decode()
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff\U0010ffff]", text)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"plain.txt", "plain.txt"),
        (b"<b>&\"'", "<b>&\"'"),
        (b"a\nb\tc", "a␊b␉c"),
        (b"\x7f", "␡"),
        (b"\xff.txt", "\ufffd.txt"),
        ("é".encode(), "é"),
        (b"%20", "%20"),
    ],
)
def test_a_name_is_shown_as_it_is(name: bytes, shown: str) -> None:
    listed = page(file(name), names=(name,))
    assert listed.links[1][1] == shown
    assert listed.text["h1"] == listed.text["title"] == f"Index of /{shown}/"


def test_kinds_are_marked() -> None:
    listed = page(
        directory(b"d"), file(b"f"), Entry(b"l", Kind.LINK, None, 0), Entry(b"o", Kind.OTHER, None, 0), names=(b"x",)
    )
    assert listed.classes == ["", "parent", "directory", "file", "link", "other"]
    assert listed.links == [("../", "../"), ("d/", "d/"), ("f", "f"), ("l", "l@"), ("o", "o")]


def test_the_root_has_no_parent() -> None:
    listed = page(file(b"a"))
    assert [href for href, _ in listed.links] == ["a"]
    assert listed.text["title"] == "Index of /"


def test_an_empty_directory_is_a_page_too() -> None:
    assert page().links == []


def test_directories_come_first_and_names_as_a_reader_would_look_for_them() -> None:
    names = [b"b", b"A", b"a", b"\xff", b"C", b"10"]
    listed = page(*map(file, names), *(directory(b"d" + name) for name in (b"z", b"Y")))
    assert [text for _, text in listed.links] == ["dY/", "dz/", "10", "A", "a", "b", "C", "\ufffd"]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, ""),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1 << 20, "1.0 MiB"),
        (5 << 30, "5.0 GiB"),
        (1 << 40, "1.0 TiB"),
        ((1 << 63) - 1, "8.0 EiB"),
        (1 << 75, "32768.0 EiB"),
    ],
)
def test_sizes(size: int | None, text: str) -> None:
    assert page(file(b"a", size)).cells[-1][1] == text
    if size is not None:
        assert b'<data value="%d">' % size in render((), [file(b"a", size)])


@pytest.mark.parametrize(
    ("modified", "text"),
    [
        (None, ""),
        (0, "1970-01-01 00:00"),
        (784111777.9, "1994-11-06 08:49"),
        (-1, "1969-12-31 23:59"),
        (1e12, ""),  # beyond the year 9999
        (1e30, ""),
        (-1e30, ""),
    ],
)
def test_times(modified: float | None, text: str) -> None:
    assert page(file(b"a", 1, modified)).cells[-1][2] == text


def test_the_page_is_a_document() -> None:
    text = render((), [file(b"a")]).decode()
    assert text.startswith("<!doctype html>\n")
    assert '<meta charset="utf-8">' in text[:1024]
    assert '<meta name="color-scheme" content="light dark">' in text
    assert '<html lang="en">' in text
