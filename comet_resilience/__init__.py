"""Resilience for ``AsyncOpenAI`` clients of CometAPI and gateways of its kind, in one line.

client = wrap(AsyncOpenAI(base_url="https://api.cometapi.com/v1", api_key=...))
"""

from .client import diagnose, snapshot, support_report, wrap
from .config import Config, Options
from .errors import (
    DeadlineExceededError,
    IncompleteStreamError,
    InvalidAnswerError,
    QueueFullError,
    QueueTimeoutError,
    ResilienceError,
    WrongEndpointError,
)
from .events import (
    AttemptFinished,
    Event,
    GaveUp,
    LimitChanged,
    RetryScheduled,
    StreamAbandoned,
    StreamBroken,
)
from .limits.algorithm import LimitAlgorithm, StepBack
from .limits.fixed import FixedLimit
from .limits.snapshot import PartitionSnapshot, Snapshot
from .support.diagnosis import Attempt, Diagnosis, LimiterState
from .support.report import SupportReport
from .transport import ResilientTransport
from .verdict.rule import Rule
from .verdict.vocabulary import Action, FailureKind, Fault, Operation, RequestInfo, Signal

__all__ = [
    "Action",
    "Attempt",
    "AttemptFinished",
    "Config",
    "DeadlineExceededError",
    "Diagnosis",
    "Event",
    "FailureKind",
    "Fault",
    "FixedLimit",
    "GaveUp",
    "IncompleteStreamError",
    "InvalidAnswerError",
    "LimitAlgorithm",
    "LimitChanged",
    "LimiterState",
    "Operation",
    "Options",
    "PartitionSnapshot",
    "QueueFullError",
    "QueueTimeoutError",
    "RequestInfo",
    "ResilienceError",
    "ResilientTransport",
    "RetryScheduled",
    "Rule",
    "Signal",
    "Snapshot",
    "StepBack",
    "StreamAbandoned",
    "StreamBroken",
    "SupportReport",
    "WrongEndpointError",
    "diagnose",
    "snapshot",
    "support_report",
    "wrap",
]
