"""The configurations of the server that are compared, and who uses the status page or the metrics meanwhile."""

import http.client
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOG = "access.log"
SCRAPE_SECONDS = 1.0
"""Between two requests for the metrics."""
SHOWN = {"status": "/status", "metrics": "/metrics"}

Samples = Mapping[str, Sequence[float]]
"""Figures of each configuration, in the order of the rounds."""


@contextmanager
def page_open(port: int) -> Iterator[None]:
    """The status page is open in a browser: its events are read as they arrive."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", SHOWN["status"] + "?events")
    response = connection.getresponse()
    assert response.status == 200, response.status
    sock = connection.sock
    reader = threading.Thread(target=_read_to_the_end, args=(response,), daemon=True)
    reader.start()
    try:
        yield
    finally:
        sock.shutdown(socket.SHUT_RDWR)
        reader.join()


def _read_to_the_end(response: http.client.HTTPResponse) -> None:
    try:
        while response.readline():
            pass
    except (OSError, http.client.HTTPException):  # it was shut down
        pass


@contextmanager
def scraped(port: int) -> Iterator[None]:
    """A scraper requests the metrics once a second."""
    enough = threading.Event()

    def scrape() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while not enough.is_set():
            connection.request("GET", SHOWN["metrics"])
            assert b"kaserve_requests_total" in connection.getresponse().read()
            enough.wait(SCRAPE_SECONDS)

    scraper = threading.Thread(target=scrape, daemon=True)
    scraper.start()
    try:
        yield
    finally:
        enough.set()
        scraper.join()


@dataclass(frozen=True)
class Configuration:
    """One configuration to run the server."""

    settings: Mapping[str, str] = field(default_factory=dict)
    """As in `Config`; the access log is off unless it has a format."""
    watched: Callable[[int], AbstractContextManager[None]] | None = None
    """Uses the status page or the metrics meanwhile, given the port; under load only."""
    tree: Path | None = None
    """Another checkout to import kaserve from."""


BASELINE = "nothing"
CONFIGURATIONS = {
    BASELINE: Configuration(),
    "common": Configuration({"log_format": "common", "access_log_file": LOG}),
    "common, stderr": Configuration({"log_format": "common"}),
    "combined": Configuration({"log_format": "combined", "access_log_file": LOG}),
    "json": Configuration({"log_format": "json", "access_log_file": LOG}),
    "page and metrics, not open": Configuration(SHOWN),
    "page open": Configuration(SHOWN, page_open),
    "metrics scraped": Configuration(SHOWN, scraped),
}


def settings(configuration: Configuration) -> dict[str, Any]:
    return {"access_log": "log_format" in configuration.settings, **configuration.settings}
