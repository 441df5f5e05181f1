# Types for the optional compiled build of process.py; the pure one does not read this.

cimport cython

cdef extern from "greenlet/greenlet.h":
    ctypedef class greenlet.greenlet [object PyGreenlet]:
        pass

cdef class Failed:
    cdef public object error

@cython.freelist(64)
cdef class Call:
    cdef public object before, caller, context, deadline, greenlet, message, timeout, value
    cdef public Process target

cdef class Job(Call):
    pass

cdef class Bonds:
    cdef public object dropped, idle_due, idle_mark, idle_timer, links, monitoring, monitors, owed, senders, timeouts, trace

cdef class Process:
    cdef public object _ref, child, current, limit, mailbox, name, parent, registries, scheduler, server, started, waiting, worker
    cdef public Bonds bonds
    cdef public long handled, number

cdef class Nobody(Process):
    pass

cdef class Worker(greenlet):
    cdef public Process process
    cdef public long hires
