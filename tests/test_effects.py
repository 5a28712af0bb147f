"""Every setting in every way of running a server: it has its effect there, or it is refused in words of that way.

The ways: `Server(handler, Config(...))`, `Server(Files(...), ...)`, the command line with `--handler`, with `--wsgi`
and with a directory, gunicorn's worker, and `kaserve.testing.serve` and its fixture with each of the three. A setting
that is new fails here until it is in the table, with where it has an effect.
"""

from __future__ import annotations

import base64
import os
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from kaserve import Config, ConfigError, Server
from kaserve.cli.main import main
from kaserve.config import environment_warnings, options, read_environment
from kaserve.effects import EFFECTS, Runner, Served, Way, check_effects
from kaserve.handlers import WSGI, Files, Mount
from kaserve.handlers.middleware.basic_auth import BasicAuth
from kaserve.http.handler import BaseHandler
from kaserve.http.messages import Request, Response
from kaserve.testing import serve
from tests.handlers.middleware.test_basic_auth import fast_hash
from tests.test_config import NEEDED, TABLE
from tests.tools.server import Client, config, connect, hello, run, serving
from tests.tools.tls import Certificate, make_certificate

# Where each setting has no effect. Written down once more, so that a slip in the table of the package is noticed.
OF_FILES = {
    *("directory", "listing", "zip", "hidden", "symlinks", "clean_urls", "spa", "compress"),
    *("cache_control", "immutable", "type", "upload", "upload_auth", "upload_overwrite"),
}
OF_APPLICATIONS = {"threads", "switch_interval"}  # WSGI and handlers that kaserve imports
OF_WEBSOCKETS = {"ws_max_size", "ws_ping_interval", "ws_ping_timeout", "ws_per_message_deflate"}
OF_ASGI = {"root_path", "lifespan", *OF_WEBSOCKETS}  # ASGI applications that kaserve imports
OF_COROUTINES = {"loop"}  # ASGI applications and handlers
OF_THE_PROGRAM = {"switch_interval", "app", "interface", "handler", "wsgi", "asgi", "qr", "error_log"}
OF_GUNICORN = {  # where gunicorn has an option of its own
    *("port", "bind", "unix_mode", "reuse_port", "backlog", "max_connections", "threads", "proxy_protocol"),
    "keep_alive",
    *("graceful_timeout", "limit_request_line", "limit_request_fields", "limit_request_field_size"),
    *("access_log", "access_log_file", "log_format", "drain_delay"),
    *("root_path", "lifespan", "loop"),
}
EVERYWHERE = {
    *("max_connections_per_address", "header", "cors", "auth", "auth_file", "forwarded_allow_ips", "protocol"),
    *("tls_cert", "tls_key", "tls_password_file", "tls_ca", "limit_request_body"),
    *("keep_alive_requests", "keep_alive_time", "header_timeout", "body_timeout", "send_timeout", "min_rate"),
    *("half_close_timeout", "tunnel_timeout"),
    *("proxy", "proxy_host", "proxy_timeout", "proxy_connect_timeout", "proxy_connections", "proxy_insecure"),
    *("status", "status_public", "metrics"),
}

NAMES = list(TABLE)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"hello"})


def test_every_setting_is_in_the_table() -> None:
    """A new setting needs an entry in `kaserve/effects.py`, and its name in one of the sets above."""
    assert list(EFFECTS) == list(options()) == NAMES
    served = OF_FILES | OF_APPLICATIONS | OF_ASGI | OF_COROUTINES
    assert set(NAMES) == served | OF_THE_PROGRAM | OF_GUNICORN | EVERYWHERE


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"), "site", "localhost")


@pytest.fixture
def values(tmp_path: Path, certificate: Certificate) -> dict[str, Any]:
    """By setting: a value that is not the default, and that a server can start with."""
    (tmp_path / "users").write_text(f"ann:{fast_hash(b'secret')}\n")
    (tmp_path / "password").write_text("")
    (tmp_path / "site").mkdir()
    return {name: value for name, (_, value, _) in TABLE.items()} | {
        "bind": ("127.0.0.2",),
        "directory": str(tmp_path / "site"),
        "app": "tests.test_effects:hello",
        "handler": "tests.test_effects:hello",
        "wsgi": "tests.test_effects:app",
        "asgi": "tests.test_effects:asgi",
        "auth_file": str(tmp_path / "users"),
        "tls_cert": (certificate.cert,),
        "tls_key": (certificate.key,),
        "tls_password_file": str(tmp_path / "password"),
        "tls_ca": certificate.cert,
        "access_log_file": str(tmp_path / "access.log"),
        "error_log": str(tmp_path / "error.log"),
    }


def with_needed(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """The setting, and those that it needs."""
    needed = set(NEEDED.get(name, ()))
    if name.startswith("tls_"):
        needed |= {"tls_cert", "tls_key"}
    given = {each: values[each] for each in needed}
    if name == "unix_mode":
        given["bind"] = (f"unix:{values['directory']}.sock",)
    if name in ("access_log_file", "log_format"):
        given["access_log"] = True
    return given | {name: values[name]}


def check(name: str, is_refused: bool, start: Callable[[], Config], label: str) -> ConfigError | None:
    """Starts a server, which must work or be refused by the setting's `label`; and with an effect it is the same
    setting that arrives."""
    if not is_refused:
        start()
        return None
    with pytest.raises(ConfigError) as caught:
        start()
    message = str(caught.value)
    label = re.sub("(?i)(upload)_(overwrite|auth)", r"\1", label)  # these need upload, of which the same is true
    assert message.startswith(f"{label} ")
    assert " has no effect " in message
    assert "\n" not in message
    return caught.value


# A program of one's own.

MADE_BY_THE_CALLER: dict[str, Callable[[Path], BaseHandler]] = {
    "Files": Files,
    "WSGI": lambda directory: WSGI(app, 0),
    "Mount": lambda directory: Mount({"/": Files(directory)}),
}


@pytest.mark.parametrize("name", NAMES)
class TestServer:
    def test_a_function(self, name: str, values: dict[str, Any]) -> None:
        def start() -> Config:
            with closing(Server(hello, config(**with_needed(name, values)))) as server:
                return server.config

        error = check(name, name in OF_FILES | OF_APPLICATIONS | OF_ASGI | OF_THE_PROGRAM, start, name)
        if name in OF_FILES | OF_APPLICATIONS | OF_ASGI:
            assert "use " in str(error), "it says what to do"

    @pytest.mark.parametrize("handler", MADE_BY_THE_CALLER)
    def test_a_handler_with_arguments_of_its_own(self, name: str, handler: str, values: dict[str, Any]) -> None:
        """Such as Files, which takes `compress` itself: the setting would be believed to do something."""

        def start() -> Config:
            with (
                closing(MADE_BY_THE_CALLER[handler](Path(values["directory"]))) as made,
                closing(Server(made, config(**with_needed(name, values)))) as server,
            ):
                return server.config

        check(name, name in OF_FILES | OF_APPLICATIONS | OF_ASGI | OF_THE_PROGRAM, start, name)


def test_the_name_of_an_application_is_no_application() -> None:
    name: Any = "module:app"
    with pytest.raises(TypeError, match="wsgi must be an application, not str"), serve(wsgi=name):
        pass


REFUSED_BY_SERVE: dict[str, set[str]] = {
    "handler": OF_FILES | OF_APPLICATIONS | OF_ASGI,
    "wsgi": OF_FILES | OF_ASGI | OF_COROUTINES,
    "asgi": OF_FILES | OF_APPLICATIONS,
    "directory": OF_APPLICATIONS | OF_ASGI | OF_COROUTINES,
}


@pytest.mark.parametrize("how", ["serve", "fixture"])
@pytest.mark.parametrize("served", REFUSED_BY_SERVE)
@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in ("handler", "wsgi", "asgi", "directory", "bind")]
)
def test_kaserve_testing(
    name: str, served: str, how: str, values: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    """`handler`, `wsgi`, `asgi` and `directory` are arguments of `serve` itself; other machines have no 127.0.0.2."""
    if name == "loop" and served == "asgi":
        pytest.importorskip("uvloop")
    what: dict[str, Any] = {"handler": hello, "wsgi": app, "asgi": asgi, "directory": values["directory"]}

    def start() -> Config:
        arguments = with_needed(name, values) | {served: what[served]}
        if how == "fixture":
            server: Server = request.getfixturevalue("kaserve_server")(**arguments)
            return server.config
        with serve(**arguments) as server:
            assert getattr(server.config, name) == values[name]
            return server.config

    check(name, name in REFUSED_BY_SERVE[served] | OF_THE_PROGRAM, start, name)


# The command line.

REFUSED_BY_OPTION = {
    "--handler": OF_FILES | OF_ASGI,
    "--wsgi": OF_FILES | OF_ASGI | OF_COROUTINES,
    "--asgi": OF_FILES | OF_APPLICATIONS,
    "-d": OF_APPLICATIONS | OF_ASGI | OF_COROUTINES | {"interface"},
    "a handler": OF_FILES | OF_ASGI,  # as MODULE:APP
    "a WSGI application": OF_FILES | OF_ASGI | OF_COROUTINES,
    "an ASGI application": OF_FILES | OF_APPLICATIONS,
}


def flag(name: str) -> str:
    return "PORT" if name == "port" else "--" + name.replace("_", "-")


def arguments_for(settings: dict[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, bool):
            yield flag(name) if value else "--no-" + flag(name)[2:]
        elif name == "port":
            yield str(value)
        else:
            for each in value if isinstance(value, tuple) else (value,):
                yield from (flag(name), str(each))


@pytest.mark.parametrize("option", REFUSED_BY_OPTION)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("app", "handler", "wsgi", "asgi")])
def test_the_command_line(
    name: str,
    option: str,
    values: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if name == "directory" and option == "-d":
        return
    if name == "interface" and option in ("--handler", "--wsgi", "--asgi", "a WSGI application", "an ASGI application"):
        return  # which exclude each other, and `values` has another one
    if name == "qr":
        pytest.importorskip("segno")
    if name == "loop" and "asgi" in option.lower():
        pytest.importorskip("uvloop")
    started: list[Config] = []

    def note(server: Server) -> None:
        started.append(server.config)
        server.close()

    monkeypatch.setattr(Server, "run", note)
    monkeypatch.setattr("kaserve.cli.start.errors.set_up", lambda path: None)
    for each in NAMES:
        monkeypatch.delenv("KASERVE_" + each.upper(), raising=False)
    what = {
        "--handler": ["--handler", values["handler"]],
        "--wsgi": ["--wsgi", values["wsgi"]],
        "--asgi": ["--asgi", values["asgi"]],
        "-d": ["-d", values["directory"]],
        "a handler": [values["handler"]],
        "a WSGI application": [values["wsgi"]],
        "an ASGI application": [values["asgi"]],
    }[option]
    settings = with_needed(name, values) if name == "port" else {"port": 0} | with_needed(name, values)
    given = [*arguments_for(settings), *what]
    code = main(given)
    shown = capsys.readouterr()
    if name in REFUSED_BY_OPTION[option]:
        assert (code, started) == (2, [])
        # The settings that need --upload are refused by that one, of which the same is true.
        label = "--upload" if name.startswith("upload") else flag(name)
        assert re.match(f"kaserve: {label} has no effect ", shown.err)
        assert f" with {what[0]}" in shown.err or option == "-d"
        assert f", which is {option}" in shown.err or option.startswith("-")
    else:
        assert (code, shown.err) == (0, "")
        assert getattr(started[0], name) == values[name]
    # The same as a variable.
    if name in REFUSED_BY_OPTION[option] and not name.startswith("upload_"):
        monkeypatch.setenv("KASERVE_" + name.upper(), TABLE[name][2])
        assert main(["0", *what]) == (0 if name == "directory" and option.startswith("a") else 2)
        pattern = f"kaserve: KASERVE_{name.upper()} has no effect "
        # MODULE:APP says what is served, so a variable with a directory is not even read.
        assert re.match(pattern, capsys.readouterr().err) or (name == "directory" and option.startswith("a"))


# gunicorn.


class Log:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str, *arguments: object) -> None:
        self.warnings.append(text % arguments)


@pytest.mark.parametrize("name", NAMES)
def test_gunicorn(name: str, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    gunicorn = pytest.importorskip("gunicorn.config")
    module = pytest.importorskip("kaserve.gunicorn")
    for each in NAMES:
        monkeypatch.delenv("KASERVE_" + each.upper(), raising=False)
    for each, value in with_needed(name, values).items():
        if each in ("access_log", "bind") and each != name:
            continue
        text = "\n".join(value) if isinstance(value, tuple) else str(value)
        monkeypatch.setenv("KASERVE_" + each.upper(), text)
    cfg = gunicorn.Config()

    def start() -> Config:
        module.Worker.check_config(cfg, Log())
        made: Config = module.read_config(cfg, ("fd:3",))
        assert getattr(made, name) == values[name]
        return made

    check(name, name in OF_FILES | OF_THE_PROGRAM | OF_GUNICORN | OF_WEBSOCKETS, start, "KASERVE_" + name.upper())


# The effect is the same in every way.

ANN = "Authorization: Basic " + base64.b64encode(b"ann:secret").decode()
USER = "ann:" + fast_hash(b"secret")


def see_users_and_headers(client: Client) -> None:
    stranger = client.ask("/")
    assert (stranger.status, stranger.value("x-mine")) == (401, "1")
    assert stranger.value("access-control-allow-origin") == "*"
    known = client.ask("/", ANN)
    assert (known.status, known.value("x-mine"), known.value("access-control-allow-origin")) == (200, "1", "*")
    preflight = client.ask("/", "Access-Control-Request-Method: GET", method="OPTIONS")
    assert preflight.status == 204
    for page in ("/status", "/status?json", "/metrics"):
        assert client.ask(page).status == 401, page
        assert client.ask(page, ANN).status == 200, page


@pytest.mark.parametrize("users", ["auth", "auth_file"])
@pytest.mark.parametrize("way", ["Server", "Server(Files)", "Server(Mount)", "handler", "wsgi", "directory"])
def test_users_headers_and_cors(way: str, users: str, tmp_path: Path) -> None:
    """`Server(handler, Config(auth=...))` served everybody."""
    (tmp_path / "index.html").write_text("hello")
    (tmp_path / "users").write_text(USER)
    settings: dict[str, Any] = {users: USER if users == "auth" else str(tmp_path / "users")}
    settings |= {"header": "X-Mine: 1", "cors": True, "status": "/status", "status_public": True, "metrics": "/metrics"}
    with ExitStack() as stack:
        if way.startswith("Server"):
            files = stack.enter_context(closing(Files(tmp_path)))
            handlers: dict[str, Any] = {
                "Server": hello,
                "Server(Files)": files,
                "Server(Mount)": Mount({"/": files}),
            }
            server = stack.enter_context(serving(handlers[way], **settings))
        else:
            what: dict[str, Any] = {"handler": hello, "wsgi": app, "directory": tmp_path}
            server = stack.enter_context(serve(**{way: what[way]}, **settings))
        see_users_and_headers(stack.enter_context(connect(server)))


def test_a_directory_adds_each_header_once(tmp_path: Path) -> None:
    with serve(directory=tmp_path, header="X-Mine: 1", cors=True) as server, connect(server) as client:
        for _ in range(3):
            fields = [name.lower() for name, _ in client.ask("/").fields]
            assert fields.count("x-mine") == fields.count("access-control-allow-origin") == 1


def test_the_handler_stays_open_and_the_threads_of_the_password_end() -> None:
    class Owned(BaseHandler):
        closed = False

        def __call__(self, request: Request) -> Response:
            return Response.text("hello")

        def close(self) -> None:
            self.closed = True

    handler = Owned()
    with serving(handler, auth=USER) as server, connect(server) as client:
        assert client.ask("/", ANN).status == 200
        auth = server._chain.handler
    assert not handler.closed
    assert isinstance(auth, BasicAuth)
    assert all(not thread.is_alive() for thread in auth._pool._threads) or auth._pool._shutdown


class TestFilesOfUsers:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match=r"cannot read the --auth-file \(auth_file\) '.*none': No such file"):
            Server(hello, Config(auth_file=str(tmp_path / "none")))

    @pytest.mark.parametrize("content", ["", "# nobody\n", "ann:hunter2\n", "\n", "ann\n"])
    def test_without_a_user(self, content: str, tmp_path: Path) -> None:
        """Without users there would be no check at all."""
        path = tmp_path / "users{}"
        path.write_text(content)
        with pytest.raises(ConfigError, match=r"^auth_file: ") as caught:
            Server(hello, Config(auth_file=str(path)))
        assert str(path) in str(caught.value)
        assert "hunter2" not in str(caught.value)
        assert caught.value.renamed(str.upper).startswith("AUTH_FILE: ")


def test_lines_of_the_log_go_to_one_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^access_log_file has no effect with log_lines"):
        Server(hello, Config(access_log_file=str(tmp_path / "log")), log_lines=print)


def test_the_way_of_the_fixtures_is_checked_as_well() -> None:
    with pytest.raises(ConfigError, match=r"on a WSGI application: only files of a directory are compressed"):
        check_effects(Config(compress=True), Way(Runner.LIBRARY, Served.WSGI))


class TestCombinations:
    def test_two_pages_on_one_path(self) -> None:
        with pytest.raises(ConfigError, match=r"^status and metrics must be different paths") as caught:
            Config(status="/x", metrics="/x")
        assert caught.value.renamed(flag).startswith("--status and --metrics must be ")

    def test_archives_of_directories_that_are_not_listed(self) -> None:
        """`/x/` was 404, and `/x/?zip` had all names and contents."""
        with pytest.raises(ConfigError, match=r"^zip needs listing: "):
            Config(zip=True, listing=False)
        assert run("0", "--no-listing", "--zip").stderr.startswith("kaserve: --zip needs --listing: ")

    def test_archives_of_files_that_are_not_listed(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"^zip needs listing: "):
            Files(tmp_path, zip=True, listing=False)

    def test_a_format_without_a_log(self) -> None:
        with pytest.raises(ConfigError, match=r"^log_format needs access_log"):
            Config(log_format="json", access_log=False)

    def test_a_public_page_without_a_page(self) -> None:
        with pytest.raises(ConfigError, match=r"^status_public needs status"):
            Config(status_public=True)


# The environment.


class TestVariables:
    KUBERNETES: ClassVar[dict[str, str]] = {
        "KASERVE_PORT": "tcp://10.96.0.12:8000",
        "KASERVE_SERVICE_HOST": "10.96.0.12",
        "KASERVE_SERVICE_PORT": "8000",
        "KASERVE_SERVICE_PORT_HTTP": "8000",
        "KASERVE_PORT_8000_TCP": "tcp://10.96.0.12:8000",
        "KASERVE_PORT_8000_TCP_PROTO": "tcp",
        "KASERVE_PORT_8000_TCP_PORT": "8000",
        "KASERVE_PORT_8000_TCP_ADDR": "10.96.0.12",
        "KASERVE_METRICS_SERVICE_HOST": "10.96.0.13",  # a Service called kaserve-metrics
        "KASERVE_METRICS_PORT": "udp://[fd00::1]:8000",
        "KASERVE_REUSE_PORT": "tcp://10.96.0.14:80",
    }

    def test_those_of_a_kubernetes_service(self) -> None:
        """https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables"""
        assert read_environment(self.KUBERNETES) == {}
        warnings = environment_warnings(self.KUBERNETES)
        assert [warning.partition(" ")[0] for warning in warnings] == ["KASERVE_PORT", "KASERVE_REUSE_PORT"]
        assert all("is ignored: its value is the address of a service" in warning for warning in warnings)
        assert environment_warnings(self.KUBERNETES, ("port", "reuse_port")) == []

    @pytest.mark.parametrize("text", ["8000x", "tcp://", "http://10.96.0.12:8000", "tcp://ann:secret@host"])
    def test_other_ports_are_still_refused(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"^KASERVE_PORT must be a whole number"):
            read_environment({"KASERVE_PORT": text})

    def test_a_variable_that_an_option_overrides_is_not_read(self) -> None:
        assert read_environment({"KASERVE_KEEP_ALIVE": "soon"}, ("keep_alive",)) == {}

    @pytest.mark.parametrize(
        ("variable", "hint"),
        [
            ("KASERVE_KEEPALIVE", "; did you mean KASERVE_KEEP_ALIVE?"),
            ("KASERVE_TLS_CERTS", "; did you mean KASERVE_TLS_CERT?"),
            ("KASERVE_AUHT", "; did you mean KASERVE_AUTH?"),
            ("KASERVE_QWERTZUIOP", ""),
        ],
    )
    def test_unknown_ones(self, variable: str, hint: str) -> None:
        environment = {variable: "ann:hunter2", "KASERVE_PURE": "1", "KASERVE_CORS": "yes", "OTHER": "x"}
        assert environment_warnings(environment) == [f"{variable} is ignored: there is no such setting{hint}"]

    def test_on_the_command_line_each_is_a_line_at_the_start(self, tmp_path: Path) -> None:
        process = run(
            *("0", "-d", str(tmp_path / "none")),
            KASERVE_KEEPALIVE="5",
            KASERVE_PURE=os.environ.get("KASERVE_PURE", ""),
        )
        assert process.stderr.splitlines() == [
            "kaserve: WARNING: KASERVE_KEEPALIVE is ignored: there is no such setting; "
            "did you mean KASERVE_KEEP_ALIVE?",
            f"kaserve: cannot serve {str(tmp_path / 'none')!r}: No such file or directory",
        ]

    def test_on_the_command_line_a_service_is_no_port(self, tmp_path: Path) -> None:
        none = str(tmp_path / "none")
        process = run("-d", none, KASERVE_PORT="tcp://10.96.0.12:8000")
        assert process.returncode == 3
        assert "kaserve: WARNING: KASERVE_PORT is ignored: " in process.stderr
        process = run("0", "-d", none, KASERVE_PORT="tcp://10.96.0.12:8000")
        assert process.stderr == f"kaserve: cannot serve {none!r}: No such file or directory\n"


# Secrets.

SECRETS = ["alice:hunter2", "alice:$hunter2", "hunter2", ":hunter2", "alice:hunter2:{}", "al\x00ice:hunter2"]


class TestSecrets:
    """No message repeats a password, in whatever place it was given."""

    @pytest.mark.parametrize("secret", SECRETS, ids=ascii)
    @pytest.mark.parametrize(
        "give",
        [
            lambda secret: Config(auth=secret),
            lambda secret: Config(auth=[USER, secret]),
            lambda secret: Config(auth=secret.encode()),
            lambda secret: Config(auth=cast(Any, {secret: secret})),
            lambda secret: read_environment({"KASERVE_AUTH": secret}),
            lambda secret: read_environment({"KASERVE_AUTH": f"{USER}\n\n{secret}"}),
        ],
    )
    def test_errors_and_their_tracebacks(self, give: Callable[[str], object], secret: str) -> None:
        with pytest.raises(ConfigError) as caught:
            give(secret)
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))
        assert "hunter2" not in repr(caught.value)

    def test_a_config_and_a_server(self) -> None:
        made = config(auth=USER)
        with closing(Server(hello, made)) as server:
            assert fast_hash(b"secret") not in repr(made) + str(made) + repr(server)

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--auth", "alice:hunter2"],
            ["--auth=alice:hunter2"],
            ["--auth", "alice:", "hunter2"],
            ["0", "--auth", "alice:", "hunter2"],
            ["0", "--auht", "alice:hunter2"],
            ["--auht=alice:hunter2"],
            ["--user=alice:hunter2"],
            ["0", "--user", "alice", "hunter2"],
            ["0", "--auth-file", "alice:hunter2"],
        ],
        ids=" ".join,
    )
    def test_the_command_line(self, arguments: list[str]) -> None:
        process = run(*arguments)
        assert process.returncode in (2, 3)
        assert "hunter2" not in process.stdout + process.stderr
        assert process.stderr.startswith("kaserve: ")
        assert process.stderr.count("\n") == 1

    def test_a_variable(self) -> None:
        process = run("0", KASERVE_AUTH="alice:hunter2")
        assert process.returncode == 2
        assert "hunter2" not in process.stderr
