"""Resilience for ``AsyncOpenAI`` clients of CometAPI and gateways of its kind, in one line.

client = wrap(AsyncOpenAI(base_url="https://api.cometapi.com/v1", api_key=...))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .bulk import BulkResults, Progress, run_all
    from .client import snapshot, wrap
    from .config import Config, Options, PerCallOptions
    from .diagnosis.diagnosis import Attempt, Diagnosis, LimiterState
    from .diagnosis.report import SupportReport
    from .errors import (
        BudgetExceededError,
        BudgetSpentError,
        CallbackError,
        DeadlineExceededError,
        GateClosedError,
        IncompleteStreamError,
        InvalidAnswerError,
        QueueFullError,
        QueueTimeoutError,
        ResilienceError,
        WrongEndpointError,
    )
    from .events import (
        AlgorithmRetired,
        AttemptFinished,
        Event,
        FleetChanged,
        FleetState,
        GateClosed,
        GateOpened,
        GaveUp,
        HollowAnswer,
        LimitChanged,
        RateChanged,
        RetryScheduled,
        Standstill,
        StreamAbandoned,
        StreamBroken,
        StreamFinished,
    )
    from .fleet.scope import Fleet
    from .inquiry import diagnose, support_report
    from .limits.algorithm import LimitAlgorithm, StepBack
    from .limits.budget import Budget
    from .limits.fixed import FixedLimit
    from .limits.snapshot import (
        BudgetView,
        FleetView,
        GateView,
        PartitionSnapshot,
        RateView,
        Snapshot,
    )
    from .overrides import Override, override
    from .transport import ResilientTransport
    from .verdict.rule import Rule
    from .verdict.usage import Usage
    from .verdict.vocabulary import Action, FailureKind, Fault, Operation, RequestInfo, Signal

#: Read from here by the build, too.
__version__ = "0.1.0"

__all__ = [
    "Action",
    "AlgorithmRetired",
    "Attempt",
    "AttemptFinished",
    "Budget",
    "BudgetExceededError",
    "BudgetSpentError",
    "BudgetView",
    "BulkResults",
    "CallbackError",
    "Config",
    "DeadlineExceededError",
    "Diagnosis",
    "Event",
    "FailureKind",
    "Fault",
    "FixedLimit",
    "Fleet",
    "FleetChanged",
    "FleetState",
    "FleetView",
    "GateClosed",
    "GateClosedError",
    "GateOpened",
    "GateView",
    "GaveUp",
    "HollowAnswer",
    "IncompleteStreamError",
    "InvalidAnswerError",
    "LimitAlgorithm",
    "LimitChanged",
    "LimiterState",
    "Operation",
    "Options",
    "Override",
    "PartitionSnapshot",
    "PerCallOptions",
    "Progress",
    "QueueFullError",
    "QueueTimeoutError",
    "RateChanged",
    "RateView",
    "RequestInfo",
    "ResilienceError",
    "ResilientTransport",
    "RetryScheduled",
    "Rule",
    "Signal",
    "Snapshot",
    "Standstill",
    "StepBack",
    "StreamAbandoned",
    "StreamBroken",
    "StreamFinished",
    "SupportReport",
    "Usage",
    "WrongEndpointError",
    "diagnose",
    "override",
    "run_all",
    "snapshot",
    "support_report",
    "wrap",
]

#: Which room each name is from. A room is opened when something in it is asked for: importing the
#: package alone (as its pytest plugin does in every test run) does not load the SDK.
_ROOMS: Final = {
    "bulk": "BulkResults Progress run_all",
    "client": "snapshot wrap",
    "config": "Config Options PerCallOptions",
    "errors": (
        "BudgetExceededError BudgetSpentError CallbackError DeadlineExceededError "
        "GateClosedError IncompleteStreamError InvalidAnswerError QueueFullError "
        "QueueTimeoutError ResilienceError WrongEndpointError"
    ),
    "events": (
        "AlgorithmRetired AttemptFinished Event FleetChanged FleetState GateClosed GateOpened "
        "GaveUp HollowAnswer LimitChanged RateChanged RetryScheduled Standstill StreamAbandoned "
        "StreamBroken StreamFinished"
    ),
    "fleet.scope": "Fleet",
    "inquiry": "diagnose support_report",
    "limits.algorithm": "LimitAlgorithm StepBack",
    "limits.budget": "Budget",
    "limits.fixed": "FixedLimit",
    "limits.snapshot": "BudgetView FleetView GateView PartitionSnapshot RateView Snapshot",
    "overrides": "Override override",
    "diagnosis.diagnosis": "Attempt Diagnosis LimiterState",
    "diagnosis.report": "SupportReport",
    "transport": "ResilientTransport",
    "verdict.rule": "Rule",
    "verdict.usage": "Usage",
    "verdict.vocabulary": "Action FailureKind Fault Operation RequestInfo Signal",
}


def __getattr__(name: str) -> Any:
    for room, names in _ROOMS.items():
        if name in names.split():
            found = globals()[name] = getattr(import_module(f".{room}", __name__), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*(name for name in globals() if name.startswith("__")), *__all__, "otel", "testing"]
