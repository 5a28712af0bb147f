"""The pytest plugin: `kaserve.testing` as fixtures, available wherever kaserve is installed.

Imports the server only when a fixture is used: the plugin is loaded by every pytest run on the machine, and most of
them do not need it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .server import Server
    from .testing import Faults

__all__ = ["kaserve_faults", "kaserve_server"]


@pytest.fixture
def kaserve_server() -> Iterator[Callable[..., Server]]:
    """A function that starts servers, which run until the end of the test: `kaserve_server(handler)`,
    `kaserve_server(wsgi=app)`, `kaserve_server(asgi=app)` or `kaserve_server(directory=path)`, with settings of
    `kaserve.Config` as keywords. See `kaserve.testing.serve`."""
    from .testing import serve

    with ExitStack() as stack:
        yield lambda *arguments, **settings: stack.enter_context(serve(*arguments, **settings))


@pytest.fixture
def kaserve_faults() -> Iterator[Callable[[Server], Faults]]:
    """A function that puts `kaserve.testing.Faults` between a server and its clients: `kaserve_faults(server).url`."""
    from .testing import Faults

    with ExitStack() as stack:
        yield lambda server: stack.enter_context(Faults(server))
