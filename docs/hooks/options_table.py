"""A hook of MkDocs: writes the tables of the command line options from the settings, so that they cannot go stale."""

from __future__ import annotations

import html
import os
import re
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

MARK = "<!-- the options -->"
WITHOUT_NAME = {"port", "app"}  # arguments that the command line takes without a name


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts the tables in place of the mark."""
    return markdown.replace(MARK, tables()) if MARK in markdown else markdown


def tables() -> str:
    """Returns a section for each group of options, in the order of --help."""
    os.environ.setdefault("KASERVE_PURE", "1")
    sys.path.insert(0, str(Path(__file__).parent.parent.parent))
    try:
        from kaserve.config import options
    finally:
        del sys.path[0]
    parts = []
    for group, members in groupby(options().items(), key=lambda item: item[1].group):
        parts.append(f"## {group[0].upper()}{group[1:]}\n\n| option | default | what it does |\n|---|---|---|\n")
        parts += [_row(name, option) for name, option in members]
        parts.append("\n")
    return "".join(parts)


def _row(name: str, option: Any) -> str:
    long = "--" + name.replace("_", "-")
    spellings = [f"`{spelling}`" for spelling in (*option.flags, long)]
    if option.metavar is not None:
        spellings[-1] = f"`{option.metavar}`" if name in WITHOUT_NAME else f"`{long} {option.metavar}`"
    sentence = option.help[0].upper() + option.help[1:].removesuffix(".") + "."
    if option.repeatable:
        sentence += " May be repeated."
    sentence = re.sub(r"(?<![\w`-])--[a-z][a-z-]*", lambda match: f"`{match[0]}`", html.escape(sentence, quote=False))
    anchor = f'<span id="{name.replace("_", "-")}"></span>'
    return f"| {anchor}{', '.join(spellings)} | {_default(option)} | {_escape(sentence)} |\n"


def _default(option: Any) -> str:
    value = option.default
    if value is None or value in ("", ()):
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    if option.repeatable:
        value = ", ".join(value)
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _escape(text: str) -> str:
    """Without characters that end a cell or begin emphasis."""
    return text.replace("|", "\\|").replace("*", "\\*")
