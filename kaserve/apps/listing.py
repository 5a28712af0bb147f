"""How a directory looks as a page.

Knows HTML, and how to show names and times that were never meant to be shown. Does not know requests, nor where the
entries come from. Names are bytes, as file systems have them: a link leads back to exactly these bytes, and what is
shown is the best that can be made of them.
"""

from __future__ import annotations

import enum
import html
import re
import time
from collections.abc import Iterable
from typing import NamedTuple

from .paths import encode_name

__all__ = ["Entry", "Kind", "render"]


class Kind(enum.Enum):
    """What an entry is; its value is a word for it, which the page uses as a class."""

    DIRECTORY = "directory"
    FILE = "file"
    LINK = "link"  # to whatever
    OTHER = "other"  # a FIFO, a socket, a device: never served


class Entry(NamedTuple):
    """A name in a directory. size: bytes; modified: seconds since the epoch; each None if it is unknown."""

    name: bytes
    kind: Kind
    size: int | None
    modified: float | None


# A mark behind the name, as `ls -F` has it.
_MARKS = {Kind.DIRECTORY: "/", Kind.FILE: "", Kind.LINK: "@", Kind.OTHER: ""}

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.25rem; overflow-wrap: anywhere; }}
table {{ width: 100%; border-collapse: collapse; }}
th, td {{ padding: .2rem .5rem; text-align: left; vertical-align: top; border-bottom: 1px solid #8884; }}
th + th, td + td {{ text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }}
a {{ text-decoration: none; white-space: pre-wrap; overflow-wrap: anywhere; }}
a:hover {{ text-decoration: underline; }}
.directory a {{ font-weight: 600; }}
</style>
</head>
<body>
<h1>{title}</h1>
<table>
<thead><tr><th scope="col">Name</th><th scope="col">Size</th><th scope="col">Modified (UTC)</th></tr></thead>
<tbody>
{rows}</tbody>
</table>
{form}</body>
</html>
"""
_PARENT = '<tr class="parent"><td><a href="../">../</a></td><td></td><td></td></tr>\n'
_ROW = (
    '<tr class="{kind}"><td><a href="{href}"><bdi>{name}</bdi>{mark}</a></td><td>{size}</td><td>{modified}</td></tr>\n'
)


def render(names: tuple[bytes, ...], entries: Iterable[Entry], form: str = "") -> bytes:
    """The page, in UTF-8, of the directory at `names` below the root; it has to be at a URL that ends in a slash.

    form: HTML for its end.
    """
    path = "/" + "".join(_shown(name) + "/" for name in names)
    rows = [_row(entry) for entry in sorted(entries, key=_order)]
    if names:
        rows.insert(0, _PARENT)
    return _PAGE.format(title=f"Index of {path}", rows="".join(rows), form=form).encode()


def _order(entry: Entry) -> tuple[bool, str, bytes]:
    """Directories first, then as a reader would look for it; the bytes decide between names that read the same."""
    return entry.kind is not Kind.DIRECTORY, entry.name.decode(errors="replace").casefold(), entry.name


def _row(entry: Entry) -> str:
    slash = "/" if entry.kind is Kind.DIRECTORY else ""  # saves a redirect
    return _ROW.format(
        kind=entry.kind.value,
        href=encode_name(entry.name) + slash,
        name=_shown(entry.name),
        mark=_MARKS[entry.kind],
        size="" if entry.size is None else _size(entry.size),
        modified="" if entry.modified is None else _time(entry.modified),
    )


# Characters that must not stand in HTML, not even escaped: controls and noncharacters.
_PLANES = range(0, 0x110000, 0x10000)
_NONCHARACTERS = "\ufdd0-\ufdef" + "".join(chr(plane + 0xFFFE) + chr(plane + 0xFFFF) for plane in _PLANES)
_UNSHOWABLE = re.compile(f"[\x00-\x1f\x7f-\x9f{_NONCHARACTERS}]")


def _shown(name: bytes) -> str:
    """`name` for the eye, as text of HTML: what is not UTF-8 or not to be seen is replaced by a symbol."""
    return html.escape(_UNSHOWABLE.sub(_symbol, name.decode(errors="replace")))


def _symbol(character: re.Match[str]) -> str:
    """The picture Unicode has of an ASCII control, such as a newline; the replacement character for anything else."""
    code = ord(character[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else "\ufffd"


def _size(size: int) -> str:
    """`size` as people read it, with the exact number for machines."""
    if size < 1024:
        text = f"{size} B"
    else:
        power = min((size.bit_length() - 1) // 10, 6)
        text = f"{size / 1024**power:.1f} {'KMGTPE'[power - 1]}iB"
    return f'<data value="{size}">{text}</data>'


def _time(seconds: float) -> str:
    """A moment in UTC, to the minute; nothing for one that no calendar has."""
    try:
        moment = time.gmtime(seconds)
    except (OverflowError, ValueError, OSError):
        return ""
    if not 1 <= moment.tm_year <= 9999:
        return ""
    year, month, day, hour, minute = moment[:5]
    date = f"{year:04}-{month:02}-{day:02}"
    clock = f"{hour:02}:{minute:02}"
    return f'<time datetime="{date}T{clock}Z">{date} {clock}</time>'
