# Types for the optional compiled build of start.py; see otp/process.pxd.

from packetflow.otp.process cimport Bonds, Process
from packetflow.otp.scheduler cimport Scheduler

cdef class Household:
    cdef public object tasks
