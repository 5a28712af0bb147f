"""What a browser is shown when a form could not be stored: what went wrong, and a way back.

Knows HTML, and which clients want it. Does not know why something could not be stored.
"""

from __future__ import annotations

import html

from ...http.errors import PHRASES, HTTPError
from ...http.messages import Request, Response, error_response
from ...http.negotiation import media_type_weight, parse_accept

__all__ = ["respond_to_failed_form"]

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{status} {phrase}</title>
<link rel="icon" href="data:,">
</head>
<body>
<h1>Not everything was stored</h1>
<p>{reason}.</p>
<p><a href="">Back to the directory</a></p>
</body>
</html>
"""
_CONTENT_SECURITY_POLICY = "default-src 'none'; img-src data:; base-uri 'none'; frame-ancestors 'self'"


def respond_to_failed_form(request: Request, error: HTTPError) -> Response:
    """Returns `error` as a page for a client that likes HTML better than plain text, as browsers do; else as a line."""
    accepted = parse_accept(", ".join(request.values("accept")))
    if media_type_weight(accepted, "text/html") <= media_type_weight(accepted, "text/plain"):
        return error_response(error)
    reason = error.reason[:1].upper() + error.reason[1:]
    page = _PAGE.format(status=error.status, phrase=PHRASES.get(error.status, "Error"), reason=html.escape(reason))
    headers = (
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Security-Policy", _CONTENT_SECURITY_POLICY),
        *error.headers,
    )
    return Response(error.status, page.encode(), headers)
