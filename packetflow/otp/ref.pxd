from packetflow.otp.process cimport Process

cdef class Ref:
    cdef public object _id, _incarnation, _node
    cdef public Process _process
