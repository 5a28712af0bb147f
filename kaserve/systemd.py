"""What a service manager is told: sd_notify(3), the socket of $NOTIFY_SOCKET, without systemd's library.

Knows the words of that protocol. Does not know servers, nor when there is anything to tell.
"""

from __future__ import annotations

import os
import socket
import time

__all__ = ["notify", "ready", "reloading", "stopping", "watchdog_interval"]

_PATIENCE = 1.0  # seconds for a manager that is slow to listen: without READY=1 it would end us


def notify(state: str) -> bool:
    """Tells `state`, lines such as "READY=1"; whether there was anybody to tell it to. Never raises: a manager that
    does not listen is no reason not to serve."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):  # "@" stands for the NUL of an abstract name
        return False
    address = os.fsencode(path)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_PATIENCE)
            sock.connect(b"\0" + address[1:] if path.startswith("@") else address)
            sock.sendall(state.encode())
    except OSError:
        return False
    return True


def ready(status: str = "") -> bool:
    """The service serves; `status` is one line for whoever asks how it does."""
    return notify(f"READY=1\nSTATUS={status}" if status else "READY=1")


def reloading() -> bool:
    """The service takes up its settings anew; `ready` follows."""
    return notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def stopping() -> bool:
    """The service is about to end."""
    return notify("STOPPING=1")


def watchdog_interval() -> float | None:
    """Seconds between two signs of life (`notify("WATCHDOG=1")`), half of what the manager asks for, as
    sd_watchdog_enabled(3) advises; None when it does not ask this process."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not (microseconds.isascii() and microseconds.isdigit()) or int(microseconds) == 0:
        return None
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 2e6
