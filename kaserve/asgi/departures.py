"""Clients that leave: which exceptions of an application are only the consequence of that.

Knows exceptions and their chains. Does not know how a client leaves.

A client may leave at any time, and nothing is wrong with an application that could not respond. So what `send` raises
then must not fill the log with tracebacks, in whatever shape it comes out of the application: as it is, raised again by
the framework as an exception of its own, or in the group of exceptions of a task group.
"""

from __future__ import annotations

from ..http.body_stream import ClientDisconnected

__all__ = ["is_departure"]

# What frameworks raise for http.disconnect while they read a body, and for websocket.disconnect. Nothing more than the
# name can be known: an import would need the framework.
_NAMES = frozenset({"ClientDisconnect", "ClientDisconnected", "RequestAborted", "WebSocketDisconnect"})


def is_departure(error: BaseException) -> bool:
    """Returns whether `error` is only there because the client has left: it is `ClientDisconnected`, was raised while
    that was handled, or is a group of nothing else."""
    return _is_departure(error, set())


def _is_departure(error: BaseException, seen: set[int]) -> bool:
    """The same, without those that have been `seen`: chains may be circles, and so may be groups, when an exception in
    one is raised again while the group is handled."""
    while id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, ClientDisconnected) or type(error).__name__ in _NAMES:
            return True
        if isinstance(error, BaseExceptionGroup):
            return all(_is_departure(each, seen) for each in error.exceptions)
        following = error.__cause__ or error.__context__
        if following is None:
            return False
        error = following
    return False
