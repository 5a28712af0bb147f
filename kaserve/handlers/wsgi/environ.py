"""The environ of WSGI: a request as PEP 3333 and CGI (RFC 3875) have it.

Knows the names of both, and what an application must never be shown: fields of one hop, and fields that it could not
tell from others. Does not call applications.

Texts are "native strings": str that hold Latin-1, one character for each byte.
"""

from __future__ import annotations

import io
import sys
from typing import Any, BinaryIO, NoReturn
from urllib.parse import unquote_to_bytes

from ...http.messages import CONTENT_LENGTH, TRANSFER_ENCODING, Address, Request

__all__ = ["Environ", "EnvironMaker"]

Environ = dict[str, Any]

# Field names as keys. Fields of one hop (RFC 9110 §7.6.1) are the server's. "" is no key.
_NEVER = "connection keep-alive proxy-connection te trailer transfer-encoding upgrade"
_KEYS: dict[str, str] = dict.fromkeys(_NEVER.split(), "") | {
    "content-length": "CONTENT_LENGTH",
    "content-type": "CONTENT_TYPE",
}
_MAX_KEYS = 1024  # of names that clients have thought of; a full memory starts anew

# What nearly every Connection field says: options that name no field, or one that no application sees anyway.
_PLAIN_OPTIONS = frozenset(("keep-alive", "Keep-Alive", "close", "Close", "Upgrade", "upgrade"))
_NEVER_NAMED = frozenset(("HTTP_HOST", ""))

_DEFAULT_PORTS = {"http": "80", "https": "443"}


class _Nothing(io.BytesIO):
    """The body of requests without one: shared by all of them, so nobody closes it or leaves anything in it."""

    def close(self) -> None:
        pass

    def write(self, data: object) -> NoReturn:
        raise io.UnsupportedOperation("the body of a request is not written to")

    def writelines(self, lines: object) -> NoReturn:
        raise io.UnsupportedOperation("the body of a request is not written to")


_NOTHING = _Nothing()


class EnvironMaker:
    """Makes an environ of each request: a copy of what is the same for all, and the rest of the request.

    May be called from several threads at once.
    """

    __slots__ = ("_common", "_ends", "_keys")

    def __init__(self, common: Environ) -> None:
        """common: what every environ of the application holds."""
        self._common: Environ = {
            "SCRIPT_NAME": "",
            "wsgi.version": (1, 0),
            "wsgi.errors": sys.stderr,
            "wsgi.input_terminated": True,  # reading stops at the end of the body, whether its length is told or not
            "wsgi.run_once": False,
        } | common
        # Requests that follow each other mostly come to the same address: that of the last one, and its environ so far.
        # That has all keys but those of fields, so that a copy of it need not grow.
        self._ends: tuple[Address, str, Environ] = (None, "", self._common)
        self._keys = dict(_KEYS)

    def make(self, request: Request) -> Environ:
        """The environ of `request`, which is the application's to change."""
        server, scheme, common = self._ends
        if (request.server is not server and request.server != server) or request.scheme != scheme:
            common = self._meet(request)
        environ = common.copy()
        raw_path = request.raw_path
        environ["REQUEST_METHOD"] = request.method
        environ["PATH_INFO"] = _decode(raw_path) if "%" in raw_path else raw_path
        environ["QUERY_STRING"] = request.query
        if request.minor == 0:
            environ["SERVER_PROTOCOL"] = "HTTP/1.0"
        environ["REQUEST_URI"] = environ["RAW_URI"] = request.target
        client = request.client
        if isinstance(client, tuple):
            environ["REMOTE_ADDR"] = client[0]
            environ["REMOTE_PORT"] = str(client[1])
        if request.mount:
            environ["SCRIPT_NAME"] = _decode(request.mount)
        if raw_path == "*":  # of the server as a whole, which is no path
            environ["PATH_INFO"] = ""

        keys = self._keys
        named = None
        for name, value in request.fields:
            key = keys.get(name)
            if key is None:
                key = self._key(name)
            if key == "":
                if name == "connection" and value not in _PLAIN_OPTIONS:
                    named = value if named is None else f"{named},{value}"
            elif key in environ:
                environ[key] += ("; " if key == "HTTP_COOKIE" else ",") + value  # RFC 9110 §5.3, RFC 9113 §8.2.3
            else:
                environ[key] = value
        if named is not None:
            _remove_named(environ, named)
        if request.authority:  # of an absolute-form target before that of Host (RFC 9112 §3.2.2)
            environ["HTTP_HOST"] = request.authority

        if request.flags & (CONTENT_LENGTH | TRANSFER_ENCODING):
            environ["wsgi.input"] = body = request.body
            if request.flags & TRANSFER_ENCODING:  # decoded, it has a length like any other (RFC 9112 §7.1.3)
                environ["CONTENT_LENGTH"] = str(_size(body))
        return environ

    def _meet(self, request: Request) -> Environ:
        """What is the same for the requests that come where `request` does. A Unix socket has neither name nor port:
        then both are what the client calls them."""
        server, scheme = request.server, request.scheme
        if isinstance(server, tuple):
            host, port = server[0], str(server[1])
        else:
            host, colon, port = request.authority.rpartition(":")
            if not colon or port.endswith("]"):  # no port, or the end of an IPv6 address
                host, port = request.authority, ""
        common = self._common | {
            "wsgi.url_scheme": scheme,
            "SERVER_NAME": host or "localhost",
            "SERVER_PORT": port or _DEFAULT_PORTS[scheme],
            "REQUEST_METHOD": "",
            "PATH_INFO": "",
            "QUERY_STRING": "",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REQUEST_URI": "",
            "RAW_URI": "",
            "REMOTE_ADDR": "",
            "REMOTE_PORT": "",
            "wsgi.input": _NOTHING,
        }
        if scheme == "https":
            common["HTTPS"] = "on"
        if isinstance(server, tuple):
            self._ends = (server, scheme, common)
        return common

    def _key(self, name: str) -> str:
        """The key of a field name; "" for a name with an underscore, which could not be told from one with a hyphen:
        a proxy that removes X-User from what clients send lets X_User pass."""
        key = "" if "_" in name else "HTTP_" + name.upper().replace("-", "_")
        if len(self._keys) >= _MAX_KEYS:
            self._keys = dict(_KEYS)
        self._keys[name] = key
        return key


def _decode(raw_path: str) -> str:
    """Percent-decoded, each byte a character."""
    return unquote_to_bytes(raw_path).decode("latin-1")


def _remove_named(environ: Environ, options: str) -> None:
    """Fields that Connection names are meant for the next hop, which is here (RFC 9110 §7.6.1)."""
    for option in options.split(","):
        key = "HTTP_" + option.strip(" \t").upper().replace("-", "_")
        if key not in _NEVER_NAMED:
            environ.pop(key, None)


def _size(body: BinaryIO) -> int:
    size = body.seek(0, io.SEEK_END)
    body.seek(0)
    return size
