"""Every error of PacketFlow, by one import. Each lives in the layer that raises it.

PacketFlowError                       code, message for people
├─ RequestError                       why a request has no value (packetflow.wire.errors draws its kinds)
├─ DefinitionError                    a capability, resource or module is declared wrongly
├─ ModuleError                        a module can't be loaded, started or found
├─ ConfigError                        the configuration has faults, all of them in `faults`
├─ DataFolderError                    the data folder can't be used
└─ the supervision runtime's          packetflow.otp.errors draws them
"""

from packetflow.capabilities.contract import DefinitionError
from packetflow.client.channel import NotSent
from packetflow.intelligence.manifest import ModuleError
from packetflow.node.config import ConfigError, OverlayError, SecretError
from packetflow.otp.errors import (
    AlreadyPresent,
    AlreadyStarted,
    CallCycle,
    CallFailed,
    CallTimeout,
    ChildError,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    HubBlocked,
    MailboxFull,
    NameTaken,
    NoProcess,
    NotAnActor,
    PacketFlowError,
    ServerExited,
    SpecError,
    StartFailed,
    TooManyChildren,
    WorkerFailed,
    WrongThread,
)
from packetflow.storage.data_folder import DataFolderError
from packetflow.transports.errors import AddressInUse, ListenFailed
from packetflow.wire.codec import Unencodable
from packetflow.wire.errors import (
    Cancelled,
    Conflict,
    ContractViolated,
    ExecutionFailed,
    Forbidden,
    Internal,
    NotFound,
    Overloaded,
    ProtocolError,
    RateLimited,
    Rejected,
    RequestError,
    Timeout,
    TooLarge,
    Unauthenticated,
    Unavailable,
    ValidationFailed,
)

__all__ = [
    "AddressInUse",
    "AlreadyPresent",
    "AlreadyStarted",
    "CallCycle",
    "CallFailed",
    "CallTimeout",
    "Cancelled",
    "ChildError",
    "ChildNotFound",
    "ChildRestarting",
    "ChildRunning",
    "ConfigError",
    "Conflict",
    "ContractViolated",
    "DataFolderError",
    "DefinitionError",
    "ExecutionFailed",
    "Forbidden",
    "HubBlocked",
    "Internal",
    "ListenFailed",
    "MailboxFull",
    "ModuleError",
    "NameTaken",
    "NoProcess",
    "NotAnActor",
    "NotFound",
    "NotSent",
    "OverlayError",
    "Overloaded",
    "PacketFlowError",
    "ProtocolError",
    "RateLimited",
    "Rejected",
    "RequestError",
    "SecretError",
    "ServerExited",
    "SpecError",
    "StartFailed",
    "Timeout",
    "TooLarge",
    "TooManyChildren",
    "Unauthenticated",
    "Unavailable",
    "Unencodable",
    "ValidationFailed",
    "WorkerFailed",
    "WrongThread",
]
