"""The vocabulary of outcomes: the observation, its meaning and the action.

Every value here is frozen and plain, so that each decision of the library can be run and
compared in a REPL. Nothing in this room awaits, reads a clock or knows about HTTP libraries.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class FailureKind(StrEnum):
    """The kind of a failure in one word. The body's own ``error.type`` is something else."""

    INVALID_REQUEST = "invalid_request"
    AUTHENTICATION = "authentication"
    PERMISSION = "permission"
    QUOTA = "quota"
    CONTENT_BLOCKED = "content_blocked"
    WRONG_PATH = "wrong_path"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    MODEL_UNAVAILABLE = "model_unavailable"
    UNSUPPORTED = "unsupported"
    NOT_READY = "not_ready"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    PROVIDER = "provider"
    EDGE_BLOCKED = "edge_blocked"
    INVALID_ANSWER = "invalid_answer"
    LOCAL = "local"


class Action(StrEnum):
    """The action after a failure: send the same request again, or stop."""

    RETRY = "retry"
    FAIL = "fail"


class Signal(StrEnum):
    """The lesson of an attempt for the limiter.

    The three overloads move a limit: ``OVERLOAD_ACCOUNT`` that of the account over all its models,
    ``OVERLOAD_MODEL`` that of the model, ``OVERLOAD`` the one that evidence points to. The three
    outages do not: they count for the gate, and say whose failure it was. ``OUTAGE``: the service
    behind the gateway failed. ``CUT``: the connection to the host broke. ``UNREACHABLE``: none
    could be made, and nothing was sent.

    ``is_overload``: a limit refused the attempt. ``is_outage``: the failure was neither the
    request's fault nor a matter of load.
    """

    SUCCESS = "success"
    OVERLOAD = "overload"
    OVERLOAD_ACCOUNT = "overload_account"
    OVERLOAD_MODEL = "overload_model"
    OUTAGE = "outage"
    CUT = "cut"
    UNREACHABLE = "unreachable"
    IGNORED = "ignored"

    def __init__(self, value: str) -> None:
        self.is_overload: bool = value in ("overload", "overload_account", "overload_model")
        self.is_outage: bool = value in ("outage", "cut", "unreachable")


class Fault(StrEnum):
    """The reason why no usable response arrived, by the phase in which the exchange broke."""

    CONNECT = "connect"
    CONNECT_TIMEOUT = "connect_timeout"
    POOL_TIMEOUT = "pool_timeout"
    PROXY = "proxy"
    TLS = "tls"
    WRITE = "write"
    WRITE_TIMEOUT = "write_timeout"
    READ = "read"
    READ_TIMEOUT = "read_timeout"
    PROTOCOL = "protocol"
    STALLED = "stalled"
    INCOMPLETE = "incomplete"
    NO_OUTPUT = "no_output"
    LONE_STOP = "lone_stop"
    NO_CHOICES = "no_choices"
    NOT_STREAMED = "not_streamed"
    NOT_DUE = "not_due"
    DEADLINE = "deadline"
    QUEUE = "queue"
    GATE = "gate"
    LOCAL = "local"

    @property
    def before_sending(self) -> bool:
        """True if the gateway cannot have received the request (so it cannot be billed)."""
        return self in _BEFORE_SENDING

    @property
    def is_timeout(self) -> bool:
        """True if waiting too long was the cause."""
        return self.value.endswith("timeout") or self in (Fault.DEADLINE, Fault.STALLED)


_BEFORE_SENDING = frozenset(
    {
        Fault.CONNECT, Fault.CONNECT_TIMEOUT, Fault.POOL_TIMEOUT, Fault.PROXY, Fault.TLS,
        Fault.QUEUE, Fault.GATE, Fault.LOCAL,
    }
)  # fmt: skip


class BodyKind(StrEnum):
    """The actual form of a response body, whatever its content type claims."""

    JSON = "json"
    HTML = "html"
    TEXT = "text"
    BINARY = "binary"
    EMPTY = "empty"
    STREAM = "stream"
    UNREAD = "unread"


class Operation(StrEnum):
    """The operation of a request, as far as retrying and reading its answer depend on it."""

    TEXT = "text"
    MEDIA = "media"
    TRANSCRIPT = "transcript"
    JOB = "job"
    READ = "read"
    DOWNLOAD = "download"
    OTHER = "other"

    @property
    def is_paid_media(self) -> bool:
        """True if sending it twice may be billed twice for one picture, film or recording."""
        return self in (Operation.MEDIA, Operation.JOB)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestInfo:
    """The facts of a request before it is sent; ``partition`` functions get it.

    ``route`` is the method and the path below the base URL with ids replaced, such as
    ``"POST /chat/completions"`` or ``"GET /videos/{id}"``; ``model`` is ``""`` where a request
    names none.
    """

    route: str
    model: str = ""
    operation: Operation = Operation.OTHER
    stream: bool = False

    @property
    def has_id(self) -> bool | None:
        """True if the route names a resource by its id; ``None`` where no route is known."""
        return "{id}" in self.route if self.route else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestIds:
    """The ids of one response: the gateway's own, the provider's, the edge's; ``""`` if absent."""

    gateway: str = ""
    provider: str = ""
    edge: str = ""

    def __bool__(self) -> bool:
        return bool(self.gateway or self.provider or self.edge)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The bare facts of one attempt's outcome, without any judgement.

    Exactly one of ``status`` and ``fault`` is set, except where a response broke off while its
    body was read: then both are. ``message`` is the page title where the body is HTML.
    ``retry_after`` is the server's wish in seconds, already parsed. ``edge_retryable`` is the
    verdict of a Cloudflare problem document on itself, ``None`` where there is none, and
    ``edge_code`` its error number. ``new_task`` says that this client created the task it asks
    for moments ago. ``has_id`` says if the route names a thing by its id, ``None`` where the route
    is not known; ``should_retry`` is the server's explicit word.
    """

    status: int | None = None
    fault: Fault | None = None
    body: BodyKind = BodyKind.EMPTY
    code: str = ""
    type: str = ""
    message: str = ""
    param: str = ""
    retry_after: float | None = None
    challenge: bool = False
    edge_retryable: bool | None = None
    edge_code: str = ""
    location: str = ""
    new_task: bool = False
    has_id: bool | None = None
    should_retry: bool | None = None
    operation: Operation = Operation.OTHER
    ids: RequestIds = field(default_factory=RequestIds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict of the table on an observation.

    ``rule`` names the row, ``source`` says what the row rests on, ``section`` is the
    heading of the gateway's error-handling guide to read, ``advice`` lists steps in order,
    ``wait`` is the least number of seconds before a retry makes sense where the server names
    none, and ``at_most`` bounds the retries below the client's own number where more of them
    cannot help. ``ambiguous`` tells whether the provider may have done the work, and billed it,
    although the answer is an error: ``False`` where the answer proves that nothing was begun, or
    that what was begun is refunded, ``None`` where the row does not say. ``rests_on`` names what
    the verdict takes for granted because it worked before, and retries may disprove: ``"model"``,
    ``"place"`` or nothing.
    """

    kind: FailureKind
    action: Action
    signal: Signal
    reason: str
    advice: tuple[str, ...]
    rule: str
    source: str
    section: str
    wait: float = 0.0
    at_most: int | None = None
    ambiguous: bool | None = None
    rests_on: str = ""

    @property
    def retryable(self) -> bool:
        """True if sending the same request again may help."""
        return self.action is not Action.FAIL
