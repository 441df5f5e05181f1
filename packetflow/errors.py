"""Every error of PacketFlow, by one import. Each lives in the layer that raises it.

PacketFlowError                       code, message for people
├─ RequestError                       why a request has no value (packetflow.wire.errors draws its kinds)
├─ DefinitionError                    a capability, resource or module is declared wrongly
├─ PlanError                          a plan can't be one; its `faults` each have a place
├─ ConditionError                     a CEL text is none; ConditionFailed: it came to no result
├─ ModuleError                        a module can't be loaded, started or found
├─ ConfigError                        the configuration has faults, all of them in `faults`
├─ StorageUnavailable                 the store can't be written or read now; says why and what to do
├─ StatementFailed                    a statement that the store can't do; ConstraintFailed: its rows may not be
├─ DataFolderError                    the data folder can't be used
├─ AuditLogError, Unrecorded          audit records can't be written
├─ MetricError, TemplateError         an effect is declared wrongly
├─ NotDelivered                       a notice did not arrive
└─ the supervision runtime's          packetflow.otp.errors draws them
"""

from packetflow.capabilities.conditions import ConditionError, ConditionFailed
from packetflow.capabilities.contract import DefinitionError
from packetflow.capabilities.template import TemplateError
from packetflow.client.channel import NotSent
from packetflow.composition.nodes import PlanError
from packetflow.intelligence.manifest import ModuleError
from packetflow.node.auditing import Unrecorded
from packetflow.node.config import ConfigError, OverlayError, SecretError
from packetflow.notices.notice import NotDelivered
from packetflow.otp.errors import (
    AlreadyAwaited,
    AlreadyPresent,
    AlreadyRegistered,
    AlreadyStarted,
    AwaitTimeout,
    BadAction,
    BadReturn,
    CallCycle,
    CallFailed,
    CallTimeout,
    ChildError,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    Deadlock,
    Endless,
    HandlerOverrun,
    HubBlocked,
    MailboxFull,
    NameTaken,
    NoProcess,
    NotAnActor,
    NotASimulation,
    NotRegistered,
    NotTheOwner,
    OffloadError,
    OffloadFailed,
    OffloadTimeout,
    PacketFlowError,
    PoolClosed,
    PoolFull,
    ProcessDied,
    ServerExited,
    SimulationFailed,
    SpecError,
    StartFailed,
    TaskExited,
    ThreadGone,
    TooManyChildren,
    WorkerFailed,
    WrongThread,
)
from packetflow.storage.audit_log import AuditLogError
from packetflow.storage.data_folder import DataFolderError
from packetflow.storage.errors import ConstraintFailed, StatementFailed, StorageUnavailable
from packetflow.telemetry.metrics import MetricError
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
    "AlreadyAwaited",
    "AlreadyPresent",
    "AlreadyRegistered",
    "AlreadyStarted",
    "AuditLogError",
    "AwaitTimeout",
    "BadAction",
    "BadReturn",
    "CallCycle",
    "CallFailed",
    "CallTimeout",
    "Cancelled",
    "ChildError",
    "ChildNotFound",
    "ChildRestarting",
    "ChildRunning",
    "ConditionError",
    "ConditionFailed",
    "ConfigError",
    "Conflict",
    "ConstraintFailed",
    "ContractViolated",
    "DataFolderError",
    "Deadlock",
    "DefinitionError",
    "Endless",
    "ExecutionFailed",
    "Forbidden",
    "HandlerOverrun",
    "HubBlocked",
    "Internal",
    "ListenFailed",
    "MailboxFull",
    "MetricError",
    "ModuleError",
    "NameTaken",
    "NoProcess",
    "NotASimulation",
    "NotAnActor",
    "NotDelivered",
    "NotFound",
    "NotRegistered",
    "NotSent",
    "NotTheOwner",
    "OffloadError",
    "OffloadFailed",
    "OffloadTimeout",
    "OverlayError",
    "Overloaded",
    "PacketFlowError",
    "PlanError",
    "PoolClosed",
    "PoolFull",
    "ProcessDied",
    "ProtocolError",
    "RateLimited",
    "Rejected",
    "RequestError",
    "SecretError",
    "ServerExited",
    "SimulationFailed",
    "SpecError",
    "StartFailed",
    "StatementFailed",
    "StorageUnavailable",
    "TaskExited",
    "TemplateError",
    "ThreadGone",
    "Timeout",
    "TooLarge",
    "TooManyChildren",
    "Unauthenticated",
    "Unavailable",
    "Unencodable",
    "Unrecorded",
    "ValidationFailed",
    "WorkerFailed",
    "WrongThread",
]
