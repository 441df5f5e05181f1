from packetflow.otp.process cimport Call

cdef class TimeoutClass:
    cdef public object _scheduler, armed, dead, pending, seconds

cdef class Timeouts:
    cdef public object _classes, _exact, _scheduler, by_asked, last
    cdef public bint dating
