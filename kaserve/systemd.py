"""Messages to systemd and other service managers, without systemd's library.

Knows sd_notify(3), which sends text to the socket of $NOTIFY_SOCKET. Does not know servers, nor when a message is due.
"""

from __future__ import annotations

import os
import socket
import time

__all__ = ["notify", "ready", "reloading", "stopping", "watchdog_interval"]

# Seconds for a manager that is slow to read. The server blocks meanwhile, but a READY=1 that is lost would have the
# manager end the service.
_NOTIFY_TIMEOUT = 1.0


def notify(state: str) -> bool:
    """Sends `state` to the service manager. Never raises: a server can serve without its manager.

    Args:
        state: lines such as "READY=1".

    Returns:
        True if the manager received it; False if there is none, or it does not read.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):  # "@" stands for the NUL byte of an abstract name
        return False
    address = os.fsencode(path)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_NOTIFY_TIMEOUT)
            sock.connect(b"\0" + address[1:] if path.startswith("@") else address)
            sock.sendall(state.encode())
    except OSError:
        return False
    return True


def ready(status: str = "") -> bool:
    """Says that the service is ready. `status` is one line for `systemctl status`. Returns as `notify` does."""
    return notify(f"READY=1\nSTATUS={status}" if status else "READY=1")


def reloading() -> bool:
    """Says that the service reloads its settings; `ready` must follow. Returns as `notify` does."""
    return notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def stopping() -> bool:
    """Says that the service is shutting down. Returns as `notify` does."""
    return notify("STOPPING=1")


def watchdog_interval() -> float | None:
    """Returns the seconds between two `notify("WATCHDOG=1")`, or None if the manager does not watch this process.

    It is half of the manager's limit, as sd_watchdog_enabled(3) recommends.
    """
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not (microseconds.isascii() and microseconds.isdigit()) or int(microseconds) == 0:
        return None
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 2e6
