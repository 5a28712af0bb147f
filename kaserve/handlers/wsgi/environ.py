"""The WSGI environ: a request in the terms of PEP 3333 and of CGI (RFC 3875).

Knows the names of both, and which header fields an application must never see: those that are meant for this hop alone,
and those that it could not tell from others. Does not call applications.

Texts are "native strings" (PEP 3333, "Unicode Issues"): str in which each character is one byte, decoded as Latin-1.
"""

from __future__ import annotations

import io
import sys
from typing import Any, BinaryIO, NoReturn
from urllib.parse import unquote_to_bytes

from ...http.address import AnyAddress
from ...http.headers import CONTENT_LENGTH, TRANSFER_ENCODING
from ...http.memo import remember
from ...http.messages import Request

__all__ = ["Environ", "EnvironBuilder"]

Environ = dict[str, Any]

# Environ keys of field names. "" means that applications do not see the field: the fields of one hop (RFC 9110 §7.6.1)
# are the server's own, and it has acted on them already. Content-Type and Content-Length have no HTTP_ (RFC 3875
# §4.1.2, §4.1.3).
_ONE_HOP = "connection keep-alive proxy-connection te trailer transfer-encoding upgrade"
_STANDARD_KEYS: dict[str, str] = dict.fromkeys(_ONE_HOP.split(), "") | {
    "content-length": "CONTENT_LENGTH",
    "content-type": "CONTENT_TYPE",
}
_MAX_KEYS = 1024  # field names that clients have invented; see `_header_key`
_MAX_TEMPLATES = 1024  # about 1 KiB each

# What nearly every Connection field says: options that are not the name of a field, or of one that no application sees
# anyway. They are worth a look-up, since the field comes with most requests.
_PLAIN_OPTIONS = frozenset(("keep-alive", "Keep-Alive", "close", "Close", "Upgrade", "upgrade"))
# Connection must not name a field that every hop needs (RFC 9110 §7.6.1), so an option "host" does not remove Host.
_NEVER_REMOVED = frozenset(("HTTP_HOST", ""))

_DEFAULT_PORTS = {"http": "80", "https": "443"}


class _EmptyInput(io.BytesIO):
    """The body of requests that have none. All of them share it, so it can neither be closed nor written to."""

    def close(self) -> None:
        pass

    def write(self, data: object) -> NoReturn:
        raise io.UnsupportedOperation("wsgi.input is not writable")

    def writelines(self, lines: object) -> NoReturn:
        raise io.UnsupportedOperation("wsgi.input is not writable")


_EMPTY_INPUT = _EmptyInput()


class EnvironBuilder:
    """Builds the environ of each request: a copy of what is the same for all requests, and the request's own part.

    Several threads may call `build` at once.

    Args:
        common: what every environ of this application holds, such as `wsgi.multithread`.
    """

    __slots__ = ("_common", "_header_keys", "_templates")

    def __init__(self, common: Environ) -> None:
        self._common: Environ = {
            "SCRIPT_NAME": "",
            "SERVER_SOFTWARE": "kaserve",
            "wsgi.version": (1, 0),
            "wsgi.errors": sys.stderr,
            # Reading stops at the end of the body, whether or not CONTENT_LENGTH is set. Not in PEP 3333: an extension
            # that mod_wsgi, gunicorn and Werkzeug agree on.
            "wsgi.input_terminated": True,
            "wsgi.run_once": False,
        } | common
        # What is the same for all requests of one connection, by the address of its client, together with the address
        # of the server and the scheme that it is for. A bounded memo (`http.memo`): connections take turns, so that to
        # remember the last one would not do. A template has all keys but those of header fields, so that a copy of it
        # need not grow its table.
        self._templates: dict[AnyAddress, tuple[AnyAddress, str, Environ]] = {}
        self._header_keys = dict(_STANDARD_KEYS)

    def build(self, request: Request) -> Environ:
        """The environ of `request`: a new dict that the application may change.

        Args:
            request: the request, whose body has been received.
        """
        environ = self._base(request)
        self._add_headers(environ, request)
        _add_input(environ, request)
        return environ

    def _base(self, request: Request) -> Environ:
        """The environ without header fields and body."""
        known = self._templates.get(request.client)
        if known is None:
            template = self._new_template(request)
        else:
            server, scheme, template = known
            if (request.server is not server and request.server != server) or request.scheme != scheme:
                template = self._new_template(request)
        environ = template.copy()
        raw_path = request.raw_path
        environ["REQUEST_METHOD"] = request.method
        if raw_path == "*":
            # OPTIONS of the server as a whole (RFC 9112 §3.2.4). That is not a path, and PATH_INFO is either empty or
            # starts with "/" (RFC 3875 §4.1.5).
            environ["PATH_INFO"] = ""
        else:
            environ["PATH_INFO"] = _decode(raw_path) if "%" in raw_path else raw_path
        if request.query_string:
            environ["QUERY_STRING"] = request.query_string
        if request.minor == 0:
            environ["SERVER_PROTOCOL"] = "HTTP/1.0"  # the version of the request (RFC 3875 §4.1.16)
        # The target as sent. Two names for it, since neither PEP 3333 nor CGI has one: uWSGI's and gunicorn's.
        environ["REQUEST_URI"] = environ["RAW_URI"] = request.target
        if request.mount:
            # `Mount` has taken this off the front of raw_path: the two together are the path (PEP 3333, "URL
            # Reconstruction"; RFC 3875 §4.1.13).
            environ["SCRIPT_NAME"] = _decode(request.mount)
        if request.remote_user != "":
            # RFC 3875 §4.1.11. A client cannot set it: a header Remote-User becomes HTTP_REMOTE_USER. No AUTH_TYPE goes
            # with it, since a middleware may know the user by other means than HTTP authentication.
            environ["REMOTE_USER"] = request.remote_user
        return environ

    def _new_template(self, request: Request) -> Environ:
        """What is the same for all requests of the connection of `request`; remembered for the next one."""
        client, server, scheme = request.client, request.server, request.scheme
        if server.host:
            host, port = server.host, str(server.port)
        else:
            # A Unix socket has neither name nor port, and PEP 3333 wants both to be non-empty. The client's own word
            # for them is Host, which may differ in each request; that is why this case is not remembered.
            host, colon, port = request.authority.rpartition(":")
            if not colon or port.endswith("]"):  # no port, or the end of an IPv6 address
                host, port = request.authority, ""
        template = self._common | {
            "wsgi.url_scheme": scheme,
            "SERVER_NAME": host or "localhost",
            "SERVER_PORT": port or _DEFAULT_PORTS[scheme],
            "REQUEST_METHOD": "",
            "PATH_INFO": "",
            "QUERY_STRING": "",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REQUEST_URI": "",
            "RAW_URI": "",
            # No name is looked up, which would take long: the address stands for it (RFC 3875 §4.1.9). The client of a
            # Unix socket has none of the three.
            "REMOTE_ADDR": client.host,
            "REMOTE_HOST": client.host,
            "REMOTE_PORT": str(client.port) if client.host else "",
            "wsgi.input": _EMPTY_INPUT,
        }
        if scheme == "https":
            template["HTTPS"] = "on"  # as Apache sets it (PEP 3333, "environ Variables")
        if server.host:
            remember(self._templates, client, (server, scheme, template), _MAX_TEMPLATES)
        return template

    def _add_headers(self, environ: Environ, request: Request) -> None:
        """Adds the header fields as HTTP_* (RFC 3875 §4.1.18), except those that are not for applications."""
        keys = self._header_keys
        named = None  # the options of Connection that may be names of fields
        for name, value in request.fields:
            key = keys.get(name)
            if key is None:
                key = self._header_key(name)
            if key == "":
                if name == "connection" and value not in _PLAIN_OPTIONS:
                    named = value if named is None else f"{named},{value}"
            elif key in environ:
                # Several lines of one field are one list (RFC 9110 §5.3), but cookies are joined with ";" (RFC 9113
                # §8.2.3): Cookie is not a list, and a comma would become part of a value.
                environ[key] += ("; " if key == "HTTP_COOKIE" else ",") + value
            else:
                environ[key] = value
        if named is not None:
            _remove_named(environ, named)
        if request.authority:  # an absolute-form target overrules Host (RFC 9112 §3.2.2)
            environ["HTTP_HOST"] = request.authority

    def _header_key(self, name: str) -> str:
        """The environ key of a field name that is not in `_header_keys` yet.

        "" for a name with an underscore: in the environ it could not be told from the same name with a hyphen, so a
        client could send X_User where a proxy removes X-User from what clients send.
        """
        key = "" if "_" in name else "HTTP_" + name.upper().replace("-", "_")
        # A bounded memo (`http.memo`), but it is replaced rather than cleared: another thread may be reading it, and it
        # must never be without the standard names.
        if len(self._header_keys) >= _MAX_KEYS:
            self._header_keys = dict(_STANDARD_KEYS)
        self._header_keys[name] = key
        return key


def _add_input(environ: Environ, request: Request) -> None:
    """Adds the body, if the request has one, and its length."""
    if request.flags & (CONTENT_LENGTH | TRANSFER_ENCODING):
        environ["wsgi.input"] = body = request.body
        if request.flags & TRANSFER_ENCODING:
            # A chunked body has been decoded and received to its end, so that it has a length like any other (RFC 9112
            # §7.1.3). Applications that know nothing of chunks read it by CONTENT_LENGTH (RFC 3875 §4.1.2).
            environ["CONTENT_LENGTH"] = str(_size(body))


def _decode(raw_path: str) -> str:
    """`raw_path` percent-decoded, each byte a character."""
    return unquote_to_bytes(raw_path).decode("latin-1")


def _remove_named(environ: Environ, options: str) -> None:
    """Removes the fields that Connection names: they are meant for the next hop, which ends here (RFC 9110 §7.6.1)."""
    for option in options.split(","):
        key = "HTTP_" + option.strip(" \t").upper().replace("-", "_")
        if key not in _NEVER_REMOVED:
            environ.pop(key, None)


def _size(body: BinaryIO) -> int:
    """The size of `body` in bytes; leaves it at its start."""
    size = body.seek(0, io.SEEK_END)
    body.seek(0)
    return size
