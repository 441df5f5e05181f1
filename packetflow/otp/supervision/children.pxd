# Types for the optional compiled build of children.py; see otp/process.pxd.

from packetflow.otp.process cimport Process

cdef class Child:
    cdef public object alarm, failures, left, patience, restarts, spec, status
    cdef public Process process

cdef class Refusal:
    cdef public object error

cdef class Intensity:
    cdef public object _restarts, limit, seconds
