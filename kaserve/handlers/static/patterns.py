"""Patterns: which paths a rule of a site is about, as `--cache-control` and `--type` have it.

Knows the wildcards of file names (`*`, `?`, `[abc]`). Does not know what a rule says about the paths that match.
"""

from __future__ import annotations

import re
from fnmatch import translate

__all__ = ["PathPattern"]


class PathPattern:
    """A pattern such as `*.html` or `assets/*`.

    One with a slash has to match the whole path below the directory that is served, any other one the name of the file
    alone. `*` stands for anything, slashes included. Case matters.

    Attributes:
        text: the pattern without white space around it; `*` if it matches every path.
    """

    def __init__(self, text: str) -> None:
        """Makes one of what the user has written; white space around it, and a slash in front, mean nothing."""
        text = text.strip(" \t")
        self.text = text if text.strip("*") not in ("", "/") else "*"
        self._is_for_path = "/" in text
        self._pattern = re.compile(translate(text.removeprefix("/")))

    def matches(self, path: str) -> bool:
        """Whether `path`, which is below the directory and does not start with a slash, matches."""
        return self._pattern.fullmatch(path if self._is_for_path else path.rpartition("/")[2]) is not None
