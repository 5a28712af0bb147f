"""Directory listings: the strangest names, and a page, or JSON, that is still right."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaserve import Request, Response
from kaserve.handlers import Files
from kaserve.handlers.static.directories import Column, Entry, Kind, Order
from kaserve.handlers.static.listing import respond_with_listing
from kaserve.handlers.static.listing_page import CONTENT_SECURITY_POLICY, render
from kaserve.handlers.static.paths import Tree
from kaserve.handlers.static.site_headers import SiteHeaders
from kaserve.handlers.uploads.upload import FORM
from kaserve.threads.slices import IncrementalBody
from tests.tools.files import ask as ask_files
from tests.tools.ids import readable
from tests.tools.server import connect, get, serving

BY_NAME = Order()
VOID = {"meta", "wbr", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """What a browser gets from a page: its links with their text, its rows, and whether its tags are balanced."""

    def __init__(self, page: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[tuple[str, str]] = []  # of the rows
        self.hrefs: list[str] = []  # of all else
        self.queries: list[str] = []  # of the forms
        self.heads: list[dict[str, str | None]] = []
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
            if "tbody" in self.open:
                self.links.append((attributes["href"] or "", ""))
            else:
                self.hrefs.append(attributes["href"] or "")
        if tag == "form":
            self.queries.append("")
        if tag in ("button", "input") and self.queries and attributes.get("name") and "form" in self.open:
            field = f"{attributes['name']}={attributes.get('value', '')}"
            self.queries[-1] += f"&{field}" if self.queries[-1] else f"?{field}"
        if tag == "th":
            self.heads.append(attributes)
        if tag == "tr":
            self.classes.append(attributes.get("class") or "")
            self.cells.append([])
        if tag == "td":
            self.cells[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            for tag in {*self.open}:
                self.text[tag] = self.text.get(tag, "") + data
        if "a" in self.open and "tbody" in self.open:
            href, text = self.links[-1]
            self.links[-1] = href, text + data
        if "td" in self.open:
            self.cells[-1][-1] += data


def text(*entries: Entry, segments: tuple[bytes, ...] = (), order: Order = BY_NAME, offer_zip: bool = False) -> str:
    return b"".join(render(segments, iter(entries), order, offer_zip=offer_zip)).decode()


def page(*entries: Entry, segments: tuple[bytes, ...] = (), order: Order = BY_NAME, offer_zip: bool = False) -> Page:
    return Page(text(*entries, segments=segments, order=order, offer_zip=offer_zip).encode())


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
    listed = page(file(name), segments=(name,))
    assert target(listed.links[1][0]) == b"/here/" + name
    assert len(listed.links) == 2
    assert listed.tags.count("script") == 1  # the page's own


@pytest.mark.parametrize("name", HARD_NAMES)
def test_the_page_has_no_character_that_html_forbids(name: bytes) -> None:
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff\U0010ffff]", text(file(name), segments=(name,))
    )


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
    listed = page(file(name), segments=(name,))
    assert listed.links[1][1] == shown
    assert listed.text["h1"] == f"Home/{shown}/"
    assert listed.text["title"] == f"Index of /{shown}/"


def test_kinds_are_marked() -> None:
    listed = page(
        directory(b"d"),
        file(b"f"),
        Entry(b"i.PNG", Kind.FILE, 1, 0, True),
        Entry(b"l", Kind.LINK, None, 0, True),
        Entry(b"o", Kind.OTHER, None, 0),
        segments=(b"x",),
    )
    assert listed.classes == ["", "parent", "directory", "file", "file image", "link", "other"]
    assert listed.links == [("../", "../"), ("d/", "d/"), ("f", "f"), ("i.PNG", "i.PNG"), ("l", "l"), ("o", "o")]
    assert [cells[0] for cells in listed.cells[1:]] == ["../", "d/", "f", "i.PNG link", "l link", "o special"]


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        (b"a.jpg", "file image"),
        (b"a.mp3", "file audio"),
        (b"a.webm", "file video"),
        (b"a.txt", "file text"),
        (b"a.json", "file text"),
        (b"a.tar.GZ", "file archive"),
        (b"a.bin", "file"),
        (b"a", "file"),
        (b".gz", "file archive"),
        (b'a." onclick="x', "file"),
    ],
)
def test_what_a_name_promises_is_a_class(name: bytes, classes: str) -> None:
    assert page(file(name)).classes[-1] == classes


def test_the_path_is_a_line_of_links() -> None:
    listed = page(segments=(b"a b", b"<i>", b"c"))
    assert listed.text["h1"] == "Home/a b/<i>/c/"
    assert [urljoin("http://h/a%20b/%3Ci%3E/c/", href) for href in listed.hrefs[:3]] == [
        "http://h/",
        "http://h/a%20b/",
        "http://h/a%20b/%3Ci%3E/",
    ]


def test_the_root_has_no_parent() -> None:
    listed = page(file(b"a"))
    assert [href for href, _ in listed.links] == ["a"]
    assert listed.text["title"] == "Index of /"
    assert listed.text["h1"] == "Home"


def test_an_empty_directory_is_a_page_too() -> None:
    listed = page()
    assert listed.links == []
    assert "There is nothing here." in listed.text["main"]


@pytest.mark.parametrize(
    ("entries", "summary"),
    [
        ([], ""),
        ([file(b"a", 1)], "1 file · 1 B"),
        ([directory(b"a")], "1 directory"),
        ([directory(b"a"), directory(b"b"), file(b"c", 1024), file(b"d", 512)], "2 directories · 2 files · 1.5 KiB"),
        ([file(b"%d" % number, None) for number in range(1234)], "1,234 files"),
    ],
    ids=readable,
)
def test_the_sum(entries: list[Entry], summary: str) -> None:
    assert f'id="count">{summary}</p>' in text(*entries)


@pytest.mark.parametrize(
    ("order", "states", "hrefs", "query"),
    [
        (Order(), ["ascending", None, None], ["name desc", "size desc", "date desc"], ""),
        (Order(Column.NAME, True), ["descending", None, None], ["name asc", "size desc", "date desc"], "name desc"),
        (Order(Column.SIZE), [None, "ascending", None], ["name asc", "size desc", "date desc"], "size asc"),
        (Order(Column.DATE, True), [None, None, "descending"], ["name asc", "size desc", "date asc"], "date desc"),
    ],
    ids=readable,
)
def test_titles_are_buttons_that_sort(order: Order, states: list[str | None], hrefs: list[str], query: str) -> None:
    """Without any script; assistive technology knows the order, and links to other directories keep it."""

    def link(words: str) -> str:
        return "?sort={}&order={}".format(*words.split()) if words else ""

    listed = page(directory(b"d"), file(b"f"), segments=(b"a", b"b"), order=order)
    assert [head.get("aria-sort") for head in listed.heads] == states
    assert listed.queries == [link(words) for words in hrefs]
    assert listed.hrefs == ["../../" + link(query), "../" + link(query)]
    assert [href for href, _ in listed.links] == ["../" + link(query), "d/" + link(query), "f"]


def test_an_archive_is_offered_when_there_is_one() -> None:
    assert "?zip=" in page(offer_zip=True).queries
    assert "?zip=" not in page().queries


# fsspec 2026's, which joins what it finds to the URL of the page, unless it is `..` or `../`.
FSSPEC = re.compile(r"""<(a|A)\s+(?:[^>]*?\s+)?(href|HREF)=["'](?P<url>[^"']+)""")


@pytest.mark.parametrize("order", [Order(), Order(Column.SIZE, True)], ids=readable)
def test_programs_that_follow_every_link_find_the_entries_and_nothing_else(order: Order) -> None:
    """wget -r follows all links, nofollow or not, and no forms; fsspec takes those in quotes for entries."""
    document = text(directory(b"d"), file(b"f"), segments=(b"a", b"b", b"c"), order=order, offer_zip=True)
    query = "" if order == Order() else "?sort=size&amp;order=desc"
    assert [match["url"] for match in FSSPEC.finditer(document)] == ["d/" + query, "f"]
    listed = Page(document.encode())
    everything = listed.hrefs + [href for href, _ in listed.links]
    assert all(re.fullmatch(r"(\.\./)+(\?.*)?|d/(\?.*)?|f", href) for href in everything)


def test_large_pages_come_in_pieces() -> None:
    found = [file(b"%d" % number) for number in range(1000)]
    pieces = list(render((), iter([None, None, *found]), Order()))
    assert len(pieces) == 1 + 2 + 3 + 1  # what is before the rows, two pauses, 256 rows each, and the rest
    assert pieces[1] == pieces[2] == b""
    assert max(map(len, pieces)) < 65536
    assert len(Page(b"".join(pieces)).links) == 1000


@pytest.mark.parametrize(
    ("size", "shown"),
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
def test_sizes(size: int | None, shown: str) -> None:
    assert page(file(b"a", size)).cells[-1][1] == shown
    if size is not None:
        assert f'<data value="{size}">' in text(file(b"a", size))


@pytest.mark.parametrize(
    ("modified", "shown"),
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
def test_times(modified: float | None, shown: str) -> None:
    assert page(file(b"a", 1, modified)).cells[-1][2] == shown


def test_the_page_is_a_document() -> None:
    document = text(file(b"a"))
    assert document.startswith("<!doctype html>\n")
    assert '<meta charset="utf-8">' in document[:1024]
    assert '<meta name="color-scheme" content="light dark">' in document
    assert '<html lang="en">' in document


def test_the_page_needs_nothing_else_and_its_policy_says_so() -> None:
    document = text(file(b"a"), segments=(b"x",), offer_zip=True)
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", document, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none';")
    assert not re.search(r"\s(on\w+|style|src)=", re.sub("<(style|script)>.*?</", "", document, flags=re.DOTALL))
    assert "//" not in re.sub("http://www.w3.org/2000/svg|// .*", "", document)


# The response


class Later(Executor):
    """Does what it is given when it is asked for the result, in the same thread."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **more: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work(*args, **more))
        return future


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Tree]:
    tree = Tree(tmp_path)
    yield tree
    tree.close()


def ask(tree: Tree, *accept: str, query: str = "", segments: tuple[bytes, ...] = (), **how: Any) -> Response:
    request = Request("GET", "/", 1, [("accept", value) for value in accept])
    request.query_string = query
    return respond_with_listing(request, tree, segments, Later(), **how)


def content(response: Response) -> bytes:
    if isinstance(response.body, bytes):
        return response.body
    assert isinstance(response.body, IncrementalBody)
    pieces: list[Any] = [piece.result() if isinstance(piece, Future) else piece for piece in response.body]
    response.close()
    return b"".join(pieces)


def test_only_the_page_with_uploads_may_send_requests(site: Tree) -> None:
    policy = ask(site, form="<form></form>").headers["content-security-policy"]
    assert policy == f"{CONTENT_SECURITY_POLICY}; connect-src 'self'"


def test_the_headers_of_both_forms(site: Tree) -> None:
    for accept, content_type in (("*/*", "text/html; charset=utf-8"), ("application/json", "application/json")):
        response = ask(site, accept)
        assert response.status == 200
        assert response.headers["content-type"] == content_type
        assert response.headers["vary"] == "Accept, Accept-Encoding"
        assert "etag" not in response.headers
        assert "last-modified" not in response.headers
    assert ask(site).headers["content-security-policy"] == CONTENT_SECURITY_POLICY


def test_the_objects_of_json(tmp_path: Path, site: Tree) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a b").write_bytes(b"12345")
    (tmp_path / os.fsdecode(b'"\xff\n')).write_bytes(b"")
    (tmp_path / "in").symlink_to("sub")
    (tmp_path / "out").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    for path in tmp_path.iterdir():
        os.utime(path, (784111777, 784111777), follow_symlinks=False)
    mtime = "1994-11-06T08:49:37Z"
    assert json.loads(content(ask(site, "application/json"))) == [
        {"name": "in", "url": "in/", "type": "directory", "mtime": mtime, "link": True},
        {"name": "sub", "url": "sub/", "type": "directory", "mtime": mtime},
        {"name": '"\ufffd\n', "url": "%22%FF%0A", "type": "file", "size": 0, "mtime": mtime},
        {"name": "a b", "url": "a%20b", "type": "file", "size": 5, "mtime": mtime},
        {"name": "out", "url": "out", "type": "link", "mtime": mtime, "link": True},
        {"name": "pipe", "url": "pipe", "type": "other", "mtime": mtime},
    ]


@pytest.mark.parametrize("count", [0, 1, 256, 257, 511, 512, 2000])
def test_directories_of_any_size(tmp_path: Path, site: Tree, count: int) -> None:
    """Small ones have a length; large ones come in pieces, which leave nothing open."""
    for number in range(count):
        (tmp_path / f"{number}.txt").touch()
    expected = [f"{number}.txt" for number in range(count)]
    before = len(os.listdir("/dev/fd"))
    described, shown = ask(site, "application/json"), ask(site)
    assert (type(described.body) is bytes) == (type(shown.body) is bytes) == (count < 512)
    assert [each["name"] for each in json.loads(content(described))] == expected
    assert [href for href, _ in Page(content(shown)).links] == expected
    assert len(os.listdir("/dev/fd")) <= before


def test_a_response_that_is_not_sent_leaves_nothing_open(tmp_path: Path, site: Tree) -> None:
    for number in range(2000):
        (tmp_path / f"{number}.txt").touch()
    before = len(os.listdir("/dev/fd"))
    ask(site).close()
    taken = ask(site)
    assert isinstance(taken.body, IncrementalBody)
    next(taken.body)
    taken.close()
    taken.close()
    assert len(os.listdir("/dev/fd")) <= before


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["a", "b", "c"]),
        ("sort=size", ["c", "a", "b"]),
        ("sort=size&order=desc", ["b", "a", "c"]),
        ("sort=date&order=asc", ["b", "c", "a"]),
        ("order=desc", ["c", "b", "a"]),
        ("sort=name&order=up", ["a", "b", "c"]),
        ("sort=colour", ["a", "b", "c"]),
        ("sort=s%69ze", ["c", "a", "b"]),
        ("&&=&sort", ["a", "b", "c"]),
    ],
    ids=readable,
)
def test_the_query_chooses_the_order(tmp_path: Path, site: Tree, query: str, names: list[str]) -> None:
    for name, size, date in (("a", 2, 30), ("b", 3, 10), ("c", 1, 20)):
        (tmp_path / name).write_bytes(b"x" * size)
        os.utime(tmp_path / name, (date, date))
    assert [each["name"] for each in json.loads(content(ask(site, "application/json", query=query)))] == names
    assert [href for href, _ in Page(content(ask(site, query=query))).links] == names


def test_hidden_entries(tmp_path: Path, site: Tree) -> None:
    (tmp_path / ".secret").touch()
    assert Page(content(ask(site))).links == []
    assert Page(content(ask(site, show_hidden=True))).links == [(".secret", ".secret")]


def test_a_listing_says_nothing_of_what_is_outside(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "secret").write_bytes(b"x" * 4321)
    for name, target in (("file", "../secret"), ("up", ".."), ("gone", "nowhere"), ("self", "self")):
        (tmp_path / "site" / name).symlink_to(target)
    tree = Tree(tmp_path / "site")
    described = json.loads(content(ask(tree, "application/json")))
    assert [(each["name"], each["type"], each["url"]) for each in described] == [
        (name, "link", name) for name in ("file", "gone", "self", "up")
    ]
    assert all("size" not in each for each in described)
    shown = content(ask(tree))
    assert b"4321" not in shown
    assert b"secret" not in shown
    tree.close()


def test_a_listing_that_cannot_be_is_an_error_before_it_is_begun(tmp_path: Path, site: Tree) -> None:
    with pytest.raises(FileNotFoundError):
        ask(site, segments=(b"nothing",))


def test_over_one_connection(tmp_path: Path) -> None:
    """Large or small, a page or JSON or a HEAD of it: the connection serves the next request."""
    (tmp_path / "large").mkdir()
    (tmp_path / "small").mkdir()
    for number in range(1000):
        (tmp_path / "large" / f"{number}.txt").touch()
    with closing(Files(tmp_path)) as files, serving(files) as server, connect(server) as client:
        for _ in range(2):
            for path, framing, count in (("/large/", "chunked", 1000), ("/small/", "length", 0)):
                shown = client.ask(path)
                assert (shown.status, shown.framing) == (200, framing)
                assert len(Page(shown.body).links) == count + 1
                described = client.ask(path, "Accept: application/json")
                assert (described.status, described.framing) == (200, framing)
                assert len(json.loads(described.body)) == count
                head = client.ask(path, method="HEAD")
                assert (head.status, head.body) == (200, b"")
    with closing(Files(tmp_path)) as files, serving(files) as server, connect(server) as client:
        old = client.ask("/large/", version="1.0")
        assert (old.status, old.framing) == (200, "close")
        assert len(Page(old.body).links) == 1001


def test_a_large_directory_does_not_hold_up_others(tmp_path: Path) -> None:
    """While one client does not read its listing, and so does not let it go on, another is served."""
    (tmp_path / "file").write_bytes(b"content")
    for number in range(3000):
        (tmp_path / f"{number}-{'x' * 200}").touch()
    with (
        closing(Files(tmp_path)) as files,
        serving(files) as server,
        connect(server) as slow,
        connect(server) as client,
    ):
        slow.send(get("/"))
        for _ in range(10):
            assert client.ask("/file").body == b"content"
        assert len(Page(slow.answer().body).links) == 3001


@pytest.mark.parametrize("accept", ["*/*", "application/json"])
def test_without_listings_a_directory_is_not_there(tmp_path: Path, accept: str) -> None:
    """Unless it has an index. The connection stays."""
    (tmp_path / "d").mkdir()
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "index.html").write_bytes(b"index")
    with closing(Files(tmp_path, listing=False)) as files, serving(files) as server, connect(server) as client:
        for path, status in (("/", 404), ("/d/", 404), ("/e/", 200), ("/d", 301)):
            assert client.ask(path, f"Accept: {accept}").status == status


def test_the_headers_of_the_site_win(tmp_path: Path) -> None:
    """A header of the user replaces the listing's own; the form for uploads is part of the page."""
    added = SiteHeaders([("Cache-Control", "max-age=5"), ("X-Mine", "1"), ("Vary", "Cookie")])
    with closing(Files(tmp_path, zip=True, headers=added, form=FORM)) as files:
        for query in ("", "zip"):
            request = Request("GET", "/", 1, [])
            request.query_string = query
            response = files(request)
            assert response.headers.get_all("cache-control") == ["max-age=5"]
            assert response.headers.get_all("x-mine") == ["1"]
            assert response.headers.get_all("vary") == (["Cookie"] if query else ["Accept, Accept-Encoding", "Cookie"])
            assert response.headers.get_all("x-content-type-options") == ["nosniff"]
            if not query:
                assert FORM.encode() in content(response)
            response.close()


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
@pytest.mark.parametrize("count", [1, 2000])
def test_a_listing_is_compressed_for_who_accepts_it(tmp_path: Path, accept: str, count: int) -> None:
    """RFC 9110 §12.5.3; with --compress or without."""
    for number in range(count):
        (tmp_path / f"{number}.txt").touch()
    with closing(Files(tmp_path)) as files:
        plain = ask_files(files, "/", "GET", f"Accept: {accept}", "Accept-Encoding: identity")
        coded = ask_files(files, "/", "GET", f"Accept: {accept}", "Accept-Encoding: gzip")
        assert "content-encoding" not in plain.headers
        assert coded.headers["content-encoding"] == "gzip"
        assert coded.headers.get_all("vary") == plain.headers.get_all("vary") == ["Accept, Accept-Encoding"]
        assert gzip.decompress(coded.body) == plain.body
        assert count == 1 or len(coded.body) < len(plain.body) / 4
        refused = ask_files(files, "/", "GET", "Accept-Encoding: gzip;q=0")
        assert "content-encoding" not in refused.headers


def test_the_form_for_uploads_is_above_the_entries(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with closing(Files(tmp_path, form=FORM)) as files:
        document = ask_files(files, "/").body.decode()
        assert document.index(FORM) < document.index("<main>")
