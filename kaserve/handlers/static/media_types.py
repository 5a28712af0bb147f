"""The media type of a file, by the suffix of its name.

Knows Python's standard table and the types that are newer. Never looks into files, and never uses the tables of the
system (/etc/mime.types and the like), so that a site has the same types on the machine where it is made and where it is
served.
"""

from __future__ import annotations

import mimetypes

__all__ = ["media_type"]

_UNKNOWN = "application/octet-stream"

# What the standard table lacks, has only in newer Pythons, or calls by an obsolete name. RFC 9239 (JavaScript),
# RFC 7763 (Markdown), RFC 8081 (fonts), RFC 9512 (YAML), RFC 6713 (gzip), RFC 8878 (zstd); otherwise the IANA registry
# or, failing that, what browsers expect. Compressed files are files in their own right here, not encodings of others.
_ADDITIONS = """
    text/css                      css
    text/html                     html htm
    text/javascript               js mjs cjs
    text/calendar                 ics
    text/csv                      csv
    text/markdown                 md markdown mdx
    text/plain                    txt text log ini conf cfg env editorconfig lock diff patch nfo adoc org
    text/plain                    c h cc cpp hpp cs go java kt lua php pl proto rb rs scss sass less swift tsx jsx mts
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
    application/yaml              yaml yml
    application/toml              toml
    application/sql               sql
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
    image/svg+xml                 svg
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
    video/mp2t                    ts
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
    return f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type


def _make_table() -> dict[bytes, str]:
    """The values of Content-Type by suffix, which is in lower case and without its dot."""
    standard = mimetypes.MimeTypes().types_map[True]  # a new object has the standard entries only
    table = {suffix.removeprefix(".").lower().encode(): _content_type(name) for suffix, name in standard.items()}
    for line in _ADDITIONS.splitlines():
        name, *suffixes = line.split() or [""]
        table.update((suffix.encode(), _content_type(name)) for suffix in suffixes)
    return table


_TABLE = _make_table()


def media_type(name: bytes) -> str:
    """Returns the Content-Type of a file (RFC 9110 §8.3), by the last suffix of its name, in any case."""
    stem, _, suffix = name.rpartition(b".")
    return _TABLE.get(suffix.lower(), _UNKNOWN) if stem else _UNKNOWN  # .profile is a hidden name without a suffix
