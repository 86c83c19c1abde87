"""The checklist "Before you contact support" of the gateway's guide, filled in.

Everything comes from the diagnosis that travels with the exception; client, request and response
may be long gone. The items have the guide's order and names, and an item of which nothing is known
says so instead of being left out.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from .capture import Content, Facts, Part
from .diagnosis import Diagnosis
from .redaction import Redactor

NOT_TRIED: Final = "not tried"
_NOTHING: Final = Facts(
    body_content=Content(""), answer_content=Content(""), message_content=Content("")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A field of an upload: a text with its value, or a file with name, type and size in bytes."""

    field: str
    value: str | None
    file_name: str
    file_type: str
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SupportReport:
    """The facts that support asks for, with all secrets removed; ``str()`` gives Markdown.

    ``request_body`` and ``response_body`` are JSON or text. Texts of messages stand in them as
    lengths, unless ``include_content`` was asked for. ``files`` says how each file was given.
    """

    method: str
    path: str
    base_url: str
    model: str
    request_body: str = field(repr=False)
    query: tuple[tuple[str, str], ...]
    response_body: str = field(repr=False)
    response_headers: tuple[tuple[str, str], ...]
    status: str
    error_message: str = field(repr=False)
    error_code: str
    request_ids: tuple[tuple[str, str], ...]
    timestamp: str
    other_model: str
    other_key: str
    uploads: tuple[Upload, ...] = field(repr=False)
    files: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]
    diagnosis: Diagnosis

    def __str__(self) -> str:
        return self.to_markdown()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Show the words instead of the fields where IPython or a notebook displays the value."""
        printer.text("..." if cycle else str(self))

    def _repr_markdown_(self) -> str:
        """Show the report as it goes into a ticket."""
        return self.to_markdown()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data; bodies that are JSON are parsed."""
        return {
            "method": self.method,
            "path": self.path,
            "base_url": self.base_url,
            "model": self.model,
            "request_body": _data(self.request_body),
            "query": [list(pair) for pair in self.query],
            "response_body": _data(self.response_body),
            "response_headers": dict(self.response_headers),
            "status": self.status,
            "error_message": self.error_message,
            "error_code": self.error_code,
            "request_ids": dict(self.request_ids),
            "timestamp": self.timestamp,
            "other_model": self.other_model,
            "other_key": self.other_key,
            "uploads": [asdict(upload) for upload in self.uploads],
            "files": list(self.files),
            "versions": dict(self.versions),
            "diagnosis": self.diagnosis.to_dict(),
        }

    def to_json(self) -> str:
        """Return the report as a JSON document."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2)

    def to_markdown(self) -> str:
        """Return the report to paste into a ticket."""
        return "\n".join(_markdown(self)).rstrip() + "\n"


def report_of(
    diagnosis: Diagnosis,
    *,
    include_content: bool,
    other_model: str | bool | None,
    other_key: str | bool | None,
) -> SupportReport:
    """Fill the checklist in from a diagnosis."""
    facts = diagnosis.facts or _NOTHING
    base, path = _address(facts, diagnosis)
    response = _chosen(facts.answer, facts.answer_content, include_content)
    return SupportReport(
        method=facts.method or diagnosis.route.partition(" ")[0],
        path=path,
        base_url=base,
        model=diagnosis.model or _model_field(facts),
        request_body=_chosen(facts.body, facts.body_content, include_content),
        query=facts.query,
        response_body=response,
        response_headers=facts.headers,
        status=_status(diagnosis, facts),
        error_message=_chosen(facts.message, facts.message_content, include_content),
        error_code=diagnosis.code,
        request_ids=tuple(_ids(diagnosis)),
        timestamp=diagnosis.at,
        other_model=_tried(_model_that_worked(diagnosis) if other_model is None else other_model),
        other_key=_tried(other_key),
        uploads=tuple(_upload(part, include_content) for part in facts.parts),
        files=tuple(_files(facts)),
        versions=_versions(facts.http),
        diagnosis=diagnosis,
    )


def _model_field(facts: Facts) -> str:
    """Return the model that an upload names, where nothing else does."""
    return next((part.value for part in facts.parts if part.name == "model" and part.value), "")


def _chosen(plain: str, content: Content, include_content: bool) -> str:
    return (content.text or plain) if include_content else plain


def _address(facts: Facts, diagnosis: Diagnosis) -> tuple[str, str]:
    """Return the base URL as far as the route tells it, else the server; and the call's path."""
    route = diagnosis.route.partition(" ")[2]
    _, slash, rest = facts.url.partition("://")[2].partition("/")
    path = slash + rest
    below = route if route and path.endswith(route) else path
    return facts.url.removesuffix(below), path or route


def _status(diagnosis: Diagnosis, facts: Facts) -> str:
    if diagnosis.status is None:
        fault = diagnosis.attempts[-1].fault if diagnosis.attempts else ""
        return f"none: no response ({fault or diagnosis.meaning})"
    phrase = facts.phrase
    if not phrase:
        is_standard = diagnosis.status in {status.value for status in HTTPStatus}
        phrase = HTTPStatus(diagnosis.status).phrase if is_standard else ""
    return f"{diagnosis.status} {phrase}".rstrip()


def _ids(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    """Yield the ids of the last answer, then those of the attempts before it."""
    last = diagnosis.ids
    for name in ("gateway", "provider", "edge"):
        if getattr(last, name):
            yield name, getattr(last, name)
    for attempt in diagnosis.attempts[:-1]:
        for name in ("gateway", "provider", "edge"):
            if getattr(attempt.ids, name):
                yield f"attempt {attempt.number}, {name}", getattr(attempt.ids, name)


def _model_that_worked(diagnosis: Diagnosis) -> str | None:
    """Return the model that last worked with the same key, which saves trying one."""
    evidence = diagnosis.evidence
    if evidence is None or not evidence.other_model:
        return None
    return f"{evidence.other_model}: {evidence.other}, in this process before the failure"


def _tried(answer: str | bool | None) -> str:
    if answer is None:
        return NOT_TRIED
    if isinstance(answer, bool):
        return "works" if answer else "fails in the same way"
    return Redactor().line(answer)


def _upload(part: Part, include_content: bool) -> Upload:
    value = part.value
    if value is not None and include_content:
        value = part.content.text or value
    return Upload(
        field=part.name,
        value=value,
        file_name=part.filename,
        file_type=part.type,
        size=part.size,
    )


def _files(facts: Facts) -> Iterator[str]:
    """Yield how each file was given: directly, by URL, or as base64."""
    for part in facts.parts:
        if part.value is None:
            size = "size unknown" if part.size is None else f"about {part.size} bytes"
            kind = part.type or "type unknown"
            yield f"{part.name}: uploaded directly ({part.filename or 'no name'}, {kind}, {size})"
    yield from facts.media


@cache
def _own_versions() -> tuple[tuple[str, str], ...]:
    found = [("Python", f"{platform.python_version()} on {platform.system()}")]
    for name in ("openai", "comet-resilience"):
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            found.append((name, "not installed as a package"))
    return tuple(found)


def _versions(http: str) -> tuple[tuple[str, str], ...]:
    name, _, number = http.partition(" ")
    return (*_own_versions(), (name, number)) if name else _own_versions()


def _data(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _markdown(report: SupportReport) -> Iterator[str]:
    yield from ("# Support report", "", _code(report.diagnosis.summary.partition("\n")[0]), "")
    for name, value in _items(report):
        yield f"- **{name}:** {_code(value) if value else 'none'}"
    if report.files:
        yield from ("- **Files:**", *(f"  - {_code(line)}" for line in report.files))
    else:
        yield "- **Files:** none"
    yield from _section("Request body (sanitised)", _body_of(report))
    yield from _section("Response body", _indented(report.response_body))
    headers = "\n".join(f"{name}: {value}" for name, value in report.response_headers)
    yield from _section("Response headers (those that may be shown)", headers)
    attempts = "\n".join(str(attempt) for attempt in report.diagnosis.attempts)
    yield from _section("Attempts", attempts)
    yield from _section("Diagnosis", str(report.diagnosis))
    yield from _section("Versions", "\n".join(" ".join(pair) for pair in report.versions))


def _items(report: SupportReport) -> Iterator[tuple[str, str]]:
    yield "HTTP method", report.method
    yield "Endpoint path", report.path
    yield "Base URL", report.base_url
    yield "Model ID", report.model
    yield "Query parameters", "&".join(f"{name}={value}" for name, value in report.query)
    yield "HTTP status", report.status
    yield "error.message", report.error_message
    yield "error.code", report.error_code
    yield "Request ids", ", ".join(f"{name} {id_}" for name, id_ in report.request_ids)
    yield "Timestamp", report.timestamp
    yield "Works with another model", report.other_model
    yield "Works with another key", report.other_key


def _body_of(report: SupportReport) -> str:
    """Return the body, or the fields that were sent in its place."""
    if not report.uploads:
        return _indented(report.request_body)
    return "\n".join(
        f"{upload.field} = {upload.value}"
        if upload.value is not None
        else f"{upload.field} = file {upload.file_name} ({upload.file_type}, {upload.size} bytes)"
        for upload in report.uploads
    )


def _section(title: str, text: str) -> Iterator[str]:
    fence = "```"
    while fence in text:
        fence += "`"
    yield from ("", f"## {title}", "")
    yield from (fence, text, fence) if text else ("none",)


def _indented(text: str) -> str:
    data = _data(text)
    return text if isinstance(data, str) else json.dumps(data, ensure_ascii=False, indent=2)


def _code(text: str) -> str:
    """Return a text on one line, quoted so that Markdown leaves it alone."""
    text = " ".join(text.split())
    fence = "`"
    while fence in text:
        fence += "`"
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"
