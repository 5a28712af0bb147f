"""Whether a stream shows colour. Knows no words and no options."""

from __future__ import annotations

import os
from typing import TextIO

__all__ = ["takes_color"]


def takes_color(stream: TextIO | None) -> bool:
    """Whether `stream` is a terminal whose user has nothing against colour (no-color.org)."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and stream is not None and stream.isatty()
