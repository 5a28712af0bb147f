"""Addresses of the two ends of a connection: `Address` for TCP, `UnixAddress` for Unix sockets.

Both have the same attributes, so that nothing that shows or compares addresses asks which of the two it has. Knows how
addresses look. Does not know sockets, but a socket can be connected to either.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["UNNAMED", "Address", "AnyAddress", "UnixAddress"]


class Address(NamedTuple):
    """One end of a TCP connection. It equals the plain tuple (host, port), and takes no more memory.

    Attributes:
        host: an IPv4 or IPv6 address as text, without brackets.
        port: 0 if it is unknown.
    """

    host: str
    port: int

    @property
    def label(self) -> str:
        """What logs and the live page show: the host."""
        return self.host


# The access log reads it for every response. A property would call a Python function for that; this is the getter of
# the field itself, which is compiled.
Address.label = Address.host  # type: ignore[method-assign, assignment]  # see above


class UnixAddress(str):
    """One end of a connection through a Unix socket: the path of the socket, "" if it has none.

    Attributes:
        host: always "".
        port: always 0.
        label: what logs and the live page show: always "unix". All clients of one socket have the same path, and it
            tells nothing about them.
    """

    __slots__ = ()

    host = ""
    port = 0
    label = "unix"


AnyAddress = Address | UnixAddress

# A Unix socket without a path, as a connected pair of sockets has it. Also what a request has that came through no
# connection, such as one made by a test.
UNNAMED = UnixAddress("")
