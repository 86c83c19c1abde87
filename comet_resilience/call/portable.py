"""Exceptions that carry a diagnosis, and that can be pickled and copied with it."""

from __future__ import annotations

import copyreg
import json
from typing import Any, Final

import openai

from ..diagnosis.capture import redactor_of
from ..diagnosis.content import as_json
from ..diagnosis.diagnosis import Diagnosis, find_diagnosis
from ..errors import ResilienceError
from ..wire.body import loaded_body
from ..wire.request import EXTENSION, STREAM_EXTENSION

#: Packages whose exceptions are made fit for travel, and the members that they take along.
_PORTABLE: Final = ("openai", "comet_resilience")
_TRAVELS: Final = ("message", "status_code", "code", "param", "type", "request_id")


def explain(error: BaseException, diagnosis: Diagnosis) -> None:
    """Put a diagnosis on an exception, and its summary under its traceback."""
    make_portable(type(error))
    error.diagnosis = diagnosis  # type: ignore[attr-defined]
    error.add_note(diagnosis.summary)


def make_portable(cls: type[BaseException]) -> None:
    """Let exceptions of the SDK's classes and of ours be pickled and copied.

    By themselves they are not: their constructors want keywords. What travels is the text, the
    status, the codes and the diagnosis; request and response stay behind, with the key in them.
    """
    if issubclass(cls, openai.OpenAIError) and cls.__module__.partition(".")[0] in _PORTABLE:
        copyreg.dispatch_table.setdefault(cls, _reduced)


def _reduced(error: Any) -> tuple[Any, ...]:
    request = getattr(error, "request", None)
    redactor = redactor_of(request, None if request is None else loaded_body(request))

    def clean(value: object) -> object:
        if isinstance(value, str):
            return redactor.without_content(value)
        return value if isinstance(value, (int, float)) else None

    own = vars(error)
    state: dict[str, object] = {name: clean(own[name]) for name in _TRAVELS if name in own}
    state |= {name: None for name in ("request", "response", "body") if name in own}
    if isinstance(own.get("body"), (dict, list)):
        state["body"] = json.loads(as_json(own["body"], redactor, content=False, answer=True))
    if "__notes__" in own:
        state["__notes__"] = [clean(note) for note in own["__notes__"]]
    diagnosis = find_diagnosis(error, (EXTENSION, STREAM_EXTENSION))
    if diagnosis is not None:
        state["diagnosis"] = diagnosis
    args = tuple(clean(arg) for arg in error.args if isinstance(arg, (str, int, float)))
    if isinstance(error, openai.APIStatusError) and not isinstance(error, ResilienceError):
        # The SDK's words are the whole body as Python or JSON shows it; ours say the same.
        message = diagnosis.message if diagnosis else ""
        state["message"] = f"Error code: {error.status_code}{message and f' - {message}'}"
        args = (state["message"],)
    return _revived, (type(error), args, state)


def _revived(
    cls: type[BaseException], args: tuple[object, ...], state: dict[str, object]
) -> BaseException:
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error
