cdef class Timer:
    cdef public object _action, _argument, _timers, due

cdef class Timers:
    cdef public object _armed, _awake, _cancelled, _count, _heap, _loop, _watcher, monotonic
