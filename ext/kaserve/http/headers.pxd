# The types of kaserve/http/headers.py. Headers is no extension type: see there.

cdef class FieldSource:
    cpdef list lines(self)
    cpdef list raw_lines(self)
    cpdef list values(self, str name)

cpdef list field_lines(headers)
