"""Error responses: a small page with a way back for a client that prefers HTML, one line of text for all others.

Knows what the page says, and which clients want it. Does not know why anything failed.

The page is one document. Its links are relative, so that they stay right where a proxy has taken a prefix off the path.
"""

from __future__ import annotations

import base64
import hashlib
import html

from .errors import PHRASES, HTTPError
from .html_page import HEAD, ICON, content_security_policy, in_url
from .messages import Request, Response, error_response
from .negotiation import prefers

__all__ = ["prefers_page", "respond_with_error"]

_STYLE = """
:root { --ground: #f6f7f9; --card: #fff; --text: #1c2128; --dim: #5a6472; --line: #e3e6ea; --accent: #0b57d0; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #0e1116; --card: #161b22; --text: #e6eaf0; --dim: #9aa5b3; --line: #262d37; --accent: #86b6ff; }
}
* { box-sizing: border-box; }
body {
  display: flex; min-height: 100vh; margin: 0; padding: 1rem; color: var(--text); background: var(--ground);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main {
  width: 100%; max-width: 30rem; margin: auto; padding: 1.5rem; border: 1px solid var(--line); border-radius: 12px;
  background: var(--card); overflow-wrap: anywhere;
}
small { color: var(--dim); font-size: .875rem; font-variant-numeric: tabular-nums; }
h1 { margin: .25rem 0 .75rem; font-size: 1.375rem; line-height: 1.3; }
p { margin: 0; }
nav { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; margin-top: 1.5rem; }
a { padding: .25rem 0; color: var(--accent); text-underline-offset: .2em; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
"""
_PAGE = (
    HEAD
    + """\
<style>{style}</style>
</head>
<body>
<main>
<small>{title}</small>
<h1>{heading}</h1>
{text}<nav>{links}</nav>
</main>
</body>
</html>
"""
)
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("Vary", "Accept"),
    ("Content-Security-Policy", content_security_policy(f"style-src 'sha256-{_HASH}'")),
)


def prefers_page(request: Request) -> bool:
    """Returns whether the client likes HTML better than plain text, as browsers do (RFC 9110 §12.5.1)."""
    return prefers(", ".join(request.values("accept")), "text/html", "text/plain")


def respond_with_error(
    request: Request | None, error: HTTPError, *, title: str = "", back: tuple[str, str] | None = None
) -> Response:
    """Returns the response that shows `error`.

    Args:
        request: the request that failed; None if it could not be read, and then the response is text.
        error: what to show.
        title: the title of the page; by default the reason of the error is the title.
        back: a link on the page, as URL and text; by default there are links to the directory above and to the top.
    """
    if request is None or not prefers_page(request):
        return error_response(error)
    reason = html.escape(error.reason[:1].upper() + error.reason[1:])
    links = [back] if back is not None else _links(request.raw_path)
    page = _PAGE.format(
        title=f"{error.status} {PHRASES.get(error.status, 'Error')}",
        icon=in_url(ICON),
        style=_STYLE,
        heading=html.escape(title) or reason,
        text=f"<p>{reason}.</p>\n" if title else "",
        links=" ".join(f'<a href="{url}">{text}</a>' for url, text in links),
    )
    closes = (("Connection", "close"),) if error.close else ()
    return Response(error.status, page.encode(), (*_HEADERS, *error.headers, *closes))


def _links(path: str) -> list[tuple[str, str]]:
    """The ways back from `path`, which is as it was sent: relative URLs with their texts."""
    if not path.startswith("/") or path == "/":
        return [("", "Try again")]
    depth = path.count("/") - 1  # directories below the top
    up = "../" if path.endswith("/") else "./"
    if depth == 0 or (depth == 1 and up == "../"):
        return [(up, "Back to the start page")]
    return [(up, "One level up"), ("../" * depth, "Back to the start page")]
