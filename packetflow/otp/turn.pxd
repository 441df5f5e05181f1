from packetflow.otp.ref cimport Ref
from packetflow.otp.process cimport Bonds, Call, Failed, Job, Process
