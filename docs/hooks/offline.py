"""A hook of MkDocs: the build fails if a page or a style sheet of the site loads anything from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority

ELSEWHERE = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)
LOADING = {"src", "srcset", "data", "poster", "background"}  # attributes whose URL is loaded with the page
STYLES = re.compile(r"(?:url\(|@import)\s*['\"]?\s*(?:https?:)?//[^)'\"]*", re.IGNORECASE)
# Material loads these when a page has a diagram, or in a browser without ResizeObserver; the site has neither.
KNOWN = ("https://unpkg.com/mermaid@11/dist/mermaid.min.js", "https://unpkg.com/resize-observer-polyfill")


class Loads(HTMLParser):
    """Collects the URLs elsewhere that a page loads; links that a reader follows are none of them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        loading = LOADING | ({"href"} if tag in ("link", "use", "image") else set())
        if tag == "link" and values.get("rel") in ("canonical", "prev", "next", "edit"):
            loading = LOADING
        self.found += [values[name] for name in loading & values.keys() if ELSEWHERE.match(values[name])]
        self.found += STYLES.findall(values.get("style", ""))
        if "mermaid" in values.get("class", "").split():
            self.found.append(KNOWN[0])


def loads(path: Path) -> list[str]:
    """Returns the URLs elsewhere that a file of the site loads."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        parser = Loads()
        parser.feed(text)
        return parser.found + STYLES.findall(text)
    if path.suffix == ".js":
        scripts = re.findall(
            r"['\"`](https?://[^'\"`]+?\.(?:js|css|mjs|json|woff2?)|https?://unpkg[^'\"`]+)['\"`]", text
        )
        return [url for url in scripts if url not in KNOWN]
    return STYLES.findall(text)


@event_priority(-200)  # after the plugins, which write files themselves
def on_post_build(config: Any, **_: Any) -> None:
    site = Path(config["site_dir"])
    found = [
        f"{path.relative_to(site)}: {url}"
        for path in sorted(site.rglob("*"))
        if path.suffix in (".html", ".css", ".svg", ".js")
        for url in loads(path)
    ]
    if found:
        raise PluginError("the site must not load anything from elsewhere: " + "; ".join(found))
