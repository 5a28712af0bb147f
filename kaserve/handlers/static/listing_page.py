"""How a directory looks as a page.

Knows HTML, and how to show names and times that were never meant to be shown. Does not know requests, nor where the
entries come from. Names are bytes: a link leads back to exactly these bytes, and what is shown is the closest readable
text.

The page is one document: its style (`listing.css`) and its script (`listing.js`) are part of it, and its
Content-Security-Policy allows them by their hashes and forbids everything else, whatever a file is called. Without the
script everything works but the filter, the keys and the progress of uploads, and times are in UTC.

Programs read the page as well, and follow all links in it. So only entries are links in the plainest form:

- Other orders and the archive are buttons of forms. wget does not know `rel="nofollow"`, and fetched every directory
  seven times and every archive.
- What leads upwards has no quotes around its URL. fsspec joins every quoted link to the URL of the page, but for `../`,
  and so searched `/a/../../a/../../` for ever. Absolute paths would help, too, but be wrong where a proxy has taken a
  prefix off; the listings of nginx have no more than one `../`.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
import time
from collections.abc import Generator, Iterator
from pathlib import Path

from ...http.html_page import HEAD, content_security_policy, in_url
from .directories import Column, Entry, Kind, Order
from .media_types import media_type
from .paths import Segments, encode_name

__all__ = ["CONTENT_SECURITY_POLICY", "WITH_UPLOADS", "iso_time", "render"]


def _read(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")


def _hash(text: str) -> str:
    """The hash of a text as a Content-Security-Policy has it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_STYLE = _read("listing.css")
_SCRIPT = _read("listing.js")

# The style contains its icons, as URLs with data.
CONTENT_SECURITY_POLICY = content_security_policy(
    f"style-src {_hash(_STYLE)}", f"script-src {_hash(_SCRIPT)}", "form-action 'self'"
)

# The script sends the files itself, to show how far it is.
WITH_UPLOADS = f"{CONTENT_SECURITY_POLICY}; connect-src 'self'"

_HEAD = (
    HEAD
    + """\
<style>{style}</style>
</head>
<body>
<header>
<nav aria-label="Path"><h1>{path}</h1></nav>
<div class="tools">
<label id="filter" hidden><span class="unseen">Filter by name</span><input type="search" placeholder="Filter" \
autocomplete="off" spellcheck="false" aria-keyshortcuts="/"><kbd aria-hidden="true">/</kbd></label>
{tools}</div>
</header>
{form}<main>
<table>
<thead><tr>{columns}</tr></thead>
<tbody>
"""
)
_TAIL = """\
</tbody>
</table>
<p id="none" class="note" {is_empty}>{note}</p>
</main>
<footer>
<p role="status" id="count">{count}</p>
<p class="keys" id="keys" hidden><span><kbd>↑</kbd> <kbd>↓</kbd> move</span> <span><kbd>/</kbd> filter</span> \
<span><kbd>⌫</kbd> up</span></p>
</footer>
<script>{script}</script>
</body>
</html>
"""
_ICON = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><path fill='#2f6fd6' "
    "d='M1.8 2.5h4a1 1 0 0 1 .7.3l1.2 1.2h6.5a1 1 0 0 1 1 1v7.5"
    "a1 1 0 0 1-1 1H1.8a1 1 0 0 1-1-1v-9a1 1 0 0 1 1-1z'/></svg>"
)
_ZIP = '<form><button class="button" name="zip">Download as zip</button></form>\n'
_COLUMN = (
    '<th scope="col"{state}><form><button name="sort" value="{column}">{title}</button>'
    '<input type="hidden" name="order" value="{order}"></form></th>'
)
_TITLES = {Column.NAME: "Name", Column.SIZE: "Size", Column.DATE: "Modified <small>UTC</small>"}
_PARENT = '<tr class="parent"><td><a href={up} aria-label="Parent directory">../</a></td><td></td><td></td></tr>\n'
_ROW = (
    '<tr class="{kind}"><td><a href="{href}"><bdi>{name}</bdi>{slash}</a>{mark}</td><td>{size}</td>'
    "<td>{modified}</td></tr>\n"
)
_LINK_MARK = ' <span class="mark">link</span>'
_OTHER_MARK = ' <span class="mark">special</span>'

_BATCH = 256  # rows in one piece; making them takes about a millisecond


def render(
    segments: Segments, entries: Iterator[Entry | None], order: Order, *, offer_zip: bool = False, form: str = ""
) -> Generator[bytes, None, None]:
    """Makes the page of a directory, in UTF-8 and in pieces. Its URL has to end in a slash.

    Args:
        segments: where the directory is below the root.
        entries: what is in it, sorted. None is a pause, and makes an empty piece.
        order: how they are sorted; the links to other directories keep it.
        offer_zip: whether there is a button for the archive.
        form: HTML above the entries.
    """
    query = "" if order == Order() else f"?sort={order.column.value}&amp;order={_direction(order.descending)}"
    yield _head(segments, order, query, _ZIP if offer_zip else "", form).encode()
    rows = [_PARENT.format(up=_up(1, query))] if segments else []
    directories = others = total = 0
    for entry in entries:
        if entry is None:
            yield b""
            continue
        rows.append(_row(entry, query))
        if entry.kind is Kind.DIRECTORY:
            directories += 1
        else:
            others += 1
            total += entry.size or 0
        if len(rows) >= _BATCH:
            yield "".join(rows).encode()
            rows.clear()
    rows.append(_tail(directories, others, total))
    yield "".join(rows).encode()


def _head(segments: Segments, order: Order, query: str, tools: str, form: str) -> str:
    """Everything before the rows."""
    shown = [_shown(name) for name in segments]
    return _HEAD.format(
        title="Index of /" + "".join(name + "/" for name in shown),
        path=_path(shown, query),
        icon=in_url(_ICON),
        style=_STYLE,
        tools=tools,
        form=form,
        columns="".join(_column(column, order) for column in Column),
    )


def _path(shown: list[str], query: str) -> str:
    """The path as a line of links, from the root to the parent directory; the last name is the directory itself. The
    root is "Home": its own name may be private, and behind a proxy it is not that of the server's root."""
    if not shown:
        return '<b class="root" aria-current="page">Home</b>'
    crumbs = [f'<a class="root" href={_up(len(shown), query)}>Home</a><i>/</i>']
    for depth, name in enumerate(shown[:-1], 1):
        crumbs.append(f"<a href={_up(len(shown) - depth, query)}><bdi>{name}</bdi></a><i>/</i>")
    crumbs.append(f'<b aria-current="page"><bdi>{shown[-1]}</bdi></b><i>/</i>')
    return "<wbr>".join(crumbs)


def _up(levels: int, query: str) -> str:
    """A URL that leads so many levels up, as the value of an attribute without quotes (see the top of this module)."""
    return "../" * levels + query.replace("=", "&#61;")


def _column(column: Column, order: Order) -> str:
    """The title of a column, as a button that sorts by it, or reverses the order if it is sorted by it already."""
    state = ""
    descending = column is not Column.NAME  # people look for the largest or the latest first
    if column is order.column:
        state = f' aria-sort="{"descending" if order.descending else "ascending"}"'
        descending = not order.descending
    return _COLUMN.format(state=state, column=column.value, order=_direction(descending), title=_TITLES[column])


def _direction(descending: bool) -> str:
    return "desc" if descending else "asc"


def _tail(directories: int, others: int, total: int) -> str:
    """Everything after the rows: the counts, and a note for an empty directory or a filter that leaves nothing."""
    counts = [_count(directories, "directory", "directories"), _count(others, "file", "files")]
    is_empty = not directories and not others
    return _TAIL.format(
        is_empty="" if is_empty else "hidden",
        note="There is nothing here." if is_empty else "No name matches the filter.",
        count=" · ".join([text for text in counts if text] + ([_human(total)] if total else [])),
        script=_SCRIPT,
    )


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}" if number else ""


def _row(entry: Entry, query: str) -> str:
    """One entry as a row of the table."""
    kind = entry.kind
    mark = ""
    if entry.is_link:
        mark = _LINK_MARK
    elif kind is Kind.OTHER:
        mark = _OTHER_MARK
    is_directory = kind is Kind.DIRECTORY
    return _ROW.format(
        kind=kind.value if kind is not Kind.FILE else _class(entry.name),
        href=encode_name(entry.name) + ("/" + query if is_directory else ""),  # the slash saves a redirect
        name=_shown(entry.name),
        slash="/" if is_directory else "",
        mark=mark,
        size="" if entry.size is None else f'<data value="{entry.size}">{_human(entry.size)}</data>',
        modified="" if entry.modified is None else _time(entry.modified),
    )


_TEXTS = frozenset(f"application/{subtype}" for subtype in "json ld+json manifest+json pdf xml yaml".split())
_ARCHIVES = frozenset(b"zip gz tgz bz2 xz zst br 7z rar tar jar whl deb rpm iso dmg".split())


def _class(name: bytes) -> str:
    """The classes of a file's row, by which the style chooses an icon: the kind of content that its name suggests."""
    if name.rpartition(b".")[2].lower() in _ARCHIVES:
        return "file archive"
    content_type = media_type(name)
    maintype = "text" if content_type in _TEXTS else content_type.partition("/")[0]
    return f"file {maintype}" if maintype in ("audio", "image", "text", "video") else "file"


# Characters that must not stand in HTML, not even escaped: controls and noncharacters.
_PLANES = range(0, 0x110000, 0x10000)
_NONCHARACTERS = "\ufdd0-\ufdef" + "".join(chr(plane + 0xFFFE) + chr(plane + 0xFFFF) for plane in _PLANES)
_UNSHOWABLE = re.compile(f"[\x00-\x1f\x7f-\x9f{_NONCHARACTERS}]")


def _shown(name: bytes) -> str:
    """A name as text of HTML for people: what is not UTF-8, or invisible, is replaced by a symbol."""
    return html.escape(_UNSHOWABLE.sub(_symbol, name.decode(errors="replace")))


def _symbol(character: re.Match[str]) -> str:
    """Unicode's picture of an ASCII control character, such as a newline; U+FFFD for anything else."""
    code = ord(character[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else "\ufffd"


def _human(size: int) -> str:
    """A size in the largest unit in which it is at least 1."""
    if size < 1024:
        return f"{size} B"
    power = min((size.bit_length() - 1) // 10, 6)
    return f"{size / 1024**power:.1f} {'KMGTPE'[power - 1]}iB"


def _time(seconds: float) -> str:
    """A time in UTC, shown to the minute."""
    text = iso_time(seconds)
    return f'<time datetime="{text}">{text[:10]} <span>{text[11:16]}</span></time>' if text else ""


def iso_time(seconds: float) -> str:
    """Returns a time in UTC, as `2026-11-21T12:00:00Z`; "" for one outside of the years 1 to 9999.

    Args:
        seconds: since the epoch.
    """
    try:
        fields = time.gmtime(seconds)
    except (OverflowError, ValueError, OSError):
        return ""
    year, month, day, hour, minute, second = fields[:6]
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z" if 1 <= year <= 9999 else ""
