# Types for the optional compiled build of waiting.py; see otp/process.pxd.

from packetflow.otp.process cimport Call, Failed, Process
from packetflow.otp.scheduler cimport Scheduler
from packetflow.otp.timeouts cimport Timeouts

cdef class Gathering(Call):
    cdef public object ended, open
    cdef public bint bounded
