"""Why a server does not start: addresses that are unavailable, and a port to use instead."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from kaserve import Config
from kaserve.cli.exit_codes import EXIT_RESOURCE, StartError
from kaserve.cli.start import Wording, serve
from kaserve.server.binding import AddressError
from tests.tools.server import hello, serving

WORDING = Wording("--{}".format, "kaserve {}".format)


def refused(config: Config) -> str:
    with pytest.raises(StartError) as caught:
        serve(config, hello, WORDING)
    assert caught.value.code == EXIT_RESOURCE
    assert "\n" not in str(caught.value)
    return str(caught.value)


def suggested(message: str) -> int:
    return int(message.rpartition(":" if "--bind" in message else " ")[2])


@pytest.fixture
def unavailable(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has the next server not listen for a reason that the test names."""

    def fail(number: int, **attributes: Any) -> None:
        error = AddressError(number, f"cannot listen: {errno.errorcode.get(number)}")
        vars(error).update(attributes)

        def open_sockets(config: Config) -> list[socket.socket]:
            raise error

        monkeypatch.setattr("kaserve.server.server.open_sockets", open_sockets)

    return fail


class TestAPortInUse:
    def test_another_port_is_suggested_that_is_free(self) -> None:
        with serving() as server:
            assert isinstance(server.address, tuple)
            port = server.address[1]
            message = refused(Config(port=port))
            assert message.startswith(f"port {port} is in use on 127.0.0.1; try another: kaserve ")
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", suggested(message)))

    def test_one_that_is_in_use_as_well_is_passed_over(self, unavailable: Any) -> None:
        with serving() as server:
            assert isinstance(server.address, tuple)
            port = server.address[1]
            unavailable(errno.EADDRINUSE, bind="127.0.0.1", host="127.0.0.1", port=port - 1)
            assert suggested(refused(Config())) not in (port - 1, port)

    def test_in_the_form_in_which_it_was_given(self) -> None:
        with serving() as server:
            assert isinstance(server.address, tuple)
            port = server.address[1]
            message = refused(Config(bind=f"127.0.0.1:{port}"))
            assert message.startswith(f"port {port} is in use on 127.0.0.1; try another: --bind 127.0.0.1:")

    def test_on_all_addresses(self, unavailable: Any) -> None:
        unavailable(errno.EADDRINUSE, bind="", host="", port=8000)
        assert refused(Config()).startswith("port 8000 is in use; try another: kaserve ")

    def test_without_any_free_port_the_kernel_chooses(self, unavailable: Any) -> None:
        unavailable(errno.EADDRINUSE, bind="127.0.0.1", host="127.0.0.1", port=65535)
        assert refused(Config()) == "port 65535 is in use on 127.0.0.1; try another: kaserve 0"

    def test_a_unix_socket(self, unavailable: Any) -> None:
        unavailable(errno.EADDRINUSE, bind="unix:/run/site")
        assert refused(Config()) == (
            "unix:/run/site is in use; stop the server that listens there, or choose another path"
        )


@pytest.mark.parametrize(("port", "near"), [(80, range(8080, 8180)), (443, range(8443, 8543))])
def test_a_privileged_port(port: int, near: range, unavailable: Any) -> None:
    unavailable(errno.EACCES, bind="127.0.0.1", host="127.0.0.1", port=port)
    message = refused(Config())
    assert message.startswith(f"no permission to listen on port {port} on 127.0.0.1: ports below 1024 are for root ")
    assert suggested(message) in near


def test_another_reason_is_that_of_the_system(unavailable: Any) -> None:
    unavailable(errno.EACCES, bind="127.0.0.1", host="127.0.0.1", port=8000)
    assert refused(Config()) == "cannot listen: EACCES"
    unavailable(errno.EBADF, bind="fd:9")
    assert refused(Config()) == "cannot listen: EBADF"


def test_what_was_made_is_closed_if_the_server_does_not_start(tmp_path: Any, unavailable: Any) -> None:
    """An open directory would be a ResourceWarning, which fails the test."""
    unavailable(errno.EBADF, bind="fd:9")
    with pytest.raises(StartError):
        serve(Config(directory=str(tmp_path)), None, WORDING)
