"""What a browser is shown when a form could not be stored: what went wrong, and a way back to the directory.

Knows what the page says. Does not know how it looks (`http.error_page`), nor why something could not be stored.
"""

from __future__ import annotations

from ...http.error_page import respond_with_error
from ...http.errors import HTTPError
from ...http.messages import Request, Response

__all__ = ["respond_to_failed_form"]


def respond_to_failed_form(request: Request, error: HTTPError) -> Response:
    """Returns `error` as a page for a client that likes HTML better than plain text, as browsers do; else as a line."""
    # The form is sent to the URL of the directory.
    return respond_with_error(request, error, title="Not everything was stored", back=("", "Back to the directory"))
