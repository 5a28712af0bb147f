"""Server: listens, accepts, drains; in the main thread, in a thread of its own, or in somebody else's loop.

Knows how the parts are put together and how their life begins and ends. Does not know HTTP, nor what its handler does.
"""

from __future__ import annotations

import enum
import errno
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType

from .accesslog import AccessLog
from .config import Config
from .http.messages import Address
from .net.connection import Connection, Handler, Service
from .net.listener import Listener, open_listener, split_host_port
from .net.plain import adopt
from .net.reactor import Reactor
from .net.stats import Stats
from .net.timerwheel import Timer
from .net.tls import TLS

__all__ = ["Server"]

log = logging.getLogger("kaserve")

# Descriptors that are not for connections: files being sent, the selector, the listeners, what the application opens.
_RESERVED_DESCRIPTORS = 64
_LISTEN_FDS_START = 3  # sd_listen_fds(3)
_BRIEF = 3.0  # seconds for the running requests after Ctrl-C: somebody is waiting at a terminal


class State(enum.Enum):
    """The life of a server; it goes through these in this order."""

    NEW = "new"
    SERVING = "serving"
    DRAINING = "draining"
    CLOSED = "closed"


class Server:
    """Serves `handler` with the settings of `config`.

    Three ways to run it:
    `run()` serves until a signal or `shutdown()`; in the main thread it takes care of SIGTERM, SIGINT and SIGHUP.
    `with server:` serves in a background thread; the block begins when it listens, and leaving it stops the
    server as a first Ctrl-C does.
    `fileno()`, `timeout()` and `step()` let another loop do the waiting, after `open()`.

    Each of them raises OSError in the caller when an address cannot be listened on.
    """

    def __init__(
        self,
        handler: Handler,
        config: Config | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """clock: monotonic seconds; wall: seconds since the epoch; both are injected by tests.

        Raises OSError when a certificate of the settings cannot be used.
        """
        self.config = config or Config()
        self._tls = _new_tls(self.config)
        self._state = State.NEW
        self._reactor = Reactor(clock, wall)
        self._listeners: list[Listener] = []
        self._thread: threading.Thread | None = None
        self._drain_timer: _DrainTimer | None = None
        self._interrupts = 0
        access_log = None
        if self.config.access_log:
            access_log = AccessLog(_write_stderr, combined=self.config.log_format == "combined", wall=wall)
            self._reactor.after_turn.append(access_log.flush)
        self._access_log = access_log
        self._service = Service(
            self._reactor,
            handler,
            limits=self.config.limits,
            keep_alive=self.config.new_keep_alive(),
            deadlines=self.config.deadlines,
            access_log=access_log,
            scheme="http" if self._tls is None else "https",
        )
        self._service.on_close = self._connection_closed
        possible = _most_connections()
        self._most_connections = min(self.config.max_connections or possible, possible)

    # What it is and does.

    @property
    def address(self) -> Address:
        """(host, port) of the first address listened on, or the path of a Unix socket."""
        return self._listeners[0].address if self._listeners else None

    @property
    def addresses(self) -> list[Address]:
        return [listener.address for listener in self._listeners]

    @property
    def url(self) -> str:
        """Where a client on this machine finds the server."""
        return self.url_of(self.address)

    def url_of(self, address: Address) -> str:
        """The URL of `address`, one of `addresses`; a wildcard address is shown as this machine's own."""
        if isinstance(address, str):
            return f"unix:{address}"
        if address is None:
            return ""
        host, port = address
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        return f"{self._service.scheme}://{f'[{host}]' if ':' in host else host}:{port}/"

    @property
    def stats(self) -> Stats:
        return self._service.stats

    @property
    def open_connections(self) -> int:
        return len(self._service.connections)

    @property
    def keep_alive(self) -> bool:
        """Whether answers invite another request. May be switched off and on at any time, from any thread: an answer
        that is given while it is off says `Connection: close`."""
        return self._service.keep_alive.enabled

    @keep_alive.setter
    def keep_alive(self, enabled: bool) -> None:
        if self._state is not State.DRAINING:
            self._service.keep_alive.enabled = enabled and self.config.keep_alive > 0

    # Life.

    def open(self) -> None:
        """Listens. Raises OSError, with nothing left open, when an address cannot be had."""
        if self._state is not State.NEW:
            raise RuntimeError("a server is started once")
        sockets: list[socket.socket] = []
        try:
            for bind in _inherited() or self.config.bind:
                sockets.append(_open(bind, self.config))
        except BaseException:
            for sock in sockets:
                sock.close()
            self.close()
            raise
        self._listeners = [Listener(self._reactor, sock, self._accept, self._room) for sock in sockets]
        self._state = State.SERVING

    def run(self) -> None:
        """Serves until SIGTERM (drains), SIGINT (drains briefly; a second one aborts), or `shutdown`."""
        if self._state in (State.NEW, State.CLOSED):
            self.open()
        restore = self._take_signals()
        try:
            self._reactor.run()
        finally:
            for number, handler in restore.items():
                signal.signal(number, handler)
            self.close()

    def __enter__(self) -> Server:
        self.open()
        self._thread = threading.Thread(target=self._reactor.run, name=f"kaserve {self.url}", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown(min(_BRIEF, self.config.graceful_timeout))
        if self._thread is not None:
            self._thread.join()
        self.close()

    def fileno(self) -> int:
        """A descriptor that is readable when `step` has something to do."""
        return self._reactor.fileno()

    def timeout(self) -> float | None:
        """Seconds after which `step` must be called at the latest; None for no such time."""
        return self._reactor.timeout()

    def step(self, timeout: float | None = 0.0) -> None:
        """Does what is due, having waited for it at most `timeout` seconds."""
        self._reactor.step(timeout)

    def call(self, function: Callable[[], object]) -> None:
        """Has `function` called in the server's thread, soon. From any thread."""
        self._reactor.call(function)

    def shutdown(self, timeout: float | None = None) -> None:
        """Stops: takes no more connections, lets the running requests finish, aborts them after `timeout` seconds
        (None: the setting `graceful_timeout`). From any thread, signal handler or request handler; returns at once."""
        if self._state is not State.CLOSED:
            self._reactor.call(lambda: self._drain(self.config.graceful_timeout if timeout is None else timeout))

    def reload(self) -> None:
        """Has new connections use the certificates that are in the files by now, and leaves the open ones alone. When
        they cannot be used, the old ones stay, and the log says why. From any thread or signal handler."""
        if self._state is not State.CLOSED:
            self._reactor.call(self._reload)

    def close(self) -> None:
        """Gives everything back, at once. The server must not be running any more."""
        if self._state is State.CLOSED:
            return
        self._state = State.CLOSED
        for listener in self._listeners:
            listener.close()
        for connection in list(self._service.connections):
            connection.abort()
        if self._access_log is not None:
            self._access_log.flush()
        self._reactor.close()

    # In the reactor's thread.

    def _accept(self, sock: socket.socket, client: Address, server: Address) -> None:
        Connection(self._service, adopt(sock) if self._tls is None else self._tls.wrap(sock), client, server)

    def _reload(self) -> None:
        if self._tls is None:
            return
        try:
            self._tls.reload()
        except OSError as error:
            log.error("the certificates stay as they are: %s", error.strerror or error)
        else:
            log.info("the certificates were read again")

    def _room(self) -> int:
        return self._most_connections - len(self._service.connections)

    def _connection_closed(self) -> None:
        if self._state is State.DRAINING:
            if not self._service.connections:
                self._reactor.stop()
        elif self._state is State.SERVING and self._room() == 1:  # there was none before
            for listener in self._listeners:
                listener.resume()

    def _drain(self, timeout: float) -> None:
        """Row 10: every answer from now on is a connection's last one, and idle connections close."""
        deadline = self._reactor.now + timeout
        if self._state is State.SERVING:
            self._state = State.DRAINING
            self._service.keep_alive.enabled = False
            for listener in self._listeners:
                listener.close()
            self._service.retire()
            self._drain_timer = _DrainTimer(self._abort)
        if not self._service.connections:
            self._reactor.stop()
        elif self._drain_timer is not None and deadline < self._drain_timer.deadline:
            self._reactor.wheel.schedule(self._drain_timer, deadline)

    def _abort(self) -> None:
        """What still runs has had its time."""
        log.warning("%d connections were cut off", len(self._service.connections))
        for connection in list(self._service.connections):
            connection.abort()
        self._reactor.stop()

    # Signals.

    def _take_signals(self) -> dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None]:
        """Handles the signals of a main program; returns the handlers that were there."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        handlers = {
            "SIGTERM": lambda *_: self.shutdown(),
            "SIGINT": self._interrupted,
            "SIGHUP": lambda *_: self.reload(),
        }
        return {
            signal.Signals[name]: signal.signal(signal.Signals[name], handler)
            for name, handler in handlers.items()
            if name in signal.Signals.__members__
        }

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += 1
        if self._interrupts == 1:
            self.shutdown(min(_BRIEF, self.config.graceful_timeout))
        else:
            self._reactor.call(self._abort)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a third one helps even where a handler does not return


class _DrainTimer(Timer):
    """The end of the patience of a server that drains."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__()
        self._function = function

    def expired(self, now: float) -> None:
        self._function()


def _new_tls(config: Config) -> TLS | None:
    """Raises OSError whose text names what could not be read."""
    if not config.tls_cert:
        return None
    keys = config.tls_key or (None,) * len(config.tls_cert)
    certificates = list(zip(config.tls_cert, keys, strict=True))
    return TLS(certificates, password_file=config.tls_password_file, ca=config.tls_ca)


def _open(bind: str, config: Config) -> socket.socket:
    """Raises OSError whose text names the address."""
    try:
        return open_listener(bind, config.port, backlog=config.backlog, reuse_port=config.reuse_port)
    except OSError as error:
        number, reason = error.errno or errno.EINVAL, error.strerror or str(error)
        reason = reason.partition(" (while")[0]  # socket.create_server() names the address, too
    except (ValueError, OverflowError) as error:  # no name, path or descriptor could ever be like this
        number, reason = errno.EINVAL, str(error)
    raise OSError(number, f"cannot listen on {_where(bind, config.port)}: {reason}")


def _where(bind: str, port: int) -> str:
    """`bind` as the user has to know it, with its port."""
    if bind.startswith(("unix:", "fd:")):
        return bind
    host, port = split_host_port(bind, port)
    return f"[{host}]:{port}" if ":" in host else f"{host or '*'}:{port}"


def _inherited() -> list[str]:
    """Listening sockets handed over by a manager, as systemd does it (sd_listen_fds(3)); they replace `bind`, once."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    del os.environ["LISTEN_PID"]
    count = int(os.environ.get("LISTEN_FDS", "0"))
    return [f"fd:{fd}" for fd in range(_LISTEN_FDS_START, _LISTEN_FDS_START + count)]


def _most_connections() -> int:
    """As many as the descriptor limit allows, less a reserve."""
    try:
        import resource
    except ImportError:  # Windows, whose limit is elsewhere
        return 512
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 1 << 20
    return max(soft - _RESERVED_DESCRIPTORS, soft // 2, 1)


def _write_stderr(data: bytes) -> None:
    """Writes lines as far as they can be written without waiting; the rest is lost, rather than requests.

    Whoever closed stderr, filled its disk or does not read its pipe does not stop the server.
    """
    if sys.__stderr__ is None:  # closed before we began: descriptor 2 is something else by now
        return
    try:
        fd = sys.__stderr__.fileno()
        for start in range(0, len(data), select.PIPE_BUF):  # a pipe that is writable takes this much at once
            if not select.select([], [fd], [], 0)[1]:
                return
            os.write(fd, data[start : start + select.PIPE_BUF])
    except (OSError, ValueError):  # ValueError: closed since
        pass
