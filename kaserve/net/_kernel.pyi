"""To a type checker the compiled system calls are what the standard library has."""

import socket

from .plain import PlainSocket
from .poller import Poller

def Socket(sock: socket.socket) -> PlainSocket: ...
def Epoll() -> Poller: ...
