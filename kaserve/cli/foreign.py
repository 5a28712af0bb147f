"""Options that users know from other servers: uvicorn, gunicorn, http.server, miniserve and `npx serve`.

Where the meaning is that of a setting of kaserve, the name works. Where it is not, a line says what kaserve has
instead. Knows names and texts. Does not know argparse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["ALIASES", "INSTEAD", "Alias"]


class Alias(NamedTuple):
    """Another name of a setting.

    Attributes:
        setting: the name of the setting, as in `Config`.
        convert: returns the value as kaserve writes it; None for one that means the default.
    """

    setting: str
    convert: Callable[[str], str | None] = str


def _file(text: str) -> str | None:
    """gunicorn's "-" is the standard stream, where kaserve writes without an option."""
    return None if text == "-" else text


ALIASES: dict[str, Alias] = {
    "--host": Alias("bind"),
    "--uds": Alias("bind", "unix:{}".format),
    "--fd": Alias("bind", "fd:{}".format),
    "--dir": Alias("directory"),
    "--keepalive": Alias("keep_alive"),
    "--timeout-keep-alive": Alias("keep_alive"),
    "--keep-alive-timeout": Alias("keep_alive"),
    "--timeout-graceful-shutdown": Alias("graceful_timeout"),
    "--worker-connections": Alias("max_connections"),
    "--certfile": Alias("tls_cert"),
    "--ssl-certfile": Alias("tls_cert"),
    "--keyfile": Alias("tls_key"),
    "--ssl-keyfile": Alias("tls_key"),
    "--access-logfile": Alias("access_log_file", _file),
    "--access-logformat": Alias("log_format"),
    "--error-logfile": Alias("error_log", _file),
    "--log-file": Alias("error_log", _file),
    "--single": Alias("spa"),
    "--qrcode": Alias("qr"),
    "--asgi-lifespan": Alias("lifespan"),
    "--asgi-loop": Alias("loop"),
}
"""By option. None of them is in --help, which would become longer and no clearer."""

_PROCESSES = "kaserve is one process; for several, run gunicorn -k kaserve.gunicorn.Worker -w {value} {app}"
_LEVEL = "kaserve has no log levels; --no-access-log leaves only errors and warnings, and --log-format sets the format"
_MANAGER = "leave that to the service manager; docs/deployment.md has a unit of systemd"
_SERVER_PART = "kaserve has only its own HTTP parser"
_RESTART = (
    "kaserve does not restart itself; gunicorn does: gunicorn -k kaserve.gunicorn.Worker --max-requests {value} {app}"
)
_CA = "use --tls-ca FILE, which also requires client certificates"
_PATH = "set PYTHONPATH instead: PYTHONPATH={value} {program} {app}"
_PROXIES = "use --forwarded-allow-ips ADDRESSES, which names the proxies whose headers are trusted"

INSTEAD: dict[str, str] = {
    "--workers": _PROCESSES,
    "-w": _PROCESSES,
    "--worker-class": "kaserve has one kind of worker; gunicorn runs it with -k kaserve.gunicorn.Worker",
    "-k": "kaserve has one kind of worker; gunicorn runs it with -k kaserve.gunicorn.Worker",
    "--reload": "kaserve does not reload code yet; run gunicorn --reload -k kaserve.gunicorn.Worker {app}",
    "--reload-dir": "kaserve does not reload code yet; run gunicorn --reload -k kaserve.gunicorn.Worker {app}",
    "--factory": "write the call instead: {program} '{app}()'",
    "--app-dir": _PATH,
    "--chdir": _PATH,
    "--pythonpath": _PATH,
    "--log-level": _LEVEL,
    "--log-config": "a program configures logging itself; call kaserve.run(app) from it",
    "--timeout": "kaserve lets slow handlers finish; --header-timeout, --body-timeout and --send-timeout limit clients",
    "--max-requests": _RESTART,
    "--limit-max-requests": _RESTART,
    "--limit-concurrency": "use --max-connections N",
    "--ca-certs": _CA,
    "--ssl-ca-certs": _CA,
    "--ssl-keyfile-password": "use --tls-password-file FILE; other users of the machine can read a command line",
    "--proxy-headers": _PROXIES,
    "--proxy-allow-from": _PROXIES,
    "--env-file": "each setting is also an environment variable, such as KASERVE_PORT; use the shell or systemd",
    "--config": "each setting is also an environment variable, such as KASERVE_PORT; there is no file of settings",
    "-c": "each setting is also an environment variable, such as KASERVE_PORT; there is no file of settings",
    "--http": _SERVER_PART,
    "--ws": "kaserve has one implementation, of the package websockets: pip install 'kaserve[websocket]'",
    "--daemon": _MANAGER,
    "-D": _MANAGER,
    "--user": _MANAGER,
    "--group": _MANAGER,
    "--pid": _MANAGER,
    "--preload": "kaserve is one process and always imports the application before it listens",
    "--cgi": "kaserve runs no CGI scripts",
    "--listen": "use PORT or --bind ADDRESS",
    "-l": "use PORT or --bind ADDRESS",
    "--upload-files": "use --upload",
    "--quiet": "use --no-access-log",
    "-q": "use --no-access-log",
}
"""By option: what to use instead. May contain {program}, {app} (the MODULE:APP of the command line) and {value}."""
