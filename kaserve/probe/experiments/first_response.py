"""What the first response of a server says: its version, its Date, what its Keep-Alive header announces."""

from __future__ import annotations

from dataclasses import dataclass

from ...http.dates import format_date, parse_date
from ...http.keep_alive import read_max, read_timeout
from ..finding import Finding
from ..settings import ProbeSettings

__all__ = ["Basics", "first_response"]


@dataclass(frozen=True)
class Basics(Finding):
    """One response.

    Attributes:
        status: its status.
        version: its version, such as "HTTP/1.1".
        server: its Server header.
        date: whether its Date is "present", "missing" or "malformed".
        timeout: seconds that its Keep-Alive header announces, or None.
        max: requests that its Keep-Alive header announces, or None.
    """

    status: int
    version: str
    server: str
    date: str
    timeout: int | None
    max: int | None

    @property
    def good(self) -> bool | None:
        return self.date == "present"

    def __str__(self) -> str:
        return f"{self.version}, status {self.status}, {self.server or 'no Server header'}"

    @property
    def announced(self) -> str:
        """The parameters of the Keep-Alive header that mean something, or "none"."""
        figures = {"timeout": self.timeout, "max": self.max}
        return ", ".join(f"{name}={value}" for name, value in figures.items() if value is not None) or "none"


def first_response(settings: ProbeSettings) -> Basics:
    """Sends one request.

    Raises:
        OSError: the target cannot be connected to.
        NoResponse: it does not respond.
    """
    with settings.open_connection() as connection:
        response = connection.exchange("GET", settings.get("Connection: keep-alive"))
    date = response.headers.get("date")
    keep_alive = response.headers.combined("keep-alive") or ""
    return Basics(
        status=response.status,
        version=f"HTTP/1.{response.head.minor}",
        server=response.headers.get("server") or "",
        date="missing" if date is None else "present" if _is_date(date) else "malformed",
        timeout=read_timeout(keep_alive),
        max=read_max(keep_alive),
    )


def _is_date(text: str) -> bool:
    """Returns whether `text` is an IMF-fixdate, the only one of three forms that may be sent (RFC 9110 §5.6.7)."""
    seconds = parse_date(text, 0.0)
    return seconds is not None and format_date(seconds) == text
