"""``wrap``: an ``AsyncOpenAI`` in, the same type out, with a resilient transport inside."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, TypeVar, Unpack, cast
from urllib.parse import urlsplit
from weakref import ref

import backoff
import openai
from openai import AsyncOpenAI
from openai._resource import AsyncAPIResource

from .call.engine import Engine
from .call.portable import explain
from .config import (
    AlgorithmFactory,
    Config,
    IncompleteStream,
    Journal,
    Opening,
    Options,
    Partition,
)
from .diagnosis.diagnosis import Diagnosis
from .diagnosis.redaction import path_secrets, redactor
from .events import Observer
from .fleet.scope import Fleet, RedisSource, account_of
from .keywords import implemented_by
from .limits.budget import Budget
from .limits.priority import Priority
from .limits.snapshot import Snapshot
from .transport import ResilientTransport
from .verdict.advice import CORRECT_BASE_URL, is_own_host
from .verdict.retry import Jitter, RetryAmbiguous, WaitGenerator
from .verdict.rule import Rule
from .wire.family import transport_of, with_transport
from .wire.request import EXTENSION, Call, authorization_of, of_json

ClientT = TypeVar("ClientT", bound=AsyncOpenAI)

#: Where clients of the SDK keep what makes their credentials change between attempts.
_CREDENTIAL_SOURCES = ("_api_key_provider", "_azure_ad_token_provider", "_provider_runtime")


def _wrap(client: AsyncOpenAI, **options: Unpack[Options]) -> AsyncOpenAI:
    _check_client(client)
    config = Config.from_options(options)
    if _is_wrapped(client):
        if options:
            raise ValueError("the client is wrapped already: give all keywords at the first wrap")
        return client
    _warn_of_base_url(str(client.base_url))
    engine = Engine(config, _account_of(client, config), client._client)  # noqa: SLF001
    wrapped = _twin(client)
    wrapped._client = with_transport(  # noqa: SLF001 - the SDK has no public way to swap it
        client._client,  # noqa: SLF001
        lambda inner: ResilientTransport.for_client(inner, engine),
    )
    if "max_retries" in options or client.max_retries == openai.DEFAULT_MAX_RETRIES:
        wrapped.max_retries = config.max_retries
    return wrapped


@implemented_by(_wrap)
def wrap(
    client: ClientT,
    *,
    max_retries: int = 6,
    backoff_initial: float = 0.5,
    backoff_max: float = 30.0,
    max_retry_after: float = 120.0,
    wait: WaitGenerator = backoff.expo,
    jitter: Jitter | None = None,
    retry_ambiguous: RetryAmbiguous = "text",
    deadline: float | None = None,
    initial_concurrency: int = 8,
    min_concurrency: int = 1,
    max_concurrency: int = 512,
    max_queue: int | None = 10000,
    queue_timeout: float | None = None,
    priority: Priority = "normal",
    stall_timeout: float | None = None,
    incomplete_stream: IncompleteStream = "raise",
    opening: Opening = "hold",
    partition: Partition | None = None,
    algorithm: AlgorithmFactory | None = None,
    budget: Budget | Mapping[str, Budget] | None = None,
    fleet: RedisSource | Fleet | None = None,
    rules: Sequence[Rule] = (),
    on_event: Observer | Sequence[Observer] | None = None,
    journal: Journal | None = None,
) -> ClientT:
    """Make a client that retries and limits by itself; the given one stays as it is.

    The result has the same type, resources and settings, and shares the connection pool, which
    it keeps open as long as it or a stream of it lives. Wrapping a wrapped client gives the same
    client back. A ``max_retries`` that was given to the client itself (other than the SDK's
    default) stands unless it is given here.

    Args:
        client: The client to wrap; it stays as it is.
        max_retries: Retries after the first attempt (0 to 1000 retries).
        backoff_initial: Longest wait before the first retry; doubles with each further one (0 to
            3600 seconds).
        backoff_max: Upper bound of the waits that the server does not ask for (0 to 86400
            seconds).
        max_retry_after: Give up at once if the server asks for a longer wait (0 to 86400 seconds).
        wait: Wait generator as in the package ``backoff``: ``backoff.fibo``,
            ``partial(backoff.constant, interval=2)``; ``backoff_initial`` applies to ``expo``
            alone.
        jitter: Function that turns the longest wait into the actual one, such as
            ``backoff.random_jitter``; by default 75 to 100 % of it, or 40 to 100 % of waits up to
            2 s.
        retry_ambiguous: What is retried although the failed attempt may have been carried out and
            billed: ``text`` (all but images, videos, speech), ``all``, ``none``.
        deadline: Time for the whole request until its answer begins, with all attempts and waits
            (0.001 to 86400 seconds, or None).
        initial_concurrency: Limit that each partition and its account start at, within ``min_``
            and ``max_concurrency`` (1 to 100000 requests).
        min_concurrency: Lower bound of a partition's limit, unless refusals have closed it (1 to
            100000 requests).
        max_concurrency: Upper bound of a partition's limit (1 to 100000 requests).
        max_queue: How many requests may wait in one partition; further ones fail at once, unsent
            (0 to 10000000 requests, or None).
        queue_timeout: Longest wait for a slot (0 to 86400 seconds, or None).
        priority: Place in the queue: ``high``, ``normal``, ``low``, ``bulk`` (the default of
            ``run_all``), or a whole number from -10 (first) to 10 (last); nobody starves.
        stall_timeout: Longest wait for the next event of a stream, the first included; keep-alives
            do not count (0.001 to 86400 seconds, or None).
        incomplete_stream: What to do where a stream ends without its terminal event: ``raise``, or
            only ``warn``.
        opening: Events before a stream's first output: ``hold`` them back, so that a failure among
            them is retried, or ``pass`` them on at once.
        partition: Function from a request to the key of the limit that it shares; by default
            (route, model).
        algorithm: Function that makes a partition's limit algorithm: ``lambda: FixedLimit(5)``.
        budget: Requests and tokens allowed per period, ``Budget(requests=500, tokens=200_000,
            per=60)``, or a mapping from models to budgets, ``*`` for all others.
        fleet: Share each limit with other processes through Redis or Valkey: a URL, a function
            that makes a client, or ``Fleet(...)``.
        rules: Rules of your own, tried before those of the table.
        on_event: Function, or several, called with each event.
        journal: File or function that gets one line per attempt, without content.

    Returns:
        A client of the same type.

    Raises:
        TypeError: If ``client`` is no ``AsyncOpenAI`` or a keyword is unknown.
        ValueError: If a keyword's value is out of its bounds, the client is wrapped already and
            keywords are given, or its http client was taken out of another wrapped client.
        ImportError: If ``fleet`` is a URL and redis-py is not installed.

    """
    raise NotImplementedError


def snapshot(client: AsyncOpenAI) -> Snapshot:
    """Return a wrapped client's limits now: per partition the limit, in flight and waiting.

    Raises:
        TypeError: If the client is not wrapped.

    """
    engine = engine_of(client)
    if engine is None:
        raise TypeError(f"expected a client made by wrap(), got {type(client).__name__}")
    return engine.limiter.snapshot()


def engine_of(client: object) -> Engine | None:
    """Return what a wrapped client's transports share, ``None`` for anything else."""
    transport = transport_of(client._client) if isinstance(client, AsyncOpenAI) else None  # noqa: SLF001
    if not isinstance(transport, ResilientTransport):
        return None
    return transport._engine  # noqa: SLF001 - of the same house


def _account_of(client: AsyncOpenAI, config: Config) -> str:
    """Return a digest of whose limits these are, for ``fleet=``; empty without a fleet.

    Raises:
        ValueError: If the client's key changes and the account has no other name.

    """
    fleet = config.as_fleet
    if fleet is None:
        return ""
    if fleet.account is None and (_credential_source(client) is not None or not client.api_key):
        raise ValueError(
            "fleet: the client's key changes or is empty, so it cannot name the account: expected"
            " Fleet(..., account=...)"
        )
    return account_of(str(client.base_url), client.api_key, fleet.account)


def _check_client(client: object) -> None:
    if not isinstance(client, AsyncOpenAI):
        raise TypeError(f"wrap() takes an AsyncOpenAI, got {_described(client)}")
    auth = getattr(client, "_workload_identity_auth", None)
    if auth is not None and "X509" in type(auth).__name__:
        raise TypeError(
            "wrap() cannot reach an X.509 workload identity client: it sends its calls through"
            " an http client of its own"
        )


def _is_wrapped(client: AsyncOpenAI) -> bool:
    """Return True if a client's calls reach a transport of ours as they are.

    Raises:
        ValueError: If they reach one that belongs to another client and lets them pass.

    """
    transport = transport_of(client._client)  # noqa: SLF001
    if not isinstance(transport, ResilientTransport):
        return False
    if transport.is_a_clients_own and not isinstance(client, _Resilient):
        raise ValueError(
            "http_client: it was taken out of a client made by wrap(), which alone it serves. Give"
            " the new client an http client of its own, or use with_options() of the wrapped one"
        )
    return True


def _described(client: object) -> str:
    """Say what was given in place of a client, and which one to give."""
    if isinstance(client, type):
        return f"the class {client.__name__}: give it a client, {client.__name__}(...)"
    name = type(client).__name__
    for base in type(client).__mro__ if isinstance(client, openai.OpenAI) else ():
        package = sys.modules.get(base.__module__.partition(".")[0])
        if hasattr(package, f"Async{base.__name__}"):
            return f"{name}, which is synchronous: use Async{base.__name__} instead"
    return name


def _warn_of_base_url(base_url: str) -> None:
    """Name a base URL on CometAPI's own hosts that is not the right one; others are left alone."""
    url = urlsplit(base_url)
    host = url.hostname or ""
    if not is_own_host(host):
        return
    shown = f"{url.scheme}://{host}{f':{url.port}' if url.port else ''}{url.path.rstrip('/')}"
    if shown != CORRECT_BASE_URL:
        shown = redactor(path_secrets(url.path), "").line(shown)
        warnings.warn(
            f"the base URL {shown} is not CometAPI's: it should be exactly {CORRECT_BASE_URL}",
            stacklevel=3,
        )


def _twin(client: ClientT) -> ClientT:
    """Return a copy that shares everything but the resources, which point back at their client.

    ``copy()`` is of no use: it fails on subclasses with a strict constructor, such as CometAPI's.
    """
    cls = _resilient_class(cast("Any", type(client)))
    twin: ClientT = object.__new__(cls)
    made_at_need = _cached_names(type(client))
    for name, value in vars(client).items():
        if name not in made_at_need:
            is_own = isinstance(value, AsyncAPIResource) and value._client is client  # noqa: SLF001
            twin.__dict__[name] = _resource_of(twin, value) if is_own else value
    return twin


def _resource_of(client: AsyncOpenAI, resource: AsyncAPIResource) -> AsyncAPIResource:
    """Return a copy, for another client, of a resource that a subclass keeps of its own."""
    copied = copy.copy(resource)
    for name in _cached_names(type(resource)):
        copied.__dict__.pop(name, None)
    AsyncAPIResource.__init__(copied, client)
    return copied


def _cached_names(cls: type) -> set[str]:
    """Return the names of attributes that instances of a class make on first use."""
    members = (member for base in cls.__mro__ for member in vars(base).items())
    return {name for name, member in members if isinstance(member, cached_property)}


@lru_cache(maxsize=256)  # an application may make classes by the thousand
def _resilient_class(cls: Any) -> Any:
    if issubclass(cls, _Resilient):  # a wrapped client's copy with another http client
        return cls
    members = {"__module__": cls.__module__, "__doc__": cls.__doc__}
    twin = type(cls.__name__, (_Resilient, cls), members)
    twin.__qualname__ = cls.__qualname__
    return twin


class Hidden:
    """A value that is not shown with the locals of a frame, by an error tracker for example."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value: Any = value


class _Unprepared:
    """Options of calls as they were before the SDK put credentials in, for a retry to begin with.

    Each belongs to the very object that is to become a request, and to its client: no other call
    can find it, whatever it shares with this one. It ends when the request is built, or together
    with that object where none ever is.
    """

    def __init__(self) -> None:
        self._kept: dict[int, tuple[ref[Any], AsyncOpenAI, Any]] = {}

    def keep(self, client: AsyncOpenAI, prepared: Any, unprepared: Any) -> None:
        place = id(prepared)

        def forget(gone: ref[Any]) -> None:
            kept = self._kept.get(place)
            if kept is not None and kept[0] is gone:
                del self._kept[place]

        self._kept[place] = (ref(prepared, forget), client, unprepared)

    def take(self, client: AsyncOpenAI, prepared: Any) -> Any:
        """Return what was kept for a client's prepared options, ``None`` if nothing, and end it."""
        bearer, owner, unprepared = self._kept.pop(id(prepared), (None, None, None))
        is_own = owner is client and bearer is not None and bearer() is prepared
        return unprepared if is_own else None


_unprepared = _Unprepared()


class _Resilient(AsyncOpenAI):
    """The additions to a wrapped client, which tell the transport what only the client knows."""

    def __repr__(self) -> str:
        return f"wrap({super().__repr__()})"

    # No ``async def``: where a key function raises, its frame would show the prompt.
    def _prepare_options(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, options: Any
    ) -> Coroutine[Any, Any, Any]:
        prepare = super()._prepare_options
        if _credential_source(self) is None:
            return prepare(options)
        unprepared = Hidden(options.model_copy())
        return self._prepare_and_keep(prepare(options), unprepared)

    async def _prepare_and_keep(
        self, preparing: Coroutine[Any, Any, Any], unprepared: Hidden
    ) -> Any:
        prepared = await preparing
        _unprepared.keep(self, prepared, unprepared)
        return prepared

    def _build_request(self, options: Any, **keywords: Any) -> Any:
        source, headers = _credential_source(self), options.headers or {}
        unprepared = None if source is None else _unprepared.take(self, options)
        request = super()._build_request(options, **keywords)
        request.extensions[EXTENSION] = Call(
            max_retries=options.get_max_retries(self.max_retries),
            base_url=str(self.base_url),
            url=request.url,
            asked=of_json(options.json_data),
            as_bytes=headers.get("X-Stainless-Raw-Response") == "stream",
            credential=_credential_of(self, source, headers, request),
            renew=None if unprepared is None else self._renewal(unprepared),
        )
        return request

    def _renewal(self, unprepared: Hidden) -> Callable[[], Awaitable[Any]]:
        prepare, build = super()._prepare_options, super()._build_request

        async def renew() -> Any:
            request = build(await prepare(unprepared.value.model_copy()))
            await self._prepare_request(request)
            return request

        return renew

    def _make_status_error(self, err_msg: str, *, body: object, response: Any) -> Any:
        error = super()._make_status_error(err_msg, body=body, response=response)
        diagnosis = response.extensions.get(EXTENSION)
        if isinstance(diagnosis, Diagnosis):
            explain(error, diagnosis)
        return error


def _credential_source(client: object) -> object | None:
    """Return the key function or token provider of a client, ``None`` if its key stays."""
    for name in _CREDENTIAL_SOURCES:
        source = getattr(client, name, None)
        if source is not None:
            return cast("object", source)
    return None


def _credential_of(client: AsyncOpenAI, source: object, headers: object, request: Any) -> int:
    """Return a number that stands for the credential of a call, which itself is not kept.

    A credential that changes is known by its source.
    """
    if source is not None:
        return id(source)
    if not client._custom_headers and not headers:  # noqa: SLF001 - looking them up takes longer
        return hash(f"Bearer {client.api_key}")
    return hash(authorization_of(request))
