"""The media type of a file: by the rules of a site, by the suffix of its name, and where that says nothing, by how its
content begins.

Knows Python's standard table and the types that are newer. Never opens files, and never uses the tables of the system
(/etc/mime.types and the like), so that a site has the same types where it is made and where it is served.
"""

from __future__ import annotations

import codecs
import mimetypes
import re
from collections.abc import Mapping

from ...http.grammar import QUOTED_STRING_TEXT, TCHAR
from .paths import Segments
from .patterns import PathPattern

__all__ = ["SAMPLE_SIZE", "MediaTypes", "media_type", "own_coding", "parse_type"]

SAMPLE_SIZE = 512
"""Bytes of a file by which text is told from anything else."""

_UNKNOWN = "application/octet-stream"

# What the standard table lacks, has only in newer Pythons, or calls by an obsolete name. RFC 9239 (JavaScript),
# RFC 7763 (Markdown), RFC 8081 (fonts), RFC 6713 (gzip), RFC 8878 (zstd); otherwise the IANA registry or, failing that,
# what browsers expect. What people write and read as text is text/plain, also where there is a registered type
# (application/yaml of RFC 9512, application/toml, application/sql): browsers show the one and download the other.
# Compressed files are files in their own right here, not encodings of others.
_ADDITIONS = """
    text/css                      css
    text/html                     html htm
    text/javascript               js mjs cjs
    text/calendar                 ics
    text/csv                      csv
    text/markdown                 md markdown mdx
    text/plain                    txt text log ini conf cfg env editorconfig lock diff patch nfo adoc org properties
    text/plain                    yaml yml toml sql graphql gql tf hcl nix po pot tex sty bib
    text/plain                    c h cc cpp hpp cs go java kt kts lua php pl proto rb rs scss sass less swift tsx jsx
    text/plain                    mts cts m mm r jl ex exs erl hs clj dart zig nim scala groovy gradle vue svelte asm s
    text/plain                    sh bash zsh fish csh bat cmd ps1 vim el mk cmake am mod sum service
    text/tab-separated-values     tsv
    text/vcard                    vcf
    text/vtt                      vtt
    text/x-rst                    rst

    application/json              json map jsonc har topojson
    application/json5             json5
    application/geo+json          geojson
    application/ld+json           jsonld
    application/x-ndjson          ndjson jsonl
    application/manifest+json     webmanifest
    application/wasm              wasm
    application/cbor              cbor
    application/gpx+xml           gpx
    application/vnd.google-earth.kml+xml kml
    application/vnd.google-earth.kmz     kmz
    application/ttml+xml          ttml
    application/x-ipynb+json      ipynb
    application/vnd.apache.parquet parquet
    application/vnd.sqlite3       sqlite sqlite3 db
    application/pem-certificate-chain pem
    application/pkix-cert         cer crt
    application/x-bittorrent      torrent
    application/xslt+xml          xslt
    application/atom+xml          atom
    application/rss+xml           rss
    application/xhtml+xml         xhtml xht
    application/pdf               pdf
    application/rtf               rtf
    application/epub+zip          epub
    application/dash+xml          mpd
    application/vnd.apple.mpegurl m3u8

    application/gzip              gz tgz
    application/x-bzip2           bz2
    application/x-xz              xz
    application/zstd              zst
    application/x-brotli          br
    application/zip               zip
    application/x-7z-compressed   7z
    application/vnd.rar           rar
    application/java-archive      jar
    application/vnd.android.package-archive apk
    application/vnd.debian.binary-package   deb
    application/x-rpm             rpm
    application/x-xpinstall       xpi

    application/vnd.openxmlformats-officedocument.wordprocessingml.document   docx
    application/vnd.openxmlformats-officedocument.presentationml.presentation pptx
    application/vnd.openxmlformats-officedocument.spreadsheetml.sheet         xlsx
    application/vnd.oasis.opendocument.text         odt
    application/vnd.oasis.opendocument.presentation odp
    application/vnd.oasis.opendocument.spreadsheet  ods

    font/collection               ttc
    font/otf                      otf
    font/ttf                      ttf
    font/woff                     woff
    font/woff2                    woff2
    application/vnd.ms-fontobject eot

    image/apng                    apng
    image/avif                    avif
    image/bmp                     bmp
    image/heic                    heic
    image/heif                    heif
    image/jpeg                    jpg jpeg
    image/jxl                     jxl
    image/svg+xml                 svg svgz
    image/vnd.adobe.photoshop     psd
    image/vnd.djvu                djvu
    image/vnd.microsoft.icon      ico cur
    image/ktx2                    ktx2
    image/webp                    webp

    audio/aac                     aac
    audio/midi                    mid midi
    audio/matroska                mka
    audio/flac                    flac
    audio/mp4                     m4a
    audio/mpeg                    mp3
    audio/ogg                     ogg oga opus
    audio/wav                     wav
    audio/webm                    weba
    video/matroska                mkv
    video/mp2t                    m2ts
    video/iso.segment             m4s
    video/mp4                     mp4 m4v
    video/ogg                     ogv
    video/webm                    webm

    model/3mf                     3mf
    model/gltf-binary             glb
    model/gltf+json               gltf
    model/obj                     obj
    model/stl                     stl
    model/vnd.usdz+zip            usdz
"""


def _content_type(media_type: str) -> str:
    """A media type as the value of Content-Type.

    Text is labelled as UTF-8. JSON always is (RFC 8259 §11), and XML declares its own encoding.
    """
    is_bare_text = media_type.startswith("text/") and ";" not in media_type
    return f"{media_type}; charset=utf-8" if is_bare_text else media_type


def _make_table() -> dict[bytes, str]:
    """The values of Content-Type by suffix, which is in lower case and without its dot."""
    standard = mimetypes.MimeTypes().types_map[True]  # a new object has the standard entries only
    table = {suffix.removeprefix(".").lower().encode(): _content_type(name) for suffix, name in standard.items()}
    for line in _ADDITIONS.splitlines():
        name, *suffixes = line.split() or [""]
        table.update((suffix.encode(), _content_type(name)) for suffix in suffixes)
    return table


_TABLE = _make_table()
_PLAIN_TEXT = _TABLE[b"txt"]


def media_type(name: bytes) -> str:
    """Returns the Content-Type that a name suggests (RFC 9110 §8.3), by its last suffix, in any case."""
    suffix = _suffix(name)
    return _PLAIN_TEXT if suffix == _AMBIGUOUS else _TABLE.get(suffix, _UNKNOWN)


def _suffix(name: bytes) -> bytes:
    """The last suffix, in lower case and without its dot; none for .profile, which is a hidden name."""
    stem, _, suffix = name.rpartition(b".")
    return suffix.lower() if stem else b""


# Names whose type does not follow from a suffix.

_WELL_KNOWN = b".well-known"  # RFC 8615: the directory of names that other programs look for
_JSON = "application/json"
_NAMED = {
    b"apple-app-site-association": _JSON,  # at the root as well, for older devices
    b"webfinger": "application/jrd+json",  # RFC 7033 §10.2
    b"host-meta": "application/xrd+xml",  # RFC 6415 §3
    b"traffic-advice": "application/trafficadvice+json",
}
_AMBIGUOUS = b"ts"  # TypeScript, or the segments of a video (MPEG-2 TS), which have NULs

_TOKEN = TCHAR + "+"
_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(?:[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|{QUOTED_STRING_TEXT}))*")


def parse_type(text: str) -> tuple[str, str]:
    """Returns the pattern and the media type in `PATTERN=TYPE`, as `--type` has it.

    Raises:
        ValueError: says what it must be instead.
    """
    pattern, equals, value = text.partition("=")
    pattern, value = pattern.strip(" \t"), value.strip(" \t")
    if not equals or not pattern or _TYPE.fullmatch(value) is None:
        raise ValueError("must be PATTERN=TYPE, as in '*.log=text/plain'")
    return pattern, value


class MediaTypes:
    """The Content-Type of the files of a site."""

    def __init__(self, rules: Mapping[str, str] | None = None) -> None:
        """Makes the types of a site.

        Args:
            rules: media types by pattern (`PathPattern`); the first that matches decides. Text without a charset is
                labelled as UTF-8.
        """
        self._rules = [(PathPattern(text), _content_type(value)) for text, value in (rules or {}).items()]

    def by_rule(self, segments: Segments) -> str | None:
        """Returns what the first rule about the file at `segments` says; None without one."""
        if self._rules:
            path = b"/".join(segments).decode(errors="surrogateescape")
            for pattern, value in self._rules:
                if pattern.matches(path):
                    return value
        return None

    def by_name(self, segments: Segments) -> str | None:
        """Returns the type of the file at `segments`; None if its name does not say, so its content must."""
        given = self.by_rule(segments)
        if given is not None:
            return given
        name = segments[-1]
        is_well_known = segments[0] == _WELL_KNOWN
        if name in _NAMED and (is_well_known or _NAMED[name] is _JSON):
            return _NAMED[name]
        suffix = _suffix(name)
        if not suffix or suffix == _AMBIGUOUS or (is_well_known and suffix not in _TABLE):
            return None
        return _TABLE.get(suffix, _UNKNOWN)

    def by_content(self, segments: Segments, sample: bytes) -> str:
        """Returns the type of a file whose name does not say it.

        Args:
            segments: where it is.
            sample: its first `SAMPLE_SIZE` bytes, or more, or all of it.
        """
        suffix = _suffix(segments[-1])
        if not _is_text(sample):
            return _TABLE[b"m2ts"] if suffix == _AMBIGUOUS else _UNKNOWN
        if segments[0] == _WELL_KNOWN and sample.lstrip()[:1] in (b"{", b"["):  # openid-configuration, matrix/client
            return _JSON
        return _UNKNOWN if suffix and suffix != _AMBIGUOUS else _PLAIN_TEXT


# What build tools compress and pages then ask for by the compressed name, as those that Unity makes for WebGL do: they
# only work with a Content-Encoding. Unity's archives of data have their meaning in its directory "Build" alone, since
# elsewhere `covtype.data.gz` is a download. nginx and Caddy send none of them with a coding; Unity's manual has long
# settings for nginx. A browser shows an .svgz only with its coding, too (SVG 2, appendix "Conformance").
_BUILT = re.compile(rb".+\.(?:[cm]?js|wasm)\.(?:br|gz)|.+\.(?:css|json|map|svg|html?|data)\.br|.+\.svgz", re.IGNORECASE)
_BUILT_BY_UNITY = re.compile(rb".+\.(?:data|symbols\.json)\.gz")
_UNITY = b"Build"


def own_coding(segments: Segments) -> str:
    """Returns the coding of a compressed file that is of use under its own name only if it is decoded, "" for others.

    Archives and downloads (`a.tar.gz`, `data.json.gz`) are not among them.
    """
    name = segments[-1]
    if _BUILT.fullmatch(name) or (_BUILT_BY_UNITY.fullmatch(name) and _UNITY in segments[:-1]):
        return "br" if name[-3:].lower() == b".br" else "gzip"
    return ""


def _is_text(sample: bytes) -> bool:
    """Whether the beginning of a file is UTF-8 without a NUL. Its last character may be cut off."""
    sample = sample[:SAMPLE_SIZE]
    if b"\0" in sample:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample, final=len(sample) < SAMPLE_SIZE)
    except UnicodeDecodeError:
        return False
    return True
