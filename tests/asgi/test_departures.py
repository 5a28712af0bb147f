"""Which exceptions are only there because the client has left."""

from __future__ import annotations

import pytest

from kaserve import ClientDisconnected
from kaserve.asgi.departures import is_departure


def chained(cause: BaseException, *, explicit: bool) -> BaseException:
    """An exception that a framework raises while it handles `cause`."""
    try:
        try:
            raise cause
        except BaseException as error:
            raise RuntimeError("a framework") from (error if explicit else None)
    except RuntimeError as made:
        return made


class ClientDisconnect(Exception):
    """Starlette's."""


GONE = ClientDisconnected("gone")


@pytest.mark.parametrize(
    "error",
    [
        GONE,
        ClientDisconnect(),
        chained(GONE, explicit=True),
        chained(GONE, explicit=False),
        chained(chained(GONE, explicit=True), explicit=False),
        BaseExceptionGroup("tasks", [GONE, ClientDisconnect()]),
        chained(ExceptionGroup("tasks", [GONE]), explicit=True),
        BaseExceptionGroup("tasks", [BaseExceptionGroup("more", [chained(GONE, explicit=True)])]),
    ],
)
def test_departures(error: BaseException) -> None:
    assert is_departure(error)


@pytest.mark.parametrize(
    "error",
    [KeyError(), chained(KeyError(), explicit=True), ExceptionGroup("tasks", [GONE, KeyError()])],
)
def test_mistakes(error: BaseException) -> None:
    assert not is_departure(error)


def test_a_circle_of_causes_ends() -> None:
    first, second = KeyError(), ValueError()
    first.__context__, second.__context__ = second, first
    assert not is_departure(first)


@pytest.mark.parametrize("error", [KeyError(), ClientDisconnected()])
def test_a_group_within_itself(error: Exception) -> None:
    """Its member is raised again while the group is handled, as anyio's cancel scopes do."""
    group = ExceptionGroup("tasks", [error])
    error.__context__ = group
    assert is_departure(group) is isinstance(error, ClientDisconnected)
    assert is_departure(error) is isinstance(error, ClientDisconnected)
