from packetflow.otp.ref cimport Ref
from packetflow.otp.process cimport Call, Failed, Job, Process, Worker
cdef class Monitor:
    cdef public object _down, _event, _target, _watcher, ref
cdef class AtDeath(Monitor):
    cdef public object _function
cdef class Leave(Job):
    pass
