from packetflow.otp.process cimport Call, Job, Process, Worker
from packetflow.otp.timeouts cimport Timeouts

cdef class Scheduler:
    cdef public long budget, count, workers, thread
    cdef public bint drawn, flushing
    cdef public double slice_end
    cdef public object _beginner, dying, hub, lingering, monotonic, names, pool, processes, run_queue, system, timers, trusted
    cdef public Timeouts timeouts
