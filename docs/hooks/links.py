"""A hook of MkDocs: a link that leaves docs/ leads to a page of the site that shows the file."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent.parent
LANGUAGES = {".py": "python", ".service": "ini", ".socket": "ini", ".toml": "toml", ".md": "markdown"}
LINK = re.compile(r"\]\((?P<path>(?:\.\./)+[^)\s#]+)(?:#[^)\s]*)?\)")


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Adds a page for each file that a link leads to."""
    for page in [file for file in files if file.is_documentation_page()]:
        for match in LINK.finditer(page.content_string):
            path = _outside(page.src_uri, match["path"])
            if path is not None and files.get_file_from_path(_page_of(path)) is None:
                files.append(File.generated(config, _page_of(path), content=_show(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Directs the links to these pages."""

    def redirect(match: re.Match[str]) -> str:
        path = _outside(page.file.src_uri, match["path"])
        if path is None:
            return match[0]
        return f"]({posixpath.relpath(_page_of(path), posixpath.dirname(page.file.src_uri) or '.')})"

    return LINK.sub(redirect, markdown)


def _outside(page: str, link: str) -> str | None:
    """The path from the root of the repository of what `link` on `page` leads to; None if that is within docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return None if path.startswith("docs/") else path


def _page_of(path: str) -> str:
    return f"source/{path}.md"


def _show(path: str) -> str:
    text = (ROOT / path).read_text(encoding="utf-8")
    head = "---\nsearch:\n  exclude: true\n---\n\n"  # words of a source would hide the pages that explain it
    return f"{head}# {path}\n\n````{LANGUAGES.get(posixpath.splitext(path)[1], 'text')}\n{text}````\n"
