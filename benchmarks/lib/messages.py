"""The messages that the benchmarks of parts read and write, as bytes."""

MINIMAL = b"GET /hello HTTP/1.1\r\nHost: www.example.com\r\n\r\n"
assert len(MINIMAL) == 46

# The head of picohttpparser's own benchmark, which those of other parsers have taken over.
BROWSER = (
    b"GET /wp-content/uploads/2010/03/hello-kitty-darth-vader-pink.jpg HTTP/1.1\r\n"
    b"Host: www.kittyhell.com\r\n"
    b"User-Agent: Mozilla/5.0 (Macintosh; U; Intel Mac OS X 10.6; ja-JP-mac; rv:1.9.2.3) Gecko/20100401 Firefox/3.6.3 "
    b"Pathtraq/0.9\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    b"Accept-Language: ja,en-us;q=0.7,en;q=0.3\r\n"
    b"Accept-Encoding: gzip,deflate\r\n"
    b"Accept-Charset: Shift_JIS,utf-8;q=0.7,*;q=0.7\r\n"
    b"Keep-Alive: 115\r\n"
    b"Connection: keep-alive\r\n"
    b"Cookie: wp_ozh_wsa_visits=2; wp_ozh_wsa_visit_lasttime=xxxxxxxxxx; "
    b"__utma=xxxxxxxxx.xxxxxxxxxx.xxxxxxxxxx.xxxxxxxxxx.xxxxxxxxxx.x; "
    b"__utmz=xxxxxxxxx.xxxxxxxxxx.x.x.utmccn=(referral)|utmcsr=reader.livedoor.com|utmcct=/reader/|utmcmd=referral\r\n"
    b"\r\n"
)
assert len(BROWSER) == 703

FIELDS_100 = (
    b"GET / HTTP/1.1\r\nHost: www.example.com\r\n"
    + b"".join(b"X-Field-%02d: value number %02d\r\n" % (number, number) for number in range(99))
    + b"\r\n"
)
assert FIELDS_100.count(b"\r\n") == 102

HEADS = {"46 bytes": MINIMAL, "703 bytes": BROWSER, "100 fields": FIELDS_100}


def browsers() -> list[bytes]:
    """The browser's head with 4,096 different cookies: more than what remembers field lines can remember."""
    return [BROWSER.replace(b"visits=2", b"visits=%d" % (10_000 + number)) for number in range(4096)]


def chunked(content: bytes, chunk_size: int) -> bytes:
    """A chunked body (RFC 9112 section 7.1) of chunks of `chunk_size` bytes, without trailers."""
    pieces = split(content, chunk_size)
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def split(data: bytes, size: int) -> list[bytes]:
    """`data` in pieces of `size` bytes; the last one may be shorter."""
    return [data[start : start + size] for start in range(0, len(data), size)]
