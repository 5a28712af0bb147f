"""To a type checker the compiled system calls are what the standard library has."""

import socket

from .poller import Poller
from .sockets import PlainSocket

def Socket(sock: socket.socket) -> PlainSocket: ...
def Epoll() -> Poller: ...
