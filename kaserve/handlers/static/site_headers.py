"""SiteHeaders: headers that the owner of a site adds to its responses.

Knows `--header`, `--cors`, `--cache-control`, fingerprinted names and nosniff. Does not know files or what describes
them (`representations`): it is given a path, once for each version of a file, and says which headers to add. Everything
is checked when the server starts, so that no response can fail because of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from copy import copy
from typing import NamedTuple

from ...http.messages import FieldLine
from ..middleware.cors import CORS_HEADERS
from .patterns import PathPattern

__all__ = ["FileHeaders", "Rule", "SiteHeaders", "is_fingerprinted", "parse_rule"]

_FOR_EVER = "max-age=31536000, immutable"  # RFC 8246
# Without any Cache-Control a browser may use a tenth of the age of a file as its freshness (RFC 9111 §4.2.2), and so
# show the old page for days after a deploy. To ask each time costs a 304 on a connection that is open anyway.
_ALWAYS_ASK: FieldLine = ("Cache-Control", "no-cache")
_NOSNIFF: FieldLine = ("X-Content-Type-Options", "nosniff")


class Rule(NamedTuple):
    """Cache-Control for the paths that match.

    Attributes:
        pattern: what matches; None for everything.
        value: the value of Cache-Control.
    """

    pattern: PathPattern | None
    value: str


# A pattern differs from a directive by characters that no directive has in its name: `*.html=no-cache`, but
# `max-age=60`.
_RULE = re.compile(r"(?:(?P<pattern>[^=]*[*?\[./][^=]*)=)?(?P<value>.*)", re.DOTALL)
_DIRECTIVE = r"[A-Za-z0-9-]+(?:=(?:[A-Za-z0-9-]+|\"[ !#-\[\]-~]*\"))?"  # RFC 9111 §5.2, without exotic characters
_DIRECTIVES = re.compile(rf"{_DIRECTIVE}(?:[ \t]*,[ \t]*{_DIRECTIVE})*")


def parse_rule(text: str) -> Rule:
    """Returns the rule in `[PATTERN=]DIRECTIVES`, as `--cache-control` has it.

    A pattern with a slash matches the path below the directory, any other one the name of the file.

    Raises:
        ValueError: it is not a rule; says what one looks like.
    """
    found = _RULE.fullmatch(text)
    value = found["value"].strip(" \t") if found else ""
    if found is None or _DIRECTIVES.fullmatch(value) is None:
        raise ValueError("must be DIRECTIVES or PATTERN=DIRECTIVES, as in '*.html=no-cache'")
    pattern = found["pattern"]
    return Rule(None if pattern is None else PathPattern(pattern), value)


# Fingerprints that build tools put in front of the suffix, of files that only build tools make: scripts, styles, fonts,
# WebAssembly and source maps. A picture or a JSON file with such a name may be named after its user or its commit, and
# be edited. If a name is taken for a fingerprinted one by mistake, clients do not ask for it again for a year, so the
# patterns are narrow; a fingerprint that is not recognised costs a 304. Words, versions and dates do not match: letters
# and digits must alternate.
_HEX = r"(?=[0-9a-f]*[0-9][a-f])(?=[0-9a-f]*[a-f][0-9])[0-9a-f]"  # webpack, Parcel, Django, Sprockets, Hugo
_BASE32 = r"(?=[A-Z2-7]*[2-7][A-Z])[A-Z2-7]{8}"  # esbuild
# Vite, Rollup: with a capital in a place that capitals of words do not have.
_BASE64 = r"(?=\w*[0-9])(?=\w*[a-z])(?=\w*[A-Z](?![a-z]))[A-Za-z0-9_]{8}"
_FINGERPRINT = re.compile(
    rf"(?:.*[^-._][-.](?:{_HEX}{{8,64}}|{_BASE32}|{_BASE64})|{_HEX}{{16,64}})"
    r"(?:\.(?:min|chunk|bundle|module))?"
    r"\.(?:[cm]?js|css|wasm|map|woff2?|ttf|otf|eot)(?:\.map)?(?:\.(?:gz|br|zst))?",
    re.ASCII,
)
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")  # says which thing it is, not how it looks today


def is_fingerprinted(name: str) -> bool:
    """Whether a file called `name` never changes, because another content gets another name."""
    return _FINGERPRINT.fullmatch(name) is not None and _UUID.search(name) is None


class FileHeaders(NamedTuple):
    """What a site adds for one file.

    Attributes:
        full: to a response with content.
        not_modified: to a 304, which has no content to describe (RFC 9110 §15.4.5).
    """

    full: tuple[FieldLine, ...]
    not_modified: tuple[FieldLine, ...]


class SiteHeaders:
    """The headers that are added to the responses of a site.

    Attributes:
        always: those of every response that is not about a file.
        for_errors: those of an error, which has content that explains it.
    """

    def __init__(
        self,
        headers: Iterable[FieldLine] = (),
        *,
        cors: bool = False,
        cache_control: Iterable[Rule] = (),
        immutable: bool = False,
    ) -> None:
        """Makes them once, for all responses.

        Args:
            headers: headers for every response, each as `parse_header` returns it. They win over all others here.
            cors: whether pages of other sites may read the responses.
            cache_control: rules as `parse_rule` returns them; the first that matches decides. What none of them is
                about is `no-cache`: clients keep it, and ask each time whether it has changed.
            immutable: whether fingerprinted names may be cached for ever if no rule is about them. Only for a site
                whose files are made by a build tool.
        """
        given = tuple(headers)
        names = {name.lower() for name, _ in given}
        self.always = tuple(line for line in (CORS_HEADERS if cors else ()) if line[0].lower() not in names) + given
        self._with_content = () if _NOSNIFF[0].lower() in names else (_NOSNIFF,)
        self.for_errors = self._with_content + self.always
        self._is_decided = "cache-control" in names
        self._rules = tuple(cache_control)
        self._immutable = immutable
        self._for_ever: FieldLine = ("Cache-Control", f"public, {_FOR_EVER}")

    def for_users(self) -> SiteHeaders:
        """Returns the same for responses to certain users only, which shared caches must not store (RFC 9111 §3.5).

        A rule that says `public` is kept: it is the owner's decision.
        """
        twin = copy(self)
        twin._for_ever = ("Cache-Control", f"private, {_FOR_EVER}")
        return twin

    def for_file(self, path: bytes) -> FileHeaders:
        """Returns what is added for a file.

        Args:
            path: of the file that was asked for, below the directory that is served; not that of a precompressed file
                that is sent in its place. That of a listing is empty or ends in a slash.
        """
        not_modified = (*self.always, *self._cache_control(path.decode(errors="surrogateescape")))
        return FileHeaders(self._with_content + not_modified, not_modified)

    def _cache_control(self, path: str) -> tuple[FieldLine, ...]:
        if self._is_decided:
            return ()
        for rule in self._rules:
            if rule.pattern is None or rule.pattern.matches(path):
                return (("Cache-Control", rule.value),)
        return (self._for_ever if self._immutable and is_fingerprinted(path.rpartition("/")[2]) else _ALWAYS_ASK,)
