# The C types of kaserve/http/memo.py.

cpdef remember(dict memo, key, value, Py_ssize_t limit)
