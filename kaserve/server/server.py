"""Server: puts the parts of a server together, and runs them in the main thread, in a background thread or in a
foreign event loop.

Knows the parts and how their life begins and ends. How a server stops is in `shutdown`, what signals do in `signals`,
where it listens in `binding`. Does not know HTTP, nor what its handler does.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from random import random
from types import TracebackType
from typing import TYPE_CHECKING

from .. import systemd
from ..config import Config, ConfigError
from ..effects import Way, check_effects
from ..http.address import AnyAddress, UnixAddress
from ..http.handler import BaseHandler, Handler, as_handler
from ..http.phases import Phase
from ..insight.advice_log import AdviceLog
from ..insight.endpoints import StatusEndpoints
from ..net.own_requests import OwnRequests
from ..net.reactor import Reactor
from ..net.service import Host, OpenConnection
from ..net.timerwheel import Alarm
from ..telemetry.counters import Stats
from ..telemetry.history import Sample
from ..telemetry.snapshot import Snapshot, take_snapshot
from ..telemetry.visitors import leave_out
from . import parts
from .binding import open_sockets, url_for, url_of
from .chain import add_middleware
from .shutdown import GracefulShutdown, Stage
from .signals import SignalHandlers

if TYPE_CHECKING:
    import asyncio

__all__ = ["Server"]

log = logging.getLogger("kaserve")

# Seconds for running requests after Ctrl-C and at the end of a `with` block, where a person or a test is waiting.
_SHORT_TIMEOUT = 3.0

_LIBRARY = Way()  # a program that makes its handler itself


class Server:
    """An HTTP server.

    There are four ways to run it:

    - `run()` serves until a signal or `shutdown()`. In the main thread it handles SIGTERM, SIGINT and SIGHUP.
    - `with server:` serves in a background thread. The block begins when the server listens, and its end stops the
      server as the first Ctrl-C does.
    - `await serve()` serves in the asyncio event loop of a program, until it is cancelled or `shutdown()` is complete.
    - `open()`, and then `fileno()`, `timeout()` and `step()`, let a foreign event loop do the waiting. `on_stop` and
      `stopped` say when a `shutdown()` is complete.

    Each of them raises OSError in the caller if an address is unavailable. A server belongs to the process that made
    it: in a child after os.fork() all of them raise RuntimeError, and the child has to make a server of its own.

    Attributes:
        config: the settings.
        on_start: called once, without arguments, when the server accepts requests; in the thread that runs it. Not
            before ASGI applications have started.
        on_stop: called once, without arguments, when the server has stopped; in the thread that runs it.
        on_reload: functions that SIGHUP and `reload()` call, without arguments, in the thread that runs the server.
    """

    def __init__(
        self,
        handler: Handler,
        config: Config | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        time: Callable[[], float] = time.time,
        rng: Callable[[], float] = random,
        log_lines: Callable[[bytes], object] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        way: Way = _LIBRARY,
    ) -> None:
        """Makes a server that does not listen yet.

        Args:
            handler: responds to requests: a function, or an instance of a subclass of `BaseHandler`. What the settings
                put around it (users, headers, CORS, trusted proxies) is closed with the server, the handler is not.
            config: the settings; by default all have their default values.
            clock: returns monotonic seconds.
            time: returns seconds since the epoch.
            rng: returns random numbers in [0, 1).
            log_lines: receives the lines of the access log, at most once in a turn of the reactor. By default they go
                where the settings say.
            ssl_context: encrypts connections, instead of the certificates of the settings. The server changes it: it
                offers http/1.1 alone by ALPN, and allows no renegotiation.
            way: how the handler was made, which decides which settings have an effect. For the command line, gunicorn
                and `kaserve.testing`, which make handlers from the settings.

        Raises:
            ConfigError: a setting would have no effect here, or the file of users has a line that is not a user.
            OSError: a certificate, the file of users or the file of the access log cannot be used.
            TypeError: the handler is neither a function nor a BaseHandler.
            ValueError: `ssl_context` is not for a server.
        """
        self.config = config = config or Config()
        self.on_start: Callable[[], object] | None = None
        self.on_stop: Callable[[], object] | None = None
        self.on_reload: list[Callable[[], object]] = []
        self._process = os.getpid()
        self._thread: threading.Thread | None = None
        self._is_open = self._is_closed = False
        self._is_main_program = self._is_announced = False
        self._has_started = threading.Event()  # or failed to, or stopped before
        self._stop_waiter: asyncio.Future[None] | None = None  # of `serve`
        self._starting = 0  # lifespans that have not started yet
        self._failure: BaseException | None = None  # why the server could not start

        check_effects(config, way)
        if log_lines is not None and config.access_log_file is not None:
            raise ConfigError("{} has no effect with log_lines, which receives the lines", "access_log_file")

        # The parts. Each needs some of those before it, as its arguments show, so this is the order. The first three
        # may raise, when there is nothing yet that would have to be closed.
        self._chain = add_middleware(config, as_handler(handler), way.served)
        self._tls = parts.new_tls(config, ssl_context)
        self._log_file = parts.open_log_file(config) if log_lines is None else None
        self._reactor = Reactor(clock, time)
        write = log_lines if self._log_file is None else self._log_file.write
        self._access_log = parts.new_access_log(config, write, time)
        self._handler = self._chain.handler
        # Its pages read the figures through `self` when they are asked for, so they may come before the service.
        self._own = OwnRequests()
        self._endpoints = StatusEndpoints(
            status=config.status,
            status_public=config.status_public,
            metrics=config.metrics,
            snapshot=self.snapshot,
            visitors=self._snapshot_of_visitors,
            sample=self._sample,
            timeline=self._render_timeline,
            own=self._own,
            call_later=self._call_later,
        )
        handler_with_pages = parts.add_own_pages(self._handler, self._endpoints.pages)
        scheme = "http" if self._tls is None else "https"
        self._service = parts.new_service(config, self._reactor, handler_with_pages, self._access_log, scheme, rng)
        self._service.new_host = self._new_host
        self._own.attach(self._service)
        self._max_connections = parts.max_connections(config)
        self._acceptor = parts.new_acceptor(
            config, self._service, self._tls, self._max_connections, self._connection_ended
        )
        self._shutdown = GracefulShutdown(
            self._service, self._acceptor, on_drain=self._endpoints.close, on_done=self._stopped
        )
        self._started = self._reactor.now
        self._advice_log = AdviceLog(self.snapshot, self._started)
        self._add_callbacks()

    def _add_callbacks(self) -> None:
        """What is called after each turn of the reactor, and at a reload."""
        if self._access_log is not None:
            self._reactor.after_turn.append(self._access_log.flush)
        if type(self._handler).end_of_turn is not BaseHandler.end_of_turn:  # a call that does nothing costs time, too
            self._reactor.after_turn.append(self._handler.end_of_turn)
        if self._tls is not None:
            self.on_reload.append(partial(parts.reload_certificates, self._tls))
        if self._log_file is not None:
            self.on_reload.append(self._log_file.reopen)

    # State.

    @property
    def address(self) -> AnyAddress | None:
        """The first of `addresses`; None before `open`."""
        return self._acceptor.addresses[0] if self._acceptor.addresses else None

    @property
    def addresses(self) -> list[AnyAddress]:
        """All addresses that the server listens on, or listened on before it stopped, in the order of the settings.

        Each is an `Address`, a tuple of host and port, or a `UnixAddress`, the path of a Unix socket. Before `open`
        there are none.
        """
        return list(self._acceptor.addresses)

    @property
    def url(self) -> str:
        """The URL at which a client on this machine reaches the server; "" before `open`."""
        return self.url_of(self.address)

    def url_of(self, address: AnyAddress | None) -> str:
        """Returns the URL of one of `addresses`. A wildcard address becomes the loopback address."""
        return url_of(address, self._service.scheme)

    def url_for(self, path: str, address: AnyAddress | None = None) -> str:
        """Returns the URL at which a client on this machine reaches a path.

        Args:
            path: begins with a slash, and may have a query after a question mark. Characters that a URL cannot contain,
                spaces and "#" among them, are percent-encoded as UTF-8 (RFC 3986 §2.1, RFC 3987 §3.1). What is encoded
                already stays as it is; `urllib.parse.quote` encodes a "?" or "%" that belongs to a name.
            address: one of `addresses`; by default the first that is not a Unix socket. A wildcard address becomes the
                loopback address, since no client can connect to a wildcard.

        Raises:
            RuntimeError: the server was never open, so it has no address.
            ValueError: `path` does not begin with a slash, or the server listens on Unix sockets only, for which there
                are no URLs.
        """
        if address is None:
            hosts = (each for each in self.addresses if not isinstance(each, UnixAddress))
            address = next(hosts, self.address)
        return url_for(address, self._service.scheme, path)

    @property
    def stats(self) -> Stats:
        """The counters, which go on counting. Numbers since the start, bytes and seconds."""
        return self._service.stats

    def snapshot(self) -> Snapshot:
        """Returns all figures at this moment. Call it in the server's own thread (see `call`), or while it does not
        run."""
        return self._take_snapshot(self._service.connections)

    def _snapshot_of_visitors(self) -> Snapshot:
        """All figures but those of the requests for the live page."""
        connections = [each for each in self._service.connections if not self._own.is_own(each)]
        return leave_out(self._take_snapshot(connections), self._own.stats, self._own.sent)

    def _sample(self) -> Sample:
        service, own = self._service, self._own
        open_connections = len(service.connections) - own.live
        return Sample.take(service.stats, self._reactor.now - self._started, open_connections, own.stats, own.sent)

    def _take_snapshot(self, connections: Iterable[OpenConnection]) -> Snapshot:
        uptime = self._reactor.now - self._started
        return take_snapshot(
            self._service.stats,
            phases=(Phase(connection.phase).name for connection in connections),
            settings=parts.settings_for_advice(self.config, self._service, self._max_connections),
            uptime=uptime,
            upstreams=[upstream.figures(self._reactor.now) for upstream in self._service.upstreams],
        )

    @property
    def open_connections(self) -> int:
        """The number of open connections, including idle ones."""
        return self._acceptor.open_connections

    @property
    def ready(self) -> bool:
        """True while the server listens and has not been told to stop. A readiness check should return this."""
        is_serving = self._is_open and not self._is_closed and self._shutdown.stage is Stage.SERVING
        return is_serving and self._has_started.is_set()

    @property
    def draining(self) -> bool:
        """True from the beginning of a shutdown until it is complete."""
        return not self._is_closed and self._shutdown.stage in (Stage.GRACE, Stage.DRAINING, Stage.ENDING)

    @property
    def stopped(self) -> bool:
        """True when a shutdown is complete, or the server is closed."""
        return self._is_closed or self._shutdown.stage is Stage.DONE

    @property
    def keep_alive(self) -> bool:
        """Whether responses invite another request. May be set at any time, from any thread: responses that begin
        while it is False say `Connection: close`."""
        return self._service.keep_alive.enabled

    @keep_alive.setter
    def keep_alive(self, enabled: bool) -> None:
        if not self.draining:
            self._service.keep_alive.enabled = enabled and self.config.keep_alive > 0

    # Running.

    def open(self) -> None:
        """Listens on all addresses of the settings.

        Raises:
            OSError: an address is unavailable. Nothing is left open, and the server is closed.
            RuntimeError: the server was opened or closed before, or belongs to another process.
        """
        self._check_process()
        if self._is_open or self._is_closed:
            raise RuntimeError("a server can be opened only once")
        try:
            sockets = open_sockets(self.config)
        except BaseException:
            self.close()
            raise
        self._acceptor.listen(sockets)
        try:
            self._handler.attach(self._service)
        except BaseException:
            self.close()
            raise
        self._endpoints.open()
        self._is_open = True
        if self._service.lifespans:
            self._acceptor.pause()  # clients wait in the backlog
            self._reactor.call(self._start)
        else:
            self._has_started.set()

    # Starting. Handlers with a lifespan start in the thread that runs the server, before the first request.

    def _new_host(self, reactor: Reactor) -> Host:
        """Makes the asyncio event loop, for the first handler that needs it: others need not even import asyncio."""
        from ..asgi.host import new_host

        return new_host(self.config.loop, reactor)

    def _start(self) -> None:
        lifespans = self._service.lifespans
        if self._is_closed:  # by a program that did not let it run; closing the event loop makes the last turns of it
            return
        self._starting = len(lifespans)
        for lifespan in lifespans:
            lifespan.start().add_done_callback(lambda done: self._reactor.call(partial(self._lifespan_started, done)))

    def _lifespan_started(self, done: Future[None]) -> None:
        error = None if done.cancelled() else done.exception()
        if self._shutdown.stage is not Stage.SERVING and self._shutdown.stage is not Stage.GRACE:
            return  # the server was told to stop meanwhile
        if error is not None:
            self._failure = error
            self._shutdown.begin(_SHORT_TIMEOUT, 0.0)
            return
        self._starting -= 1
        if self._starting == 0:
            self._acceptor.resume()
            self._has_started.set()
            self._announce()

    def _announce(self) -> None:
        """Says, once, that the server accepts requests. In the thread that runs it, so not in `open`."""
        if self._is_announced or not self._has_started.is_set():
            return
        self._is_announced = True
        if self._is_main_program:
            self._notify_manager()
        if self.on_start is not None:
            try:
                self.on_start()
            except Exception:
                log.exception("on_start failed")

    def _raise_failure(self) -> None:
        """Raises what has kept the server from starting, once."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def run(self) -> None:
        """Serves until a signal (see `signals`) or `shutdown()` stops the server, and closes it.

        Raises:
            OSError: an address is unavailable.
            RuntimeError: the server was closed before, runs in another thread, or belongs to another process.
            StartupFailed: an ASGI application cannot start.
        """
        self._check_thread()
        if not self._is_open or self._is_closed:
            self.open()
        signals = SignalHandlers(
            terminate=self.shutdown,
            interrupt=self._shutdown_soon,
            abort=partial(self._reactor.call, self._shutdown.abort),
            reload=self.reload,
            wakeup_fd=self._reactor.signal_fileno(),
        )
        try:
            with signals:
                self._is_main_program = signals.are_installed
                if not self.stopped:
                    self._turn()
        finally:
            self.close()
        self._raise_failure()

    def _turn(self) -> None:
        """Makes turns of the reactor until the server has stopped."""
        self._reactor.call(self._announce)
        host = self._service.host
        (self._reactor if host is None else host).run()

    def __enter__(self) -> Server:
        self.open()
        self._thread = threading.Thread(target=self._turn, name=f"kaserve {self.url}", daemon=True)
        try:
            self._thread.start()
        except BaseException:  # the system allows no more threads
            self.close()
            raise
        self._has_started.wait()
        if self._failure is not None:
            self._thread.join()
            self.close()
            self._raise_failure()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._is_foreign:
            return
        self._shutdown_soon()
        if self._thread is not None:
            self._thread.join()
        self.close()

    async def serve(self) -> None:
        """Serves in the asyncio event loop that runs this coroutine, until `shutdown()` is complete, and closes the
        server. To cancel this coroutine shuts the server down as the first Ctrl-C does. Signals are the program's own
        business.

        Raises:
            OSError: an address is unavailable.
            RuntimeError: as `run`.
            StartupFailed: an ASGI application cannot start.
        """
        self._check_thread()
        from asyncio import CancelledError, get_running_loop, shield  # most servers do without

        self._stop_waiter = stopped = get_running_loop().create_future()
        try:
            self._service.get_host()
            if not self._is_open or self._is_closed:
                self.open()
            self._announce()
            try:
                await shield(stopped)
            except CancelledError:
                self._shutdown_soon()
                await shield(stopped)
                raise
        finally:
            self.close()
        self._raise_failure()

    def fileno(self) -> int:
        """Returns a descriptor that is readable when `step` has something to do."""
        return self._reactor.fileno()

    def timeout(self) -> float | None:
        """Returns the seconds after which `step` must be called even if the descriptor is not readable; None for
        never."""
        host = self._service.host
        return (self._reactor if host is None else host).timeout()

    def step(self, timeout: float | None = 0.0) -> None:
        """Does what is due.

        Args:
            timeout: seconds to wait for something to do; None waits as long as it takes.
        """
        self._check_thread()
        if not self._is_announced:
            self._announce()
        host = self._service.host
        (self._reactor if host is None else host).step(timeout)
        self._raise_failure()

    def call(self, function: Callable[[], object]) -> None:
        """Has `function` called soon in the thread that runs the server. Call this from any thread."""
        self._check_process()
        self._reactor.call(function)

    # Stopping.

    def shutdown(self, timeout: float | None = None, delay: float | None = None) -> None:
        """Begins a graceful shutdown, and returns at once. Call it from any thread, signal handler or request handler.

        A second call may shorten both times, not extend them. `shutdown` explains the stages.

        Args:
            timeout: seconds for running requests to finish, after which their connections are reset; by default the
                setting `graceful_timeout`.
            delay: seconds during which the server is not `ready` but still serves new connections; by default the
                setting `drain_delay`, or 0 if a timeout is given.
        """
        self._check_process()
        if delay is None:
            delay = self.config.drain_delay if timeout is None else 0.0
        if timeout is None:
            timeout = self.config.graceful_timeout
        if not self.stopped:
            # Now rather than in the reactor's next turn, for the response of the handler that calls this.
            self._service.stopping = True
            self._service.keep_alive.enabled = False
            self._reactor.call(partial(self._begin_shutdown, timeout, delay))

    def _shutdown_soon(self) -> None:
        self.shutdown(min(_SHORT_TIMEOUT, self.config.graceful_timeout))

    def _begin_shutdown(self, timeout: float, delay: float) -> None:
        if self._is_main_program and self._shutdown.stage is Stage.SERVING:
            systemd.stopping()
        self._shutdown.begin(timeout, delay)

    def _stopped(self) -> None:
        """The shutdown is complete."""
        self._has_started.set()  # nobody is to wait for that any more
        host = self._service.host
        (self._reactor if host is None else host).stop()
        if self._stop_waiter is not None and not self._stop_waiter.done():
            self._stop_waiter.set_result(None)
        if self.on_stop is not None:
            try:
                self.on_stop()
            except Exception:
                log.exception("on_stop failed")

    def close(self) -> None:
        """Closes everything at once; open connections are reset. The server must not be running."""
        if self._is_closed or self._is_foreign:
            return
        self._is_closed = True
        # Each part is closed before the parts that it uses. Connections end first, so that on_stop, which `finish`
        # calls, finds none open. Then the access log has all its lines, and can write those that it still holds. The
        # reactor is last, since every connection and listener that closes leaves its poller.
        self._acceptor.close()
        if self._is_open:
            self._shutdown.finish()
            self._detach_handler()
        if self._service.host is not None:
            self._service.host.close()
        self._chain.close()
        if self._access_log is not None:
            self._access_log.flush()
        if self._log_file is not None:
            self._log_file.close()
        self._reactor.close()

    def _detach_handler(self) -> None:
        try:
            self._handler.detach()
        except Exception:  # everything else is to be closed nevertheless
            log.exception("the handler could not be detached")

    # Who may call.

    @property
    def _is_foreign(self) -> bool:
        """Whether this is a forked child of the server's process. It shares the poller and the listening sockets with
        its parent, so whatever it did to them would happen to the parent."""
        return os.getpid() != self._process

    def _check_process(self) -> None:
        if self._is_foreign:
            raise RuntimeError(
                "this server belongs to the process that made it; after os.fork() the child has to make one of its own"
            )

    def _check_thread(self) -> None:
        """A reactor belongs to one thread."""
        self._check_process()
        if self._thread is not None and self._thread is not threading.current_thread():
            raise RuntimeError("this server is in a `with` block, where a thread of its own runs it")

    # In the reactor's thread.

    def _connection_ended(self) -> None:
        self._advice_log.connection_closed(self._reactor.now)
        self._shutdown.finish_if_empty()

    # Reloading, and the service manager.

    def reload(self) -> None:
        """Has all of `on_reload` called, and returns at once. Call it from any thread or signal handler.

        New connections get the certificates that are in the files now; open connections keep theirs. What cannot be
        read is logged, and the old certificates stay in use.
        """
        self._check_process()
        if not self.stopped:
            self._reactor.call(self._reload)

    def _reload(self) -> None:
        if self._is_main_program:
            systemd.reloading()
        for function in self.on_reload:
            try:
                function()
            except Exception:
                log.exception("%r could not be reloaded", function)
        if self._is_main_program:
            systemd.ready()

    def _notify_manager(self) -> None:
        """The program serves, and from now on its reactor's turns show that it lives."""
        systemd.ready()
        self._feed_watchdog()

    def _feed_watchdog(self) -> None:
        interval = systemd.watchdog_interval()
        if interval is not None:
            systemd.notify("WATCHDOG=1")
            self._call_later(interval, self._feed_watchdog)

    def _render_timeline(self) -> list[dict[str, object]]:
        return self._service.timeline.render(self._reactor.now)

    def _call_later(self, seconds: float, function: Callable[[], object]) -> None:
        self._reactor.wheel.schedule(Alarm(function), self._reactor.read_clock() + seconds)
