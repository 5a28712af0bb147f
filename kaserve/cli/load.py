"""Makes the handler that the settings ask for: a directory, an ASGI or WSGI application, a handler, or a proxy.

Knows which setting names what is served, and how it is decided how an application is called. Each failure is a
StartError with an exit code. Does not know servers, nor the middleware, which `Server` puts around every handler.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..config import Config, wsgi_threads
from ..effects import Runner, Served, Way
from ..handlers import WSGI, Threaded
from ..handlers.interface import Interface, check_interface, detect_interface
from ..http.handler import BaseHandler, Handler
from ..server.directory import new_directory
from .exit_codes import EXIT_APP, EXIT_RESOURCE, EXIT_USAGE, StartError
from .imports import import_target, is_target
from .positionals import near_directory

if TYPE_CHECKING:
    from ..proxy.location import Route

__all__ = ["Loaded", "load", "new_asgi", "way_of"]

_SERVED = {Interface.ASGI: Served.ASGI, Interface.WSGI: Served.WSGI, Interface.HANDLER: Served.HANDLER}


class Loaded(NamedTuple):
    """What is served.

    Attributes:
        handler: responds to requests.
        way: what it is, for the check that every setting has an effect.
        name: what the user calls it: a target such as `shop:app`, or the URL of a proxy; "" for a directory.
    """

    handler: Handler
    way: Way
    name: str

    def close(self, timeout: float) -> None:
        """Releases what was made here, but not an application or a handler of the user.

        Args:
            timeout: seconds for an application to finish what it does after its last response.
        """
        if isinstance(self.handler, (WSGI, Threaded)):
            self.handler.close(timeout)
        elif self.way.served is Served.DIRECTORY and isinstance(self.handler, BaseHandler):
            self.handler.close()


def way_of(config: Config) -> Way | None:
    """Returns what the settings ask to be served; None if it is only known when it has been imported."""
    if config.asgi is not None:
        return Way(Runner.PROGRAM, Served.ASGI)
    if config.wsgi is not None:
        return Way(Runner.PROGRAM, Served.WSGI)
    if config.handler is not None:
        return Way(Runner.PROGRAM, Served.HANDLER)
    if config.app is None:
        return Way(Runner.PROGRAM, Served.DIRECTORY if _route_of_everything(config) is None else Served.PROXY)
    if config.interface != "auto":
        return Way(Runner.PROGRAM, Served[config.interface.upper()])
    return None


def load(config: Config, app: object = None, label: Callable[[str], str] = str) -> Loaded:
    """Returns what the settings ask for, ready to be served.

    Args:
        config: names an application, a handler or a directory.
        app: the application or the handler itself, for a program that has it; then the settings name none.
        label: returns what the user calls a setting.

    Raises:
        StartError: a name is malformed, what it names cannot be imported or is none of what can be served, or the
            directory cannot be read.
    """
    if app is not None:
        return _wrap(config, app, _name_of(app), config.interface, "app", label)
    for setting, interface in (("app", config.interface), ("asgi", "asgi"), ("wsgi", "wsgi"), ("handler", "handler")):
        target = getattr(config, setting)
        if target is not None:
            if not is_target(target):
                raise StartError(EXIT_USAGE, _malformed(setting, label(setting), target))
            return _wrap(config, import_target(target), target, interface, setting, label)
    route = _route_of_everything(config)
    if route is not None:
        from ..server.routes import new_proxy

        return Loaded(new_proxy(config, route), Way(Runner.PROGRAM, Served.PROXY), ", ".join(map(str, route.upstreams)))
    try:
        return Loaded(new_directory(config), Way(Runner.PROGRAM, Served.DIRECTORY), "")
    except OSError as error:
        hint = _near_directory(config.directory)
        raise StartError(EXIT_RESOURCE, f"{error.strerror or error}{hint}") from error


def _route_of_everything(config: Config) -> Route | None:
    """The route of --proxy without a path; None if there is none."""
    if not config.proxy:
        return None
    from ..server.routes import route_of_everything  # which most programs do without

    return route_of_everything(config)


def _near_directory(path: str) -> str:
    """What was probably meant by a directory that cannot be served; "" if that is unknown."""
    if os.path.isfile(path):
        return f"; serve the directory it is in: {os.path.dirname(path) or '.'}"
    if os.path.exists(path):
        return ""
    return near_directory(path)


def _name_of(app: object) -> str:
    """What a program calls an object, as far as that is known."""
    module, name = getattr(app, "__module__", ""), getattr(app, "__name__", None) or getattr(app, "__qualname__", None)
    if isinstance(name, str):
        return f"{module}:{name}" if module not in ("", "__main__", None) else name
    return type(app).__name__


def _malformed(setting: str, label: str, target: str) -> str:
    what = "MODULE:FUNCTION" if setting == "handler" else "MODULE:APP"
    module, colon, name = target.partition(":")
    hint = ""
    if module.endswith(".py") or "/" in module:  # a path, as in `python shop.py`
        dotted = module.removesuffix(".py").strip("./").replace("/", ".")
        wanted = f"{dotted}:{name or 'app'}"
        hint = f"; did you mean {wanted}?" if is_target(wanted) else ""
    elif not colon and is_target(f"{target}:app"):
        hint = f", such as {target}:app"
    return f"{label} must be {what}, not {target!r}{hint}"


def _wrap(config: Config, app: Any, name: str, interface: str, setting: str, label: Callable[[str], str]) -> Loaded:
    """The handler for an object that is called as `interface`, or as its signature says if that is "auto"."""
    try:
        found = _choose(app, name, interface)
    except TypeError as error:
        raise StartError(EXIT_APP, f"{error}{_leave_out(app, name, interface, setting, label)}") from None
    if found is None:
        raise StartError(
            EXIT_APP,
            f"the signature of {name} does not tell whether it is an ASGI or WSGI application or a handler; "
            f"say which one with {label('interface')}: asgi, wsgi or handler",
        )
    handler: Handler = app
    if found is Interface.ASGI:
        handler = new_asgi(config, app)
    elif found is Interface.WSGI:
        handler = WSGI(app, wsgi_threads(config), multiprocess=config.reuse_port)
    elif config.threads:
        try:
            handler = Threaded(app, config.threads)
        except TypeError as error:
            raise StartError(EXIT_USAGE, f"{label('threads')} has no effect with {name}: {error}") from None
    return Loaded(handler, Way(Runner.PROGRAM, _SERVED[found]), name)


def new_asgi(config: Config, app: Any) -> BaseHandler:
    """Returns the handler for an ASGI application. What it needs of asyncio is imported only now: a server of files
    does without, and starts sooner."""
    from ..asgi.application import ASGI

    return ASGI(
        app,
        root_path=config.root_path,
        lifespan=config.lifespan,
        ws_max_size=config.ws_max_size,
        ws_ping_interval=config.ws_ping_interval,
        ws_ping_timeout=config.ws_ping_timeout,
        ws_per_message_deflate=config.ws_per_message_deflate,
    )


def _leave_out(app: object, name: str, interface: str, setting: str, label: Callable[[str], str]) -> str:
    """What to do about an application that can be served, but not as the user has said."""
    if interface == "auto":
        return ""
    try:
        found = detect_interface(app, name)
    except TypeError:
        return ""
    said = label("interface" if setting == "app" else setting)
    how = f"write {name} without {said}" if setting != "app" else f"leave out {said}"
    return "" if found is None else f"; {how}"


def _choose(app: object, name: str, interface: str) -> Interface | None:
    """How `app` is called; None if its signature does not tell. Raises TypeError if it cannot be served."""
    if interface == "auto":
        found = detect_interface(app, name)
    else:
        found = Interface[interface.upper()]
        check_interface(app, found, name)
    return found
