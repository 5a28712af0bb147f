"""The opening handshake of a WebSocket (RFC 6455 §4.2).

Knows what a request must say, and what the 101 says. Does not know applications: which subprotocol is spoken is their
decision, and so is the Origin.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.server import ServerProtocol
from websockets.utils import accept_key

from ...http.errors import HTTPError
from ...http.headers import TRANSFER_ENCODING, FieldLine
from ...http.messages import Request

__all__ = ["Negotiator", "accept_headers", "check_request", "offered_subprotocols"]

_VERSION = "13"
_KEY_SIZE = 16  # bytes


def check_request(request: Request) -> None:
    """Checks a GET request that asks for an upgrade to WebSocket.

    Raises:
        HTTPError: 426 for another version of the protocol, which names ours (RFC 6455 §4.4), or 400.
    """
    versions = request.values("sec-websocket-version")
    if versions != [_VERSION]:
        raise HTTPError(
            426,
            f"this server speaks version {_VERSION} of WebSocket",
            {"Sec-WebSocket-Version": _VERSION, "Upgrade": "websocket"},
        )
    keys = request.values("sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        raise HTTPError(400, "Sec-WebSocket-Key must be one value of 16 bytes in base64")
    if request.content_length or request.flags & TRANSFER_ENCODING:
        raise HTTPError(400, "a request for a WebSocket must have no body")


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text.encode("latin-1"), validate=True)) == _KEY_SIZE
    except (binascii.Error, ValueError):
        return False


def offered_subprotocols(request: Request) -> list[str]:
    """Returns the subprotocols that the client names, in its order of preference (RFC 6455 §11.3.4)."""
    members = (member.strip(" \t") for line in request.values("sec-websocket-protocol") for member in line.split(","))
    return [member for member in members if member]


class Negotiator:
    """Agrees with clients on the extension permessage-deflate (RFC 7692).

    Both sides forget what they have compressed after each message. With a context that is kept, a message may be
    smaller if it resembles the last ones; but then an idle WebSocket would have 40 KiB of windows.
    """

    def __init__(self, *, deflate: bool) -> None:
        factory = ServerPerMessageDeflateFactory(
            server_no_context_takeover=True,
            client_no_context_takeover=True,
            server_max_window_bits=12,
            client_max_window_bits=12,
            compress_settings={"memLevel": 5},
        )
        self._protocol = ServerProtocol(extensions=[factory] if deflate else [])

    def extensions(self, request: Request) -> tuple[list[FieldLine], Sequence[Extension]]:
        """Returns the header that says which extensions are spoken, if any, and those.

        Raises:
            HTTPError: 400, the client's header is malformed.
        """
        offers = Headers([("Sec-WebSocket-Extensions", value) for value in request.values("sec-websocket-extensions")])
        try:
            chosen, extensions = self._protocol.process_extensions(offers)
        except InvalidHandshake as error:
            raise HTTPError(400, "Sec-WebSocket-Extensions is malformed") from error
        return ([] if chosen is None else [("Sec-WebSocket-Extensions", chosen)]), extensions


def accept_headers(request: Request, subprotocol: str | None) -> list[FieldLine]:
    """Returns the headers of a 101 that agree to the request, beside those of extensions."""
    lines = [("Sec-WebSocket-Accept", accept_key(request.values("sec-websocket-key")[0]))]
    if subprotocol is not None:
        lines.append(("Sec-WebSocket-Protocol", subprotocol))
    return lines
