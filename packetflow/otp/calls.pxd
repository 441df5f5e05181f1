from packetflow.otp.process cimport Call, Failed, Job, Process, Worker
from packetflow.otp.scheduler cimport Scheduler
from packetflow.otp.timeouts cimport Timeouts

cdef class StopRequest(Job):
    pass
