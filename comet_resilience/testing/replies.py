"""Replies: what the gateway sends back, as frozen values.

A `Reply` says everything about one answer: status, headers, body, and how it goes wrong on its way
(late, slow, cut, dropped, never). It may hold placeholders, because the gateway gives every answer
an id of its own: they are filled in when the reply is sent, never when it is written down. An
`Exchange` is a request with its filled reply, on its way to the client.

    {{request_id}}   the id of this request, as in the header X-Cometapi-Request-Id
    {{ray}}          the id of the edge in front of the gateway, as in the header CF-RAY
    {{model}}        the model that the request named
    {{origin}}       scheme, host and port of this gateway
    {{front_end}}    its web front end, on another host
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from .received import ReceivedRequest

REQUEST_ID: Final = "{{request_id}}"
RAY: Final = "{{ray}}"
MODEL: Final = "{{model}}"
ORIGIN: Final = "{{origin}}"
FRONT_END: Final = "{{front_end}}"

REQUEST_ID_HEADER: Final = "X-Cometapi-Request-Id"

Headers = tuple[tuple[str, str], ...]
#: Headers as a caller may write them: a mapping, or pairs where a name occurs more than once.
GivenHeaders = Mapping[str, str] | Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer of the gateway.

    *headers* are pairs of names and values; a mapping becomes pairs. *body* is sent in one piece,
    or in chunks if it is a tuple. *delay* is the wait before the headers and *chunk_delay* the wait
    between two chunks, both in seconds. *cut_after* drops the connection after that many body bytes
    (0: right after the headers). *drop* closes the connection without an answer, *hang* never
    answers. *refuse* stands for a connection that cannot be made: a `ConnectError` in memory; over
    a socket, which is connected by then, it is the same as *drop*.

    Raises `ValueError` for a status outside 200 to 599, for headers that are not text, for a body
    that is not bytes, and for negative times or sizes.
    """

    status: int = 200
    headers: Headers = ()
    body: bytes | tuple[bytes, ...] = b""
    delay: float = 0.0
    chunk_delay: float = 0.0
    cut_after: int | None = None
    drop: bool = False
    hang: bool = False
    refuse: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.status, int) and 200 <= self.status <= 599):
            raise ValueError(f"status must be a number from 200 to 599, not {self.status!r}")
        object.__setattr__(self, "headers", _header_pairs(self.headers))
        chunks = self.body if isinstance(self.body, tuple) else (self.body,)
        if not all(isinstance(chunk, bytes) for chunk in chunks):
            raise ValueError(f"body must be bytes or a tuple of bytes, not {self.body!r:.60}")
        if not (self.delay >= 0 and self.chunk_delay >= 0):
            raise ValueError("delay and chunk_delay are seconds, 0 or more")
        if self.cut_after is not None and self.cut_after < 0:
            raise ValueError("cut_after is a number of bytes, 0 or more")

    @property
    def complete(self) -> bool:
        """True if a client that waits gets the whole answer."""
        return not (self.drop or self.hang or self.refuse or self.cut_after is not None)

    @property
    def waits(self) -> bool:
        """True if the gateway waits while it sends this."""
        return self.hang or self.delay > 0 or self.chunk_delay > 0

    def chunks(self) -> tuple[bytes, ...]:
        """Return the chunks that reach the client: those before the cut, none of them empty."""
        whole = (self.body,) if isinstance(self.body, bytes) else self.body
        left = sum(map(len, whole)) if self.cut_after is None else self.cut_after
        sent: list[bytes] = []
        for chunk in whole:
            sent.append(chunk[:left])
            left -= len(sent[-1])
        return tuple(filter(None, sent))

    def wire_headers(self) -> Headers:
        """Return the headers with the framing: a length for one piece, chunks for several.

        A cut that takes nothing away from a body of known length would go unnoticed, so such a
        body is sent in chunks as well.
        """
        noticed = self.cut_after is None or self.cut_after < len(self.body)
        if isinstance(self.body, bytes) and noticed:
            return (*self.headers, ("Content-Length", str(len(self.body))))
        return (*self.headers, ("Transfer-Encoding", "chunked"))

    def filled(self, values: Mapping[str, str]) -> Reply:
        """Return the same reply with each placeholder replaced by its value."""
        headers = tuple((name, _fill(value, values)) for name, value in self.headers)
        if isinstance(self.body, bytes):
            return replace(self, headers=headers, body=_fill_bytes(self.body, values))
        chunks = tuple(_fill_bytes(chunk, values) for chunk in self.body)
        return replace(self, headers=headers, body=chunks)


class Exchange:
    """A request and its reply, until the reply is over."""

    __slots__ = ("_on_end", "reply", "request")

    def __init__(
        self, request: ReceivedRequest, reply: Reply, on_end: Callable[[bool], None]
    ) -> None:
        self.request: ReceivedRequest = request
        self.reply: Reply = reply
        self._on_end: Callable[[bool], None] | None = on_end

    def end(self, *, delivered: bool) -> None:
        """Note that the reply is over, sent to its end or not. Only the first call counts."""
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(delivered)


class Responder(Protocol):
    """The side that decides the replies, as the sides that carry the bytes see it."""

    def begin(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> Exchange:
        """Take in a request and decide the reply to it."""
        ...


def json_reply(status: int, document: object, *, headers: GivenHeaders = ()) -> Reply:
    """Make a JSON answer of the gateway, with the header that carries its request id.

    Raises `ValueError` for a senseless status and for headers that are not text.
    """
    own = (("Content-Type", "application/json; charset=utf-8"), (REQUEST_ID_HEADER, REQUEST_ID))
    return Reply(
        status=status, headers=(*own, *_header_pairs(headers)), body=json.dumps(document).encode()
    )


def error_reply(
    status: int,
    message: str,
    *,
    code: str | int | None = "",
    kind: str = "comet_api_error",
    param: str | None = None,
    request_id: bool = True,
) -> Reply:
    """Make an error in the gateway's envelope, for the many codes without a name in `FAILURES`.

    *kind* is the field `type`. With *request_id*, *message* gets the suffix "(request id: ...)" of
    the real gateway. The field `param` is left out when it is None, as the gateway does in front
    of its relay.
    """
    text = f"{message} (request id: {REQUEST_ID})" if request_id else message
    error: dict[str, object] = {"message": text, "type": kind, "code": code}
    if param is not None:
        error["param"] = param
    return json_reply(status, {"error": error})


def html_reply(status: int, page: str, *, headers: GivenHeaders = ()) -> Reply:
    """Make a web page, which is what a server in front of the gateway sends.

    Raises `ValueError` for a senseless status and for headers that are not text.
    """
    own = (("Content-Type", "text/html; charset=utf-8"),)
    return Reply(status=status, headers=(*own, *_header_pairs(headers)), body=page.encode())


def stream_reply(*chunks: str, cut_after: int | None = None) -> Reply:
    """Make a stream of server-sent events, one chunk for each string."""
    own = (("Content-Type", "text/event-stream"), (REQUEST_ID_HEADER, REQUEST_ID))
    return Reply(headers=own, body=tuple(map(str.encode, chunks)), cut_after=cut_after)


def changed(reply: Reply, changes: Mapping[str, Any]) -> Reply:
    """Return a reply with other values in some fields. Raises `TypeError` for what is no field."""
    names = [field.name for field in fields(Reply)]
    unknown = [name for name in changes if name not in names]
    if unknown:
        raise TypeError(f"a reply has no field {unknown[0]!r}; its fields are: {', '.join(names)}")
    return replace(reply, **changes)


def with_retry_after(reply: Reply, retry_after: float | str) -> Reply:
    """Add a Retry-After header to a reply: seconds, or a text that is sent as it is."""
    value = retry_after if isinstance(retry_after, str) else f"{retry_after:.10g}"
    kept = tuple(pair for pair in reply.headers if pair[0].lower() != "retry-after")
    return replace(reply, headers=(*kept, ("Retry-After", value)))


def _header_pairs(given: GivenHeaders) -> Headers:
    if not isinstance(given, Iterable):
        raise ValueError(f"headers must be a mapping or pairs of strings, not {given!r}")
    pairs: list[tuple[str, str]] = []
    for pair in given.items() if isinstance(given, Mapping) else given:
        match pair:
            case (str(name), str(value)):
                pairs.append((name, value))
            case _:
                raise ValueError(f"headers must be a mapping or pairs of strings, not {pair!r}")
    return tuple(pairs)


def _fill(text: str, values: Mapping[str, str]) -> str:
    if "{{" in text:
        for placeholder, value in values.items():
            text = text.replace(placeholder, value)
    return text


def _fill_bytes(text: bytes, values: Mapping[str, str]) -> bytes:
    if b"{{" in text:
        for placeholder, value in values.items():
            # The value may stand within a JSON string, so it is escaped as one.
            text = text.replace(placeholder.encode(), json.dumps(value)[1:-1].encode())
    return text
