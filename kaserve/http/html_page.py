"""What the pages of kaserve have in common: how the document begins, and what it may load.

Knows HTML. Does not know what a page is about.
"""

from __future__ import annotations

__all__ = ["HEAD", "ICON", "content_security_policy", "in_url"]

ICON = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><path fill='none' stroke='#199e70' stroke-width='2' "
    "stroke-linejoin='round' d='M1 9h3l2-6 3 11 2-5h4'/></svg>"
)
"""The icon of the server's own pages, as SVG."""

HEAD = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:image/svg+xml,{icon}">
"""
"""The beginning of a page, up to where its style or the end of `<head>` belongs. The title has to be HTML, and the icon
SVG `in_url`. It is part of the page, so that no browser asks for /favicon.ico."""


def in_url(svg: str) -> str:
    """Returns an icon as it stands in a URL with data, within double quotes."""
    return svg.replace("#", "%23")


def content_security_policy(*allowed: str) -> str:
    """Returns the value of Content-Security-Policy for a page that loads nothing but pictures that are part of it.

    Args:
        allowed: further directives, such as the hashes of a style and a script in the page.
    """
    return "; ".join(("default-src 'none'", *allowed, "img-src data:", "base-uri 'none'", "frame-ancestors 'self'"))
