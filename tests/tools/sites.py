"""A site as a generator of documentation makes it: a few hundred files, always the same.

Pages link to each other relatively, from several depths; each uses a style sheet with a font and pictures, a script
with a source map, a module that imports another one, JSON that is fetched, and WebAssembly that is streamed.
"""

from __future__ import annotations

import base64
import json
import random
import struct
import zlib
from pathlib import Path

__all__ = ["CHAPTERS", "PAGES", "make_site"]

CHAPTERS = 12
PAGES = 12  # of each chapter

# A module with one function, which returns 42.
WASM = bytes.fromhex("0061736d010000000105016000017f03020100070801047468657900000a06010400412a0b")

STYLE = """\
@font-face { font-family: Book; src: url(fonts/book.woff2) format("woff2"), url(fonts/book.ttf); }
body { background: url("img/paper.png"); color: #222 }
h1 { background: url(img/mark.svg) no-repeat; padding-left: 2rem }
/*# sourceMappingURL=style.css.map */
"""
SCRIPT = """\
"use strict";
document.documentElement.classList.add("scripted");
//# sourceMappingURL=book.js.map
"""
MODULE = """\
import { answer } from "./answer.mjs";
const root = new URL("..", import.meta.url);
const index = await (await fetch(new URL("search.json", root))).json();
const { instance } = await WebAssembly.instantiateStreaming(fetch(new URL("static/they.wasm", root)));
window.loaded = index.length + answer + instance.exports.they();
"""


def make_site(site: Path) -> None:
    """Writes the site to a directory, which is made."""
    rng = random.Random(4)
    files: dict[str, bytes | str] = {
        "index.html": _page("", "Contents", [(f"chapter%20{n}/", f"Chapter {n}") for n in range(CHAPTERS)]),
        "404.html": "<!doctype html><title>Not here</title>",
        "favicon.ico": _png(16, rng),
        "robots.txt": "User-agent: *\nAllow: /\n",
        "sitemap.xml": '<?xml version="1.0" encoding="utf-8"?>\n<urlset/>\n',
        "search.json": json.dumps([f"word {n}" for n in range(500)]),
        "static/style.css": STYLE,
        "static/style.css.map": json.dumps({"version": 3, "sources": ["style.scss"], "names": [], "mappings": ""}),
        "static/book.js": SCRIPT,
        "static/book.js.map": json.dumps({"version": 3, "sources": ["book.ts"], "names": [], "mappings": ""}),
        "static/module.mjs": MODULE,
        "static/answer.mjs": "export const answer = 42;\n",
        "static/they.wasm": WASM,
        "static/img/paper.png": _png(64, rng),
        "static/img/mark.svg": '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "static/fonts/book.woff2": rng.randbytes(40_000),  # no fonts; browsers do not call that an error
        "static/fonts/book.ttf": rng.randbytes(70_000),
        "download/book.pdf": rng.randbytes(3_000_000),
    }
    for chapter in range(CHAPTERS):
        folder = f"chapter {chapter}"
        links = [(f"page-{n}.html", f"Page {n} & more") for n in range(PAGES)]
        files[f"{folder}/index.html"] = _page("../", f"Chapter {chapter}", links)
        for n in range(PAGES):
            following = (f"page-{n + 1}.html", "Next") if n + 1 < PAGES else (f"../chapter%20{chapter + 1}/", "Next")
            more = [following] if chapter + 1 < CHAPTERS or n + 1 < PAGES else []
            links = [*more, ("./", "Up"), ("../download/book.pdf", "Print")]
            picture = f'<img src="img/{n}.png" alt="">'
            files[f"{folder}/page-{n}.html"] = _page("../", f"Page {chapter}.{n}", links, picture + "<p>Text</p>" * 50)
            files[f"{folder}/img/{n}.png"] = _png(8 + n, rng)
    for name, content in files.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def _page(root: str, title: str, links: list[tuple[str, str]], content: str = "") -> str:
    items = "\n".join(f'<li><a href="{target}">{text.replace("&", "&amp;")}</a>' for target, text in links)
    return f"""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title} \N{EM DASH} Book</title>
<link rel="icon" href="{root}favicon.ico">
<link rel="stylesheet" href="{root}static/style.css">
<script src="{root}static/book.js" defer></script>
<script src="{root}static/module.mjs" type="module"></script>
<h1>{title}</h1>
<ul>
{items}
</ul>
{content}
"""


def _png(size: int, rng: random.Random) -> bytes:
    rows = b"".join(b"\0" + rng.randbytes(3 * size) for _ in range(size))
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return base64.b16decode("89504E470D0A1A0A") + body
