"""Opens the sockets that a server listens on: those of `--bind`, or those that a service manager hands over.

Knows which of the two it is, and how to name an address in an error message. Does not know what happens to connections.
"""

from __future__ import annotations

import errno
import os
import socket

from ..config import Config
from ..http.address import AnyAddress, UnixAddress
from ..net.listener import open_listeners, split_host_port

__all__ = ["AddressError", "open_sockets", "url_of"]

_FIRST_LISTEN_FD = 3  # SD_LISTEN_FDS_START
_MAX_LISTEN_FDS = 1024
_LOCAL = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # the address of this machine by wildcard address


class AddressError(OSError):
    """An address that the server cannot listen on. The text names it.

    Attributes:
        bind: the address, as in `Config.bind`.
        host: the host in it; "" for all addresses.
        port: the port; None for a Unix socket or a descriptor.
        is_unknown_host: whether there is no such host name.
    """

    bind = ""
    host = ""
    port: int | None = None
    is_unknown_host = False


def open_sockets(config: Config) -> list[socket.socket]:
    """Opens all listening sockets of the settings, or none of them.

    Sockets that a service manager hands over (socket activation) replace those of `bind`, once in a process.

    Raises:
        AddressError: an address is unavailable; the text names it.
        OSError: the variables of a service manager are wrong.
    """
    binds = [f"fd:{fd}" for fd in _inherited_sockets()] or config.bind
    sockets: list[socket.socket] = []
    try:
        for bind in binds:
            sockets += _open(bind, config)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _inherited_sockets() -> list[int]:
    """The descriptors of the listening sockets that a manager handed over (sd_listen_fds(3)); none in later calls.

    LISTEN_PID is the process that they are meant for. It is removed from the environment, so that neither a second
    server nor a child process uses the same sockets.
    Raises OSError if LISTEN_FDS is not a number of sockets.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    del os.environ["LISTEN_PID"]
    count = os.environ.get("LISTEN_FDS", "0")
    if not (count.isascii() and count.isdigit() and int(count) <= _MAX_LISTEN_FDS):
        raise OSError(errno.EINVAL, f"LISTEN_FDS must be a number of sockets, not {count!r}")
    return list(range(_FIRST_LISTEN_FD, _FIRST_LISTEN_FD + int(count)))


def _open(bind: str, config: Config) -> list[socket.socket]:
    """Raises AddressError."""
    is_unknown_host = False
    try:
        return open_listeners(
            bind, config.port, backlog=config.backlog, reuse_port=config.reuse_port, unix_mode=int(config.unix_mode, 8)
        )
    except OSError as error:
        is_unknown_host = isinstance(error, socket.gaierror)
        number, reason = error.errno or errno.EINVAL, error.strerror or str(error)
        reason = reason.partition(" (while")[0]  # socket.create_server() adds the address in words of its own
    except (ValueError, OverflowError) as error:  # a name, path or descriptor that cannot exist
        number, reason = errno.EINVAL, str(error)
    failure = AddressError(number, f"cannot listen on {_describe(bind, config.port)}: {reason}")
    failure.bind, failure.is_unknown_host = bind, is_unknown_host
    if not bind.startswith(("unix:", "fd:")):
        failure.host, failure.port = split_host_port(bind, config.port)
    raise failure


def _describe(bind: str, port: int) -> str:
    """`bind` as an error message shows it, with its port."""
    if bind.startswith(("unix:", "fd:")):
        return bind
    host, port = split_host_port(bind, port)
    return f"[{host}]:{port}" if ":" in host else f"{host or '*'}:{port}"


def url_of(address: AnyAddress | None, scheme: str) -> str:
    """Returns the URL at which a client on this machine reaches `address`; "" for None.

    A wildcard address becomes the loopback address, since no client can connect to a wildcard.
    """
    if isinstance(address, UnixAddress):
        return f"unix:{address}"
    if address is None:
        return ""
    host, port = address
    host = _LOCAL.get(host, host).replace("%", "%25")  # a zone in a URL: RFC 6874
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/"
