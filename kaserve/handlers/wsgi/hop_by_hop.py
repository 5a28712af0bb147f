"""HopByHopFilter: drops the headers of a WSGI application that only the server may set.

Knows which headers these are (RFC 9110 §7.6.1), and what was logged about them. Does not know when a response begins.

PEP 3333 forbids applications to set them ("Other HTTP Features"), but many do: recipes for event streams have
`Connection: keep-alive`, and views pass on the headers of another server's response. The server decides how a message
is framed and whether the connection persists, whatever they say, so the response can be sent without them.
"""

from __future__ import annotations

import logging
from threading import Lock

from ...http.framing import strip_hop_by_hop
from ...http.headers import CLOSE, FieldLine
from ...http.wire import encode_head

__all__ = ["HopByHopFilter"]

log = logging.getLogger("kaserve")

_CLOSE = ("Connection", "close")
_MAX_LOGGED = 64  # names; a Connection header may name anything


class HopByHopFilter:
    """Drops hop-by-hop headers, and logs the name of each once. Several threads may call it at once."""

    __slots__ = ("_lock", "_logged")

    def __init__(self) -> None:
        self._lock = Lock()
        self._logged: set[str] = set()

    def drop(self, fields: list[FieldLine]) -> list[FieldLine]:
        """Returns `fields` without hop-by-hop headers and those that Connection names.

        `Connection: close` remains, as the wish to close the connection after the response.

        Raises:
            TypeError, ValueError: one of the fields could not be sent, whether it is dropped or not.
        """
        flags = encode_head(fields)[1]
        kept = [line for line in strip_hop_by_hop(fields) if line[0].lower() != "connection"]
        dropped = [name for name, value in fields if (name, value) not in kept]
        if flags & CLOSE:
            kept.append(_CLOSE)
            dropped = [name for name in dropped if name.lower() != "connection"]
        self._log(dropped)
        return kept

    def _log(self, names: list[str]) -> None:
        """Logs those of `names` that were not logged before. Applications set the same headers in each response, and
        nothing is wrong with their responses."""
        with self._lock:
            new = [name for name in names if name.lower() not in self._logged]
            if not new or len(self._logged) >= _MAX_LOGGED:
                return
            self._logged.update(name.lower() for name in new)
        log.warning(
            "the application sets hop-by-hop headers, which PEP 3333 leaves to the server; they are dropped: %s "
            "(logged once)",
            ", ".join(new),
        )
