from packetflow.otp.ref cimport Ref
from packetflow.otp.process cimport Call, Failed, Job, Process, Worker
from packetflow.otp.scheduler cimport Scheduler
cdef class Init(Job):
    pass
