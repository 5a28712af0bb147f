"""Done: an awaitable that has its result already.

Knows what an `await` asks for. Most of what an application awaits of the server is there when it asks, and a coroutine
that only returns costs more than the work in it. It has the methods of a coroutine, so that `asyncio.create_task` and
the like accept it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NoReturn

__all__ = ["NOTHING", "Done", "new_done"]


class Done:
    """What `await` returns at once. It may be awaited more than once."""

    __slots__ = ("_result",)

    def _fill(self, result: Any) -> None:
        """Sets the attribute, in place of an `__init__` (see `new_done`)."""
        self._result = result

    def __await__(self) -> Generator[Any, Any, Any]:
        return self  # it has what an `await` calls

    def __iter__(self) -> Done:
        return self

    def __next__(self) -> NoReturn:
        raise StopIteration(self._result)

    def send(self, value: Any) -> NoReturn:
        """As a coroutine that ends without a wait."""
        raise StopIteration(self._result)

    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> NoReturn:
        """As a coroutine that has not begun: raises what is thrown."""
        raise kind if value is None else value

    def close(self) -> None:
        """As a coroutine that has not begun."""


def new_done(result: Any) -> Any:
    """Returns an awaitable whose result is `result`."""
    done = Done.__new__(Done)
    done._fill(result)
    return done


NOTHING: Any = new_done(None)
"""The awaitable of nothing, of which one is enough."""
