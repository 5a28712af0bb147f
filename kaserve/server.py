"""Server: listens, accepts, drains; in the main thread, in a thread of its own, or in somebody else's loop.

Knows how the parts are put together and how their life begins and ends. Does not know HTTP, nor what its handler does.
"""

from __future__ import annotations

import enum
import errno
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from random import random
from types import FrameType, TracebackType

from . import systemd
from .config import Config
from .handlers.middleware.forwarded import Forwarded, Trusted
from .http.handler import BaseHandler, Handler, as_handler
from .http.messages import Address
from .insight.endpoints import StatusEndpoints
from .logs.access import AccessLog
from .logs.file import LogFile
from .logs.stderr import write_stderr
from .net.connection import Connection
from .net.limiter import ConnectionLimiter
from .net.listener import Listener, open_listener, split_host_port
from .net.proxy_protocol import ProxyHeaderReader
from .net.reactor import Reactor
from .net.service import Service
from .net.sockets import adopt
from .net.timerwheel import Timer, TimerWheel
from .net.tls import TLS
from .telemetry.counters import Stats
from .telemetry.snapshot import Snapshot

__all__ = ["Server"]

log = logging.getLogger("kaserve")

# Descriptors that are not for connections: files being sent, the selector, the listeners, what the application opens.
_RESERVED_DESCRIPTORS = 64
_LISTEN_FDS_START = 3  # sd_listen_fds(3)
_MAX_LISTEN_FDS = 1024
_BRIEF = 3.0  # seconds for the running requests after Ctrl-C: somebody is waiting at a terminal
_GREETING = 1.0  # seconds for PROXY headers that are on their way while draining


class State(enum.Enum):
    """The life of a server; it goes through these in this order."""

    NEW = "new"
    SERVING = "serving"
    DRAINING = "draining"
    STOPPED = "stopped"  # nobody is served any more; what is left to do is `close`
    CLOSED = "closed"


class Server:
    """Serves `handler` with the settings of `config`.

    Three ways to run it:
    `run()` serves until a signal or `shutdown()`; in the main thread it takes care of SIGTERM, SIGINT and SIGHUP.
    `with server:` serves in a background thread; the block begins when it listens, and leaving it stops the
    server as a first Ctrl-C does.
    `fileno()`, `timeout()` and `step()` let another loop do the waiting, after `open()`; `on_stop` and `stopped` tell
    it when a `shutdown()` has come to its end.

    Each of them raises OSError in the caller when an address cannot be listened on. A server belongs to the process
    that made it: after os.fork() the child gets a RuntimeError from all of them, and makes a server of its own.

    on_stop: called once, with no argument, when the server has stopped; in the thread that turns it. on_reload: what is
    called there when SIGHUP or `reload()` says that logs, certificates and the like may have changed.
    """

    def __init__(
        self,
        handler: Handler,
        config: Config | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        chance: Callable[[], float] = random,
        log_lines: Callable[[bytes], object] | None = None,
    ) -> None:
        """clock: monotonic seconds; wall: seconds since the epoch; chance: numbers from 0 up to 1, by lot; all are
        injected by tests. log_lines: takes lines of the access log, at most once per turn; by default they go where the
        settings say.

        Raises OSError when a certificate of the settings or the file of the access log cannot be used.
        """
        self.config = config or Config()
        self._tls = _new_tls(self.config)
        self.on_reload: list[Callable[[], object]] = [self._reload_certificates]
        self._log_file: LogFile | None = None
        if log_lines is None and self.config.access_log:
            log_lines = self._open_log()
        self._state = State.NEW
        self._process = os.getpid()
        self._is_service = False  # the program itself, of which a service manager wants to know
        self.on_stop: Callable[[], object] | None = None
        self._reactor = Reactor(clock, wall)
        self._listeners: list[Listener] = []
        self._greetings: set[ProxyHeaderReader] = set()
        self._thread: threading.Thread | None = None
        self._drain_delay = _Alarm(self._leave)
        self._patience = _Alarm(self._abort)
        self._interrupts = 0
        handler = as_handler(handler)
        if self.config.forwarded_allow_ips:
            handler = Forwarded(handler, Trusted(self.config.forwarded_allow_ips))
        access_log = None
        if log_lines is not None and self.config.access_log:
            access_log = AccessLog(
                log_lines, log_format=self.config.log_format, users=lambda request: request.remote_user, wall=wall
            )
            self._reactor.after_turn.append(access_log.flush)
        self._access_log = access_log
        if type(handler).end_of_turn is not BaseHandler.end_of_turn:  # a turn in which nothing is due costs nothing
            self._reactor.after_turn.append(handler.end_of_turn)
        self._insight = StatusEndpoints(self.config)
        self._service = Service(
            self._reactor,
            self._insight.in_front_of(handler),
            limits=self.config.limits,
            keep_alive=self.config.new_keep_alive(),
            deadlines=self.config.deadlines,
            access_log=access_log,
            scheme="http" if self._tls is None else "https",
            chance=chance,
        )
        self._service.on_close = self._connection_closed
        possible = _most_connections()
        most = min(self.config.max_connections or possible, possible)
        self._room = ConnectionLimiter(self._service, most, self.config.max_connections_per_address, self._greetings)
        self._insight.attach(self._service, most)

    # What it is and does.

    @property
    def address(self) -> Address:
        """(host, port) of the first of `addresses`, or the path of a Unix socket; None before `open`."""
        return self._listeners[0].address if self._listeners else None

    @property
    def addresses(self) -> list[Address]:
        """All that it listens on, or did until it was closed, in the order of the settings; none before `open`."""
        return [listener.address for listener in self._listeners]

    @property
    def url(self) -> str:
        """Where a client on this machine finds the server; "" before `open`."""
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
        """The counters themselves, which go on counting: numbers since the start, bytes and seconds."""
        return self._service.stats

    def snapshot(self) -> Snapshot:
        """All that is counted, at this moment, and what follows from it. In the server's own thread (see `call`), or
        when it does not run."""
        return self._insight.snapshot()

    @property
    def open_connections(self) -> int:
        """How many there are, idle ones included."""
        return len(self._service.connections) + len(self._greetings)

    @property
    def stopped(self) -> bool:
        """Whether nobody is served any more: a shutdown has come to its end, or the server is closed."""
        return self._state in (State.STOPPED, State.CLOSED)

    @property
    def ready(self) -> bool:
        """Whether new clients are welcome: it listens, and was not told to stop. What a readiness check should ask."""
        return self._state is State.SERVING

    @property
    def draining(self) -> bool:
        """Whether it was told to stop, and is not done yet."""
        return self._state is State.DRAINING

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
        self._check_process()
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
        self._check_turn()
        if self._state in (State.NEW, State.CLOSED):
            self.open()
        restore = self._take_signals()
        try:
            if self._is_service:
                self._reactor.call(self._tell_manager)
            if not self.stopped:
                self._reactor.run()
        finally:
            for number, handler in restore.items():
                signal.signal(number, handler)
            self.close()

    def __enter__(self) -> Server:
        self.open()
        self._thread = threading.Thread(target=self._reactor.run, name=f"kaserve {self.url}", daemon=True)
        try:
            self._thread.start()
        except BaseException:  # the system has no room for another thread
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._is_foreign:
            return
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
        """Does what is due, having waited for it at most `timeout` seconds (None: until there is something)."""
        self._check_turn()
        self._reactor.step(timeout)

    def call(self, function: Callable[[], object]) -> None:
        """Has `function` called in the server's thread, soon. From any thread."""
        self._check_process()
        self._reactor.call(function)

    def shutdown(self, timeout: float | None = None, delay: float | None = None) -> None:
        """Stops: is not `ready` any more, and after `delay` seconds takes no more connections; lets the running
        requests finish, and aborts them after another `timeout` seconds. None: the settings `drain_delay` (but no delay
        where a timeout is given) and `graceful_timeout`. From any thread, signal handler or request handler; returns at
        once. Who calls it again may shorten both."""
        self._check_process()
        if delay is None:
            delay = self.config.drain_delay if timeout is None else 0.0
        if timeout is None:
            timeout = self.config.graceful_timeout
        if not self.stopped:
            self._service.keep_alive.enabled = False  # now, for the answer of a handler that has called this
            self._reactor.call(partial(self._drain, timeout, delay))

    def reload(self) -> None:
        """Has all of `on_reload` called, and new connections use the certificates that are in the files by now; the
        open ones are left alone. What cannot be used is told to the log, and the old stays. From any thread; returns
        at once."""
        self._check_process()
        if not self.stopped:
            self._reactor.call(self._reload)

    def close(self) -> None:
        """Gives everything back, at once. The server must not be running any more."""
        if self._state is State.CLOSED or self._is_foreign:
            return
        self._stop()
        self._state = State.CLOSED
        for listener in self._listeners:
            listener.close()
        for greeting in list(self._greetings):
            greeting.close()
        for connection in list(self._service.connections):
            connection.abort()
        if self._access_log is not None:
            self._access_log.flush()
        self._room.close()
        if self._log_file is not None:
            self._log_file.close()
        self._reactor.close()

    @property
    def _is_foreign(self) -> bool:
        """Whether this is a child of the process that the server belongs to. The two share the poller and the listening
        sockets, so whatever the child did to them would happen to its parent."""
        return os.getpid() != self._process

    def _check_process(self) -> None:
        if self._is_foreign:
            raise RuntimeError(
                "this server belongs to the process that made it; after os.fork() the child has to make one of its own"
            )

    def _check_turn(self) -> None:
        """A reactor has one thread."""
        self._check_process()
        if self._thread is not None and self._thread is not threading.current_thread():
            raise RuntimeError("this server is in a `with` block, where a thread of its own runs it")

    def _open_log(self) -> Callable[[bytes], object]:
        """What takes the lines of the access log. Raises OSError whose text names the file."""
        path = self.config.access_log_file
        if path is None:
            return write_stderr
        try:
            self._log_file = LogFile(path)
        except OSError as error:
            raise OSError(error.errno, f"cannot write the access log {path!r}: {error.strerror}") from None
        self.on_reload.append(self._log_file.reopen)
        return self._log_file.write

    # In the reactor's thread.

    def _accept(self, sock: socket.socket, client: Address, server: Address) -> None:
        if not self.config.proxy_protocol:
            self._connect(sock, client, server)
            return
        self._greetings.add(
            ProxyHeaderReader(
                self._reactor,
                sock,
                client,
                server,
                timeout=self.config.header_timeout,
                on_header=self._connect,
                on_end=self._greeting_ended,
            )
        )

    def _greeting_ended(self, greeting: ProxyHeaderReader) -> None:
        self._greetings.discard(greeting)
        self._somebody_left()

    def _connect(self, sock: socket.socket, client: Address, server: Address) -> None:
        plain = adopt(sock) if self._tls is None else self._tls.wrap(sock)
        self._room.enter(Connection(self._service, plain, client, server))

    def _reload_certificates(self) -> None:
        if self._tls is None:
            return
        try:
            self._tls.reload()
        except OSError as error:
            log.error("the certificates stay as they are: %s", error.strerror or error)
        else:
            log.info("the certificates were read again")

    def _connection_closed(self, connection: Connection) -> None:
        self._room.leave(connection)
        self._insight.connection_closed()
        self._somebody_left()

    def _somebody_left(self) -> None:
        if self._service.retired:
            if not self.open_connections:
                self._stop()
        elif not self.stopped:
            for listener in self._listeners:
                listener.resume()

    def _drain(self, timeout: float, delay: float) -> None:
        """Row 10: every answer from now on is a connection's last one. Who sends us clients has `delay` to notice."""
        if self._state is State.SERVING:
            self._state = State.DRAINING
            if self._is_service:
                systemd.stopping()
            self._service.keep_alive.enabled = False
        leaving_at = self._reactor.now + delay
        self._patience.advance(self._reactor.wheel, leaving_at + timeout)
        if delay > 0 and not self._service.retired:
            self._drain_delay.advance(self._reactor.wheel, leaving_at)
        else:
            self._leave()

    def _leave(self) -> None:
        """Takes no more connections but for those that wait already, and closes the idle ones."""
        self._reactor.wheel.cancel(self._drain_delay)
        if not self._service.retired:
            for listener in self._listeners:
                listener.close()
            self._insight.end()
            self._service.retire()
            for greeting in self._greetings:
                self._reactor.wheel.schedule(greeting, min(greeting.deadline, self._reactor.now + _GREETING))
        if not self.open_connections:
            self._stop()

    def _reload(self) -> None:
        """Calls what wants to be reloaded; the service manager waits for a word before and after."""
        if self._is_service:
            systemd.reloading()
        for function in self.on_reload:
            try:
                function()
            except Exception:
                log.exception("%r could not be reloaded", function)
        if self._is_service:
            systemd.ready()

    def _abort(self) -> None:
        """What still runs has had its time."""
        cut_off = self.open_connections
        for greeting in list(self._greetings):
            greeting.close()
        for connection in list(self._service.connections):
            connection.abort()
        self._stop()
        log.warning("%d connections were cut off", cut_off)

    def _stop(self) -> None:
        """The end of serving, once."""
        if self._state not in (State.SERVING, State.DRAINING):
            return
        self._state = State.STOPPED
        self._reactor.stop()
        if self.on_stop is not None:
            try:
                self.on_stop()
            except Exception:
                log.exception("on_stop failed")

    # Signals.

    def _take_signals(self) -> dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None]:
        """Handles the signals of a main program; returns the handlers that were there."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        self._is_service = True
        handlers = {
            "SIGTERM": self._terminated,
            "SIGINT": self._interrupted,
            "SIGHUP": self._hung_up,
        }
        return {
            signal.Signals[name]: signal.signal(signal.Signals[name], handler)
            for name, handler in handlers.items()
            if name in signal.Signals.__members__
        }

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        if self._is_foreign:  # a child of a handler has inherited this, and is meant itself
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        else:
            self.shutdown()

    def _hung_up(self, number: int, frame: FrameType | None) -> None:
        if not self._is_foreign:
            self.reload()

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self._is_foreign:
            signal.default_int_handler(number, frame)
        self._interrupts += 1
        if self._interrupts == 1:
            self.shutdown(min(_BRIEF, self.config.graceful_timeout))
        else:
            self._reactor.call(self._abort)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a third one helps even where a handler does not return

    # The service manager.

    def _tell_manager(self) -> None:
        """That this program serves; and from now on, if it asks for that, that its reactor turns."""
        systemd.ready()
        interval = systemd.watchdog_interval()
        if interval is not None:
            self._show_life(interval)

    def _show_life(self, interval: float) -> None:
        systemd.notify("WATCHDOG=1")
        self._reactor.wheel.schedule(_Alarm(lambda: self._show_life(interval)), self._reactor.now + interval)


class _Alarm(Timer):
    """Has a function called when its time has come."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__()
        self._function = function

    def advance(self, wheel: TimerWheel, deadline: float) -> None:
        """It is time at `deadline`, or at that of before if it is earlier."""
        if deadline < self.deadline:
            wheel.schedule(self, deadline)

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
    count = os.environ.get("LISTEN_FDS", "0")
    if not (count.isascii() and count.isdigit() and int(count) <= _MAX_LISTEN_FDS):
        raise OSError(errno.EINVAL, f"LISTEN_FDS is not a number of sockets: {count!r}")
    return [f"fd:{fd}" for fd in range(_LISTEN_FDS_START, _LISTEN_FDS_START + int(count))]


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
