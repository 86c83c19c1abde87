"""Requests, as the gateway received them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """One request: *number* counts from 1, *at* is in seconds since the gateway started.

    Header names are in lower case. *model* is the one that the body names, in JSON or in a form.
    Headers and body, which hold keys and prompts, are not in the repr.
    """

    number: int
    at: float
    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    model: str | None = None

    def json(self) -> Any:
        """Parse the body as JSON. Raises `ValueError` when it is not JSON."""
        return json.loads(self.body)

    def form(self) -> dict[str, bytes]:
        """Return the fields of a form, files included; the last of several with one name."""
        return _form(self.headers.get("content-type", ""), self.body)

    def fields(self) -> dict[str, Any]:
        """Return the fields of a body that is a JSON object or a form, else raise `ValueError`."""
        form = self.form()
        if form:
            return {name: value.decode("utf-8", "replace") for name, value in form.items()}
        document = self.json()
        if not isinstance(document, dict):
            raise ValueError("the body is JSON, but not an object")
        return document


def receive(
    number: int,
    at: float,
    method: str,
    target: str,
    headers: Iterable[tuple[str, str]],
    body: bytes,
) -> ReceivedRequest:
    """Make a request of its target, headers and body."""
    path, _, query = target.partition("?")
    lowered: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        lowered[key] = f"{lowered[key]}, {value}" if key in lowered else value
    return ReceivedRequest(
        number=number,
        at=at,
        method=method,
        path=path,
        query=query,
        headers=lowered,
        body=body,
        model=_model(lowered.get("content-type", ""), body),
    )


def _model(content_type: str, body: bytes) -> str | None:
    form = _form(content_type, body)
    if form:
        return form.get("model", b"").decode("utf-8", "replace") or None
    try:
        model = json.loads(body)["model"]
    except (ValueError, LookupError, TypeError):
        return None
    return model if isinstance(model, str) and model else None


def _form(content_type: str, body: bytes) -> dict[str, bytes]:
    kind, _, parameters = content_type.partition(";")
    if kind.strip().lower() == "application/x-www-form-urlencoded":
        return {name: value.encode() for name, value in parse_qsl(body.decode("utf-8", "replace"))}
    boundary = _parameter(parameters, "boundary")
    if kind.strip().lower() != "multipart/form-data" or not boundary:
        return {}
    return dict(filter(None, map(_part, (b"\r\n" + body).split(b"\r\n--" + boundary.encode()))))


def _part(part: bytes) -> tuple[str, bytes] | None:
    head, found, value = part.partition(b"\r\n\r\n")
    for line in head.decode("utf-8", "replace").split("\r\n"):
        header, _, parameters = line.partition(";")
        if header.replace(" ", "").lower() == "content-disposition:form-data" and found:
            return _parameter(parameters, "name"), value
    return None


def _parameter(parameters: str, wanted: str) -> str:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == wanted:
            return value.strip().strip('"')
    return ""
