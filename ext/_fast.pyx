# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The contract of `kaserve.http.wire`, compiled.

Knows the same syntax as `wire_pure`, character by character. Every difference is a bug, and the differential tests look
for one. Bytes are read through pointers, and every pointer is compared with the end of its bytes before it is read. The
NUL at the end of a bytes object is not relied on, since a head is usually a part of one.

A head is only checked here, in one pass. The pairs that a handler sees are made on demand (`Fields`): most handlers
look at few of a browser's fields, or at none.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from kaserve.http.headers cimport FieldSource
from kaserve.http.messages cimport Request

from kaserve.http.errors import HTTPError
from kaserve.http.headers import (
    CLOSE, CONNECTION, CONTENT_LENGTH, FLAGS, HOP_BY_HOP, HOST, DUPLICATE_HOST, KEEP_ALIVE, TRANSFER_ENCODING
)

__all__ = ["ChunkedDecoder", "encode_head", "find_head_end", "join", "parse_head"]

cdef extern from "Python.h":
    str PyUnicode_New(Py_ssize_t size, Py_UCS4 most)
    # Declared for `object`: Cython would reject instances of a subclass of str for a parameter declared `str`. Callers
    # have checked with isinstance().
    unsigned char *PyUnicode_1BYTE_DATA(object text)
    bint PyUnicode_IS_ASCII(object text)
    int PyUnicode_KIND(object text)
    int PyUnicode_1BYTE_KIND
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    str PyUnicode_DecodeLatin1(const char *data, Py_ssize_t size, const char *errors)

cdef extern from "scan.h":
    const unsigned char *kas_find_head_end(const unsigned char *at, const unsigned char *end)
    ctypedef struct kas_controls_state "struct kas_controls":
        pass
    kas_controls_state kas_controls(const unsigned char *at, const unsigned char *end)
    const unsigned char *kas_next_control(kas_controls_state *controls)
    bint kas_is_name(const unsigned char *token, const unsigned char *name, Py_ssize_t size)
    const unsigned char *kas_skip_name(const unsigned char *at, const unsigned char *end)
    const unsigned char *kas_skip_value(const unsigned char *at, const unsigned char *end)
    const unsigned char *kas_skip_target(const unsigned char *at, const unsigned char *end)

ctypedef const unsigned char *Bytes


# Characters.

# The tchars (RFC 9110 section 5.6.2), each in lower case; 0 for any other byte.
cdef unsigned char TCHAR[256]
# The value of a hexadecimal digit; 255 for any other byte.
cdef unsigned char HEX[256]

cdef int _fill_tables() except -1:
    cdef int byte
    for byte in range(256):
        TCHAR[byte] = 0
        HEX[byte] = 255
    for byte in b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz":
        TCHAR[byte] = byte
    for byte in b"ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        TCHAR[byte] = byte + 32
    for byte in range(10):
        HEX[48 + byte] = byte
    for byte in range(6):
        HEX[65 + byte] = HEX[97 + byte] = 10 + byte
    return 0

_fill_tables()


cdef inline Bytes _skip_token(Bytes at, Bytes end) noexcept:
    """Returns the first byte after the token (RFC 9110 section 5.6.2) that starts at `at`."""
    at = kas_skip_name(at, end)  # sixteen bytes at once, but it knows only the tchars that most names are made of
    while at < end and TCHAR[at[0]]:
        at += 1
    return at


cdef inline Bytes _skip_space(Bytes at, Bytes end) noexcept:
    """Returns the first byte after optional white space (RFC 9110 section 5.6.3)."""
    while at < end and (at[0] == c' ' or at[0] == c'\t'):
        at += 1
    return at


cdef inline Bytes _cut_space(Bytes begin, Bytes end) noexcept:
    """Returns the end of begin..end without its trailing white space."""
    while end > begin and ((end - 1)[0] == c' ' or (end - 1)[0] == c'\t'):
        end -= 1
    return end


cdef inline bint _ends_line(Bytes at, Bytes end) noexcept:
    return end - at >= 2 and at[0] == c'\r' and at[1] == c'\n'


cdef inline str _latin1(Bytes begin, Bytes end):
    return PyUnicode_DecodeLatin1(<const char *>begin, end - begin, NULL)


# Known field names: one str object for each, found without creating another one. The table is an open-addressing hash
# table that is filled once, below, and never changes afterwards.

cdef struct Name:
    Bytes text  # in lower case; NULL in a free slot
    Py_ssize_t size
    int flag

cdef enum:
    NAME_SLOTS = 512  # far more than there are names, so that most are found in the first slot

cdef Name _names[NAME_SLOTS]
cdef list _name_objects = [None] * NAME_SLOTS
cdef list _name_bytes = []  # keeps the bytes alive that `text` points into


# For each length of a name: the first letters of the names that have a flag, as bits. Nearly all other names are told
# apart by this alone, so that most field lines need no look-up while a head is checked.
cdef uint32_t _flagged[32]


cdef inline unsigned int _name_slot(Bytes name, Py_ssize_t size) noexcept:
    """Returns the slot in which the search for a name begins. The name has a byte at least; case does not matter."""
    cdef unsigned int first = TCHAR[name[0]], middle = TCHAR[name[size >> 1]], last = TCHAR[name[size - 1]]
    return (<unsigned int>size * 41 + first * 7 + middle * 3 + last) % NAME_SLOTS


cdef inline int _find_name(Bytes name, Py_ssize_t size) noexcept:
    """Returns the slot of a name, in any case; -1 for an unknown one."""
    cdef unsigned int slot = _name_slot(name, size)
    while _names[slot].text != NULL:
        if _names[slot].size == size and kas_is_name(name, _names[slot].text, size):
            return slot
        slot = (slot + 1) % NAME_SLOTS
    return -1


cdef int _add_name(str name) except -1:
    cdef bytes raw = name.encode("ascii")
    cdef Bytes text = <Bytes>PyBytes_AS_STRING(raw)
    cdef unsigned int slot = _name_slot(text, len(raw))
    while _names[slot].text != NULL:
        slot = (slot + 1) % NAME_SLOTS
    _names[slot] = Name(text, len(raw), FLAGS.get(name, 0))
    _name_objects[slot] = name
    _name_bytes.append(raw)
    if name in FLAGS:
        _flagged[len(raw)] |= <uint32_t>1 << (text[0] & 31)
    return 0


def _add_names():
    """Fills the table with the names that have a flag and those that browsers, proxies and tools send."""
    common = """
        accept accept-charset accept-encoding accept-language access-control-request-headers
        access-control-request-method authorization cache-control content-disposition content-encoding content-range
        content-type cookie dnt forwarded from if-match if-modified-since if-none-match if-range if-unmodified-since
        last-event-id max-forwards origin pragma priority proxy-authorization purpose range referer save-data sec-ch-ua
        sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user sec-gpc
        sec-websocket-key sec-websocket-version traceparent tracestate upgrade-insecure-requests user-agent via
        x-csrf-token x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto x-real-ip x-request-id
        x-requested-with
    """
    for name in [*FLAGS, *common.split()]:
        _add_name(name)

_add_names()

# As C integers: the names above are Python objects.
cdef int _HOST = HOST, _DUPLICATE_HOST = DUPLICATE_HOST, _CONNECTION = CONNECTION
cdef int _CLOSE = CLOSE, _KEEP_ALIVE = KEEP_ALIVE
# The fields that the protocol writes itself.
cdef int _OWN_FIELDS = CONTENT_LENGTH | TRANSFER_ENCODING | CONNECTION | HOP_BY_HOP


cdef inline int _flag_of(Bytes name, Bytes end) noexcept:
    """Returns the bit of a field name (see `headers.FLAGS`), in any case; 0 if it has none."""
    cdef Py_ssize_t size = end - name
    cdef int slot
    if size >= 32 or not _flagged[size] >> (name[0] & 31) & 1:
        return 0
    slot = _find_name(name, size)
    return _names[slot].flag if slot >= 0 else 0


cdef str _name_of(Bytes name, Bytes end):
    """Returns a field name as a str, in lower case."""
    cdef Py_ssize_t size = end - name, index
    cdef int slot = _find_name(name, size)
    cdef str text
    cdef unsigned char *into
    if slot >= 0:
        return <str>_name_objects[slot]
    text = PyUnicode_New(size, 127)
    into = PyUnicode_1BYTE_DATA(text)
    for index in range(size):
        into[index] = TCHAR[name[index]]
    return text


# Caches of what was received: the next request often has the same method, target, host and field lines, and then gets
# the same objects. Each text has one slot, which follows from its bytes, and stays there until another text needs the
# same slot. So a look-up is one comparison, and nothing has to be counted or evicted.

cdef enum:
    SLOTS = 256  # as many as the hash below has values: it is 8 bits
    MAX_CACHED = 512  # bytes of one text, so that at most 128 KiB of each kind are kept alive

cdef list _texts = [""] * SLOTS
cdef list _lines = [b""] * SLOTS  # as received
cdef list _fields = [None] * SLOTS  # the pair that each of `_lines` was parsed into
cdef list _raw_fields = [None] * SLOTS  # the same pair as bytes; None until it is asked for


cdef inline int _slot_of(Bytes begin, Bytes end) noexcept:
    """Hashes the size, the first eight and the last eight bytes. Texts that differ only between those share a slot,
    which costs hits and nothing else. The constants are those of Fibonacci hashing and of xxHash."""
    cdef Py_ssize_t size = end - begin
    cdef uint64_t first = 0, last = 0
    if size >= 8:
        memcpy(&first, begin, 8)
        memcpy(&last, end - 8, 8)
    elif size:
        first = <uint64_t>begin[0] << 16 | <uint64_t>begin[size >> 1] << 8 | begin[size - 1]
    return <int>((((first * 0x9E3779B97F4A7C15ULL) ^ last) + <uint64_t>size) * 0xC2B2AE3D27D4EB4FULL >> 56)


cdef str _shared(Bytes begin, Bytes end):
    """Returns begin..end as a str, decoded as Latin-1, from the cache if it is there."""
    cdef Py_ssize_t size = end - begin
    cdef str text
    cdef int slot
    if size > MAX_CACHED:
        return _latin1(begin, end)
    slot = _slot_of(begin, end)
    text = <str>_texts[slot]
    if PyUnicode_GET_LENGTH(text) != size or memcmp(PyUnicode_1BYTE_DATA(text), begin, size):
        text = _texts[slot] = _latin1(begin, end)
    return text


cdef tuple _shared_field(Bytes line, Bytes end):
    """Returns the pair of name and value in a field line that has been checked, from the cache if it is there."""
    cdef Py_ssize_t size = end - line
    cdef bytes known
    cdef tuple field
    cdef int slot
    if size > MAX_CACHED:
        return _field(line, end)
    slot = _slot_of(line, end)
    known = <bytes>_lines[slot]
    if PyBytes_GET_SIZE(known) == size and memcmp(PyBytes_AS_STRING(known), line, size) == 0:
        return <tuple>_fields[slot]
    field = _field(line, end)
    _lines[slot] = PyBytes_FromStringAndSize(<const char *>line, size)
    _fields[slot] = field
    _raw_fields[slot] = None
    return field


cdef tuple _shared_raw_field(Bytes line, Bytes end):
    """Returns the same pair as bytes, for handlers that want those."""
    cdef tuple field, raw
    cdef int slot
    if end - line > MAX_CACHED:
        return _raw_field(_field(line, end))
    field = _shared_field(line, end)
    slot = _slot_of(line, end)
    raw = <tuple>_raw_fields[slot]
    if raw is None:
        raw = _raw_fields[slot] = _raw_field(field)
    return raw


cdef tuple _raw_field(tuple field):
    return (<str>field[0]).encode("ascii"), (<str>field[1]).encode("latin-1")


cdef tuple _field(Bytes line, Bytes end):
    """Parses a field line that has been checked."""
    cdef Bytes colon = _skip_token(line, end)
    return (_name_of(line, colon), _value(colon, end))


cdef inline str _value(Bytes colon, Bytes end):
    """Returns the value of a field line, without the white space around it."""
    cdef Bytes value = _skip_space(colon + 1, end)
    return _latin1(value, _cut_space(value, end))


# Heads.

cpdef Py_ssize_t find_head_end(bytes data, Py_ssize_t start) except -2:
    """See `wire`."""
    cdef Bytes begin, found
    if data is None:
        raise TypeError("not bytes")
    if not 0 <= start <= PyBytes_GET_SIZE(data):
        raise IndexError(start)
    begin = <Bytes>PyBytes_AS_STRING(data)
    found = kas_find_head_end(begin + start, begin + PyBytes_GET_SIZE(data))
    return found - begin if found != NULL else -1


@cython.final
cdef class Fields(FieldSource):
    """The field lines of a head that has been checked: a `headers.FieldSource`, which parses them on demand."""

    cdef bytes _data
    cdef Py_ssize_t _start, _end  # of the field lines
    cdef Py_ssize_t _count

    def __len__(self):
        return self._count

    cpdef list lines(self):
        cdef Bytes at = <Bytes>PyBytes_AS_STRING(self._data) + self._start
        cdef Bytes end = <Bytes>PyBytes_AS_STRING(self._data) + self._end
        cdef Bytes stop
        cdef kas_controls_state controls = kas_controls(at, end)
        cdef list lines = []
        while at < end:
            stop = _line_end(&controls)
            lines.append(_shared_field(at, stop))
            at = stop + 2
        return lines

    cpdef list raw_lines(self):
        cdef Bytes at = <Bytes>PyBytes_AS_STRING(self._data) + self._start
        cdef Bytes end = <Bytes>PyBytes_AS_STRING(self._data) + self._end
        cdef Bytes stop
        cdef kas_controls_state controls = kas_controls(at, end)
        cdef list lines = []
        while at < end:
            stop = _line_end(&controls)
            lines.append(_shared_raw_field(at, stop))
            at = stop + 2
        return lines

    cpdef list values(self, str name):
        cdef Bytes at = <Bytes>PyBytes_AS_STRING(self._data) + self._start
        cdef Bytes end = <Bytes>PyBytes_AS_STRING(self._data) + self._end
        cdef Bytes stop, value
        cdef kas_controls_state controls = kas_controls(at, end)
        cdef list values = []
        if name is None or not PyUnicode_IS_ASCII(name):
            return values
        cdef Bytes lower = PyUnicode_1BYTE_DATA(name)
        cdef Py_ssize_t size = PyUnicode_GET_LENGTH(name)
        while at < end:
            stop = _line_end(&controls)
            if stop - at > size and at[size] == c':' and _is_name(at, lower, size):
                value = _skip_space(at + size + 1, stop)
                values.append(_shared(value, _cut_space(value, stop)))
            at = stop + 2
        return values


cdef inline Bytes _line_end(kas_controls_state *controls) noexcept:
    """Returns the CRLF of the next line of a head that has been checked: its line ends are its only control bytes."""
    cdef Bytes cr = kas_next_control(controls)
    kas_next_control(controls)  # the LF
    return cr


cdef inline bint _is_name(Bytes token, Bytes name, Py_ssize_t size) noexcept:
    """Returns whether `token` is `name`, which is in lower case; both have this size.

    Unlike kas_is_name() this is exact for any `name`: a handler may ask for one with bytes that no token has.
    """
    cdef Py_ssize_t index
    for index in range(size):
        if TCHAR[token[index]] != name[index] or not name[index]:
            return False
    return True


cdef enum:
    MAX_WASTE = 4096  # bytes around a head that its fields may keep alive; beyond that they copy their own bytes


cpdef Request parse_head(bytes data, Py_ssize_t start, Py_ssize_t end):
    """See `wire`."""
    if data is None:
        raise TypeError("not bytes")
    if not 0 <= start <= end <= PyBytes_GET_SIZE(data):
        raise IndexError(start, end)
    cdef Bytes begin = <Bytes>PyBytes_AS_STRING(data) + start
    cdef Bytes stop = <Bytes>PyBytes_AS_STRING(data) + end
    cdef Bytes method_end, target, target_end, version, at, colon, line_end, value
    cdef kas_controls_state controls
    cdef str host = ""
    cdef int flags = 0, flag
    cdef Py_ssize_t count = 0

    # method SP request-target SP "HTTP/" DIGIT "." DIGIT CRLF (RFC 9112 section 3)
    method_end = _skip_token(begin, stop)
    if method_end == begin or method_end == stop or method_end[0] != c' ':
        raise HTTPError(400, "the request line is malformed")
    target = method_end + 1
    target_end = kas_skip_target(target, stop)
    version = target_end + 1
    if (
        target_end == target or stop - target_end < 11 or target_end[0] != c' '
        or version[0] != c'H' or version[1] != c'T' or version[2] != c'T' or version[3] != c'P' or version[4] != c'/'
        or not c'0' <= version[5] <= c'9' or version[6] != c'.' or not c'0' <= version[7] <= c'9'
        or version[8] != c'\r' or version[9] != c'\n'
    ):
        raise HTTPError(400, "the request line is malformed")
    if version[5] != c'1':
        raise HTTPError(505, "this server speaks HTTP/1.0 and HTTP/1.1 only")

    # *( field-name ":" OWS field-value OWS CRLF ) (RFC 9112 section 5)
    at = version + 10
    controls = kas_controls(at, stop)
    while at < stop:
        colon = _skip_token(at, stop)
        if colon == at or colon == stop or colon[0] != c':':
            raise _malformed(at)
        line_end = kas_next_control(&controls)
        if not _ends_line(line_end, stop):
            raise _malformed(at)
        kas_next_control(&controls)  # its LF
        flag = _flag_of(at, colon)
        if flag:
            if flag == _HOST:
                if flags & _HOST:
                    flag = _DUPLICATE_HOST
                else:
                    value = _skip_space(colon + 1, line_end)
                    host = _shared(value, _cut_space(value, line_end))
            elif flag == _CONNECTION:
                flag |= _options(colon + 1, line_end)
            flags |= flag
        count += 1
        at = line_end + 2

    cdef Fields fields = Fields.__new__(Fields)
    fields._data = data
    fields._start = version + 10 - begin + start
    fields._end = end
    if PyBytes_GET_SIZE(data) - (end - start) > MAX_WASTE:
        fields._data = PyBytes_FromStringAndSize(<const char *>version + 10, stop - version - 10)
        fields._start, fields._end = 0, stop - version - 10
    fields._count = count
    cdef Request request = Request.__new__(Request)
    request._fill(
        _shared(begin, method_end), _shared(target, target_end), 0 if version[7] == c'0' else 1, fields, flags, host
    )
    return request


cdef int _options(Bytes at, Bytes end) noexcept:
    """Returns the bits of the options in the value of Connection, which has been checked (RFC 9110 section 7.6.1)."""
    cdef int flags = 0
    cdef Py_ssize_t size
    cdef Bytes stop
    while True:
        at = _skip_space(at, end)
        stop = <Bytes>memchr(at, c',', end - at) if at < end else NULL
        if stop == NULL:
            stop = end
        size = _cut_space(at, stop) - at
        if size == 5 and kas_is_name(at, <Bytes>b"close", size):
            flags |= _CLOSE
        elif size == 10 and kas_is_name(at, <Bytes>b"keep-alive", size):
            flags |= _KEEP_ALIVE
        if stop == end:
            return flags
        at = stop + 1


cdef _malformed(Bytes line):
    """Returns the error for a malformed field line."""
    if line[0] == c' ' or line[0] == c'\t':
        return HTTPError(400, "a field line is folded")
    return HTTPError(400, "a field line is malformed")


# The cache of what is sent: handlers often use the very same pair objects again (a tuple literal is one constant). Each
# pair has one slot, which follows from its address, and stays there with the line that was encoded from it until
# another pair needs the slot. The slot keeps the pair alive, so no other object can have its address meanwhile.
cdef object _FREE = object()  # in the free slots: no field of a response is this object
cdef list _sent_fields = [_FREE] * SLOTS
cdef list _sent_lines = [b""] * SLOTS
cdef int _sent_flags[SLOTS]


cdef inline int _field_slot(field) noexcept:
    return <int>((<size_t><PyObject *>field >> 4) % SLOTS)


cdef inline bytes _sent_line(field):
    """Returns the line of `field` if it is in the cache, otherwise None."""
    cdef int slot = _field_slot(field)
    return <bytes>_sent_lines[slot] if <object>_sent_fields[slot] is field else None


cdef int _cache_line(field, const char *line, Py_ssize_t size, int flags) except -1:
    """Adds a line to the cache, if `field` is a plain tuple of two plain str.

    Instances of subclasses are not cached: they are released when their slot is used again, and a __del__ of theirs
    would run in the middle of `encode_head`.
    """
    cdef int slot
    if size > MAX_CACHED:
        return 0
    if type(field) is tuple and type((<tuple>field)[0]) is str and type((<tuple>field)[1]) is str:
        slot = _field_slot(field)
        _sent_lines[slot] = PyBytes_FromStringAndSize(line, size)
        _sent_fields[slot] = field
        _sent_flags[slot] = flags
    return 0


cpdef tuple encode_head(fields):
    """See `wire`."""
    cdef list lines = fields if type(fields) is list else list(fields)
    cdef int flags = 0, flag
    cdef Py_ssize_t size = 0
    cdef Bytes name, name_end, value, value_end
    cdef bytes encoded, line
    cdef char *into
    cdef char *begin
    if len(lines) == 1:
        line = _sent_line(lines[0])
        if line is not None:
            return line, _sent_flags[_field_slot(lines[0])]
    for field in lines:
        size += _max_line_size(field)
    encoded = PyBytes_FromStringAndSize(NULL, size)
    into = PyBytes_AS_STRING(encoded)
    # Until the end of this loop no Python code runs that could change the list or the pairs, which were just measured:
    # the bytes are written without another check of their size. Raising an exception is the only way out.
    for field in lines:
        line = _sent_line(field)
        if line is not None:
            flags |= _sent_flags[_field_slot(field)]
            into = _write(into, PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line))
            continue
        if not _is_pair(field):
            raise TypeError(f"not a pair of str: {field!r}")
        name_object, value_object = <tuple>field
        if not PyUnicode_IS_ASCII(name_object) or PyUnicode_KIND(value_object) != PyUnicode_1BYTE_KIND:
            raise ValueError(f"a field is not Latin-1: {field!r}")
        name = PyUnicode_1BYTE_DATA(name_object)
        name_end = name + PyUnicode_GET_LENGTH(name_object)
        value = PyUnicode_1BYTE_DATA(value_object)
        value_end = value + PyUnicode_GET_LENGTH(value_object)
        if name == name_end or _skip_token(name, name_end) != name_end:
            raise ValueError(f"not a field name: {name_object!r}")
        if kas_skip_value(value, value_end) != value_end:
            raise ValueError(f"not a field value: {field!r}")
        flag = _flag_of(name, name_end)
        if flag == _CONNECTION:
            flag |= _options(value, value_end)
        flags |= flag
        begin = into
        if not flag & _OWN_FIELDS:
            value = _skip_space(value, value_end)
            into = _write(into, name, name_end - name)
            into = _write(into, b": ", 2)
            into = _write(into, value, _cut_space(value, value_end) - value)
            into = _write(into, b"\r\n", 2)
        _cache_line(field, begin, into - begin, flag)
    size = into - PyBytes_AS_STRING(encoded)
    return encoded if size == PyBytes_GET_SIZE(encoded) else encoded[:size], flags


cdef inline bint _is_pair(field) noexcept:
    """Returns whether `field` is a tuple of two str."""
    return (
        isinstance(field, tuple) and PyTuple_GET_SIZE(field) == 2
        and isinstance(<object>PyTuple_GET_ITEM(field, 0), str) and isinstance(<object>PyTuple_GET_ITEM(field, 1), str)
    )


cdef inline Py_ssize_t _max_line_size(field) noexcept:
    """Returns how many bytes the line of `field` has at most; 0 for what is not a pair, which is an error later."""
    if not _is_pair(field):
        return 0
    return (
        PyUnicode_GET_LENGTH(<object>PyTuple_GET_ITEM(field, 0))
        + PyUnicode_GET_LENGTH(<object>PyTuple_GET_ITEM(field, 1)) + 4
    )


cpdef bytes join(pieces):
    """See `wire`."""
    cdef Py_ssize_t size = 0
    cdef bytes joined
    cdef char *into
    cdef tuple all = pieces if type(pieces) is tuple else tuple(pieces)
    for piece in all:
        if type(piece) is not bytes:
            raise TypeError(f"not bytes: {piece!r}")
        size += PyBytes_GET_SIZE(piece)
    joined = PyBytes_FromStringAndSize(NULL, size)
    into = PyBytes_AS_STRING(joined)
    for piece in all:
        into = _write(into, PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece))
    return joined


cdef inline char *_write(char *into, const void *text, Py_ssize_t size) noexcept:
    """Copies `text`, and returns where the next one goes."""
    memcpy(into, text, size)
    return into + size


# Chunks.

cdef enum Line:
    SIZE  # chunk-size [ chunk-ext ]
    CHUNK_END  # empty: the CRLF after the content of a chunk
    TRAILER  # a trailer field, or empty: the end of the body

cdef struct Span:
    Bytes begin
    Py_ssize_t size

cdef enum:
    MAX_SPANS = 128  # pieces of content that are copied together: a bytes object per tiny chunk would cost more


@cython.final
cdef class ChunkedDecoder:
    """See `wire`. Between two calls it holds at most one incomplete line."""

    cdef public list content, trailers
    cdef public bint done
    cdef public unsigned long long missing
    cdef bytes _held
    cdef Line _line  # what the next line is
    cdef Py_ssize_t _max_chunk_line, _max_field_size, _max_fields
    cdef Py_ssize_t _extra_left  # bytes of extensions and trailers that may still come

    def __init__(self, limits):
        self._max_chunk_line = limits.chunk_line
        self._max_field_size = limits.field_size
        self._max_fields = limits.fields
        self._extra_left = limits.head
        self._held = b""
        self._line = SIZE
        self.content = []
        self.missing = 0
        self.trailers = []
        self.done = False

    def feed(self, bytes data not None, Py_ssize_t start):
        """See `wire`."""
        cdef Py_ssize_t shift = 0  # what to add to an index of `data` to get the caller's, once held bytes are in front
        cdef Bytes begin, at, end, line_end
        cdef Span spans[MAX_SPANS]
        cdef int count = 0
        if not 0 <= start <= PyBytes_GET_SIZE(data):
            raise IndexError(start)
        if self._held:
            shift = start - PyBytes_GET_SIZE(self._held)
            data = self._held + data[start:]
            start = 0
            self._held = b""
        begin = <Bytes>PyBytes_AS_STRING(data)
        end = begin + PyBytes_GET_SIZE(data)
        at = begin + start
        while not self.done:
            if self.missing:
                if count == MAX_SPANS:
                    self._add_content(data, spans, count)
                    count = 0
                spans[count] = self._read_content(at, end)
                at += spans[count].size
                count += spans[count].size > 0
                if self.missing:
                    break
            line_end = at if _ends_line(at, end) else _find_line_end(at, end)
            if line_end == NULL:
                self._hold(at, end)
                at = end
                break
            if self._line == SIZE:
                self._read_size(at, line_end)
            elif self._line == CHUNK_END:
                if at != line_end:
                    raise HTTPError(400, "a chunk is longer than its size")
                self._line = SIZE
            else:
                self._read_trailer(at, line_end)
            at = line_end + 2
        self._add_content(data, spans, count)
        return at - begin + shift

    cdef inline Span _read_content(self, Bytes at, Bytes end) noexcept:
        """Returns as much of the chunk as has arrived."""
        cdef Py_ssize_t size = end - at
        if <unsigned long long>size > self.missing:
            size = <Py_ssize_t>self.missing
        self.missing -= <unsigned long long>size
        return Span(at, size)

    cdef int _add_content(self, bytes data, Span *spans, int count) except -1:
        """Adds the spans of `data` to the content, as one piece: `data` itself if they are all of it."""
        cdef Py_ssize_t size = 0
        cdef bytes piece
        cdef char *into
        cdef int index
        for index in range(count):
            size += spans[index].size
        if size == 0:
            return 0
        if size == PyBytes_GET_SIZE(data):
            self.content.append(data)
            return 0
        piece = PyBytes_FromStringAndSize(NULL, size)
        into = PyBytes_AS_STRING(piece)
        for index in range(count):
            into = _write(into, spans[index].begin, spans[index].size)
        self.content.append(piece)
        return 0

    cdef int _read_size(self, Bytes at, Bytes end) except -1:
        """Reads chunk-size [ chunk-ext ], which starts a chunk or, if it is 0, the trailers."""
        cdef Bytes digits
        cdef unsigned long long size = 0
        if end - at > self._max_chunk_line or at == end or HEX[at[0]] == 255:
            raise HTTPError(400, "a chunk size is malformed")
        while at < end and at[0] == c'0':
            at += 1
        digits = at
        while at < end and HEX[at[0]] != 255:
            size = size << 4 | HEX[at[0]]
            at += 1
        if at - digits > 16 or not _are_extensions(at, end):
            raise HTTPError(400, "a chunk size is malformed")
        self._extra_left -= end - at
        if self._extra_left < 0:
            raise HTTPError(400, "there are too many chunk extensions")
        self.missing = size
        self._line = CHUNK_END if size else TRAILER
        return 0

    cdef int _read_trailer(self, Bytes at, Bytes end) except -1:
        """Reads a trailer field, or the empty line that ends the body (RFC 9112 section 7.1.2)."""
        cdef Bytes colon
        if at == end:
            self.done = True
            return 0
        if end - at > self._max_field_size or len(self.trailers) >= self._max_fields:
            raise HTTPError(431, "the trailers are too large")
        self._extra_left -= end - at
        if self._extra_left < 0:
            raise HTTPError(431, "the trailers are too large")
        colon = _skip_token(at, end)
        if colon == at or colon == end or colon[0] != c':' or kas_skip_value(colon + 1, end) != end:
            raise _malformed(at)
        self.trailers.append(_field(at, end))
        return 0

    cdef int _hold(self, Bytes at, Bytes end) except -1:
        """Keeps the start of a line for the next call, or raises HTTPError if it cannot become a valid line."""
        cdef Py_ssize_t size = end - at
        if self._line == CHUNK_END and not (size == 0 or (size == 1 and at[0] == c'\r')):
            raise HTTPError(400, "a chunk is longer than its size")
        if _has_lone_line_end(at, end):
            raise HTTPError(400, "a line of the chunked body ends without CRLF")
        if self._line == TRAILER:
            if size > self._max_field_size + 1:  # 1: its CR
                raise HTTPError(431, "the trailers are too large")
        elif size > self._max_chunk_line + 1 or (self._line == SIZE and not _may_become_size(at, end)):
            raise HTTPError(400, "a chunk size is malformed")
        self._held = PyBytes_FromStringAndSize(<const char *>at, size)
        return 0


cdef inline Bytes _find_line_end(Bytes at, Bytes end) noexcept:
    """Returns the next CRLF; NULL if there is none."""
    while at < end:
        at = <Bytes>memchr(at, c'\r', end - at)
        if at == NULL:
            return NULL
        if _ends_line(at, end):
            return at
        at += 1
    return NULL


cdef bint _has_lone_line_end(Bytes at, Bytes end) noexcept:
    """Returns whether bytes without CRLF have a CR that is not the last one, an LF, or a NUL."""
    while at < end:
        if at[0] == c'\n' or at[0] == 0 or (at[0] == c'\r' and at + 1 < end):
            return True
        at += 1
    return False


cdef bint _are_extensions(Bytes at, Bytes end) noexcept:
    """Returns whether this is a chunk-ext: *( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] ).

    See RFC 9112 section 7.1.1.
    """
    cdef Bytes rest, value
    while at < end:
        rest = _skip_space(at, end)
        if rest == end or rest[0] != c';':
            return False
        rest = _skip_space(rest + 1, end)
        at = _skip_token(rest, end)
        if at == rest:
            return False
        rest = _skip_space(at, end)
        if rest < end and rest[0] == c'=':
            value = _skip_space(rest + 1, end)
            if value < end and value[0] == c'"':
                at = _skip_quoted(value, end)
            else:
                at = _skip_token(value, end)
            if at == value:
                return False
    return True


cdef bint _may_become_size(Bytes at, Bytes end) noexcept:
    """Returns whether this may be the start of a chunk-size line, its CR included: CHUNK_SIZE_LINE_START."""
    cdef Bytes digits
    if at == end:
        return True
    if HEX[at[0]] == 255:
        return False
    while at < end and at[0] == c'0':
        at += 1
    digits = at
    while at < end and HEX[at[0]] != 255:
        at += 1
    return at - digits <= 16 and _may_become_extensions(at, end)


cdef bint _may_become_extensions(Bytes at, Bytes end) noexcept:
    """Returns whether this may be the start of a chunk-ext and a CR; see `_are_extensions`."""
    cdef Bytes rest, value
    while at < end:
        if at[0] == c'\r':
            return at + 1 == end
        rest = _skip_space(at, end)
        if rest == end:
            return True
        if rest[0] != c';':
            return False
        rest = _skip_space(rest + 1, end)
        at = _skip_token(rest, end)
        if at == rest:
            return at == end
        rest = _skip_space(at, end)
        if rest < end and rest[0] == c'=':
            value = _skip_space(rest + 1, end)
            if value < end and value[0] == c'"':
                at = _skip_quoted(value, end)
                if at == value:
                    return _begins_quoted(value, end)
            else:
                at = _skip_token(value, end)
                if at == value:
                    return at == end
    return True


cdef bint _begins_quoted(Bytes quote, Bytes end) noexcept:
    """Returns whether everything after `quote`, to which there is no closing one, may be a part of a quoted-string."""
    cdef Bytes at = quote + 1
    while at < end:
        if at[0] == c'\\':
            at += 1
        if at < end and kas_skip_value(at, at + 1) == at:
            return False
        at += 1
    return True


cdef Bytes _skip_quoted(Bytes quote, Bytes end) noexcept:
    """Returns the first byte after the quoted-string (RFC 9110 section 5.6.4) at `quote`, or `quote` if it is none."""
    cdef Bytes at = quote + 1
    while at < end and at[0] != c'"':
        if at[0] == c'\\':
            at += 1
        if at == end or kas_skip_value(at, at + 1) == at:
            return quote
        at += 1
    return at + 1 if at < end else quote
