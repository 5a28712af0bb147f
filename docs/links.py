"""A hook of MkDocs: links that leave docs/ work where the repository is read; on the site they say what is meant."""

from __future__ import annotations

import re
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)\s]+)\)", r"\1 (`\2` in the repository)", markdown)
