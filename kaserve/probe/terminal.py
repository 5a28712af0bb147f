"""Whether a stream shows colour. Knows no words and no options."""

from __future__ import annotations

import os
from typing import TextIO

__all__ = ["takes_color"]


def takes_color(stream: TextIO | None) -> bool:
    """Returns whether `stream` is a terminal whose user has not switched colour off with NO_COLOR (no-color.org).

    A terminal of type "dumb" shows escape sequences instead of obeying them. `stream` is None where a program has no
    stderr, as under pythonw.
    """
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and stream is not None and stream.isatty()
