# The types of kaserve/asgi/fields.py.

cimport cython

from kaserve.http.memo cimport remember

cdef int CONNECTION, CONTENT_LENGTH, HOP_BY_HOP, TRANSFER_ENCODING
cdef int _LENGTH, _ONE_HOP, _OTHER, _OWN
cdef Py_ssize_t _MAX_SIZE
cdef dict _kinds, _lines

cdef class ResponseFields:
    cdef public tuple length
    cdef public list lines

    @cython.locals(kind=int, is_own=bint, lines=list)
    cdef _fill(self, headers)

@cython.locals(fields=ResponseFields)
cpdef ResponseFields new_fields(headers)
@cython.locals(line=tuple)
cdef tuple _line(name, value)
cdef int _classify(name) except -1
