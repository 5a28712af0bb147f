# The types of kaserve/asgi/websocket/reader.py.

cimport cython

cdef int _FINAL_BINARY, _FINAL_TEXT, _LENGTH_16, _LENGTH_64, _MASKED
cdef long long _TOO_LARGE
cdef object _BINARY, _CLOSE, _CONT, _TEXT, _apply_mask
cdef list _NO_MESSAGES

cdef class MessageReader:
    cdef public object _protocol, failure
    cdef public list _chunks, control
    cdef public bytes _held, _mask
    cdef public bytearray _pieces
    cdef public long long _max_size, _missing
    cdef public int _first
    cdef public bint _is_over, _is_text

    @cython.locals(position=Py_ssize_t, size=Py_ssize_t, messages=list)
    cpdef list read(self, bytes data)
    @cython.locals(
        size=Py_ssize_t, first=int, second=int, length=cython.longlong, start=Py_ssize_t, end=cython.longlong,
        is_masked=bint
    )
    cdef Py_ssize_t _read_frame(self, bytes data, Py_ssize_t position, list messages) except -1
    @cython.locals(chunks=list, missing=cython.longlong, size=Py_ssize_t)
    cdef Py_ssize_t _read_missing(self, bytes data, list messages) except -1
    cdef _add_whole(self, int first, bytes masked, bytes mask, list messages)
    cdef _read_other(self, bytes data, list messages)
    @cython.locals(data=bytes, pieces=bytearray)
    cdef _add_fragment(self, frame, list messages)
    cdef _fail(self)
    cdef _add_text(self, bytes data, list messages)

@cython.locals(size=Py_ssize_t, first=int)
cpdef bytes encode_frame(bint is_text, bytes data)
