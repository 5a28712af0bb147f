"""What a browser is shown when a form could not be stored: what went wrong, and a way back.

Knows HTML, and which clients want it. Does not know why something could not be stored.
"""

from __future__ import annotations

import html

from ...http.errors import PHRASES, HTTPError
from ...http.messages import Request, Response, error_response
from ...http.negotiation import media_type_weight, parse_accept
from ..html_page import HEAD, content_security_policy

__all__ = ["respond_to_failed_form"]

_PAGE = (
    HEAD
    + """\
</head>
<body>
<h1>Not everything was stored</h1>
<p>{reason}.</p>
<p><a href="">Back to the directory</a></p>
</body>
</html>
"""
)
_CONTENT_SECURITY_POLICY = content_security_policy()


def respond_to_failed_form(request: Request, error: HTTPError) -> Response:
    """Returns `error` as a page for a client that likes HTML better than plain text, as browsers do; else as a line."""
    accepted = parse_accept(", ".join(request.values("accept")))
    if media_type_weight(accepted, "text/html") <= media_type_weight(accepted, "text/plain"):
        return error_response(error)
    reason = error.reason[:1].upper() + error.reason[1:]
    title = f"{error.status} {PHRASES.get(error.status, 'Error')}"
    page = _PAGE.format(title=title, reason=html.escape(reason))
    headers = (
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Security-Policy", _CONTENT_SECURITY_POLICY),
        *error.headers,
    )
    return Response(error.status, page.encode(), headers)
