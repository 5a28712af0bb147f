"""What the pages that handlers make have in common: how the document begins, and what it may load.

Knows HTML. Does not know what a page is about.
"""

from __future__ import annotations

__all__ = ["HEAD", "content_security_policy"]

HEAD = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
"""
"""The beginning of a page, up to where its style or the end of `<head>` belongs. The title has to be HTML.

The icon is empty, so that no browser asks for /favicon.ico, which would be a 404 in the log of every visit.
"""


def content_security_policy(*allowed: str) -> str:
    """Returns the value of Content-Security-Policy for a page that loads nothing but pictures that are part of it.

    Args:
        allowed: further directives, such as the hashes of a style and a script in the page.
    """
    return "; ".join(("default-src 'none'", *allowed, "img-src data:", "base-uri 'none'", "frame-ancestors 'self'"))
