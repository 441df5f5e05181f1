# Types for the optional compiled build of child_spec.py; see process.pxd.

cdef class Backoff:
    cdef public object delay, factor, jitter, maximum, reset_after

cdef class ChildSpec:
    cdef public object arguments, backoff, id, name, options, restart, shutdown, significant, start, start_timeout, type
