"""No line of the log, and no line for a terminal, is forged by what comes from outside."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import logging
import typing
import warnings
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import openai
import pytest

import comet_resilience
from comet_resilience import diagnose, support_report, wrap
from comet_resilience.bulk.checkpoint import HEADER, Checkpoint
from comet_resilience.call.nesting import NestingWatch
from comet_resilience.cli import main
from comet_resilience.events import Event
from comet_resilience.limits.snapshot import GateView, PartitionSnapshot, Snapshot
from comet_resilience.log import EscapingFilter, LogWriter, logger
from comet_resilience.log_lines import describe, fields_of
from comet_resilience.verdict.vocabulary import Operation, RequestInfo

from .conftest import Answer, Scripted, ask, bare_client, scripted

PACKAGE = Path(comet_resilience.__file__).parent
#: A second line, a colour, a change of direction, line ends of other kinds, half a character.
HOSTILE = "gpt\nCRITICAL forged\r\x1b[2J\u202e\u2028\u2029\x85\x0b\ud800\x00\u2066"
INFO = RequestInfo(route=f"GET /{HOSTILE}", model=HOSTILE, operation=Operation.TEXT, stream=False)


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Yield what an application's log file would get: each record as a formatter shows it."""
    written: list[str] = []
    handler = logging.Handler()
    told = "%(comet_route)s %(comet_model)s %(comet_partition)s %(comet_reason)s"
    nothing = {f"comet_{name}": "" for name in ("route", "model", "partition", "reason")}
    words = f"%(levelname)s %(name)s %(message)s {told}"
    formatter = logging.Formatter(words, defaults=nothing)
    handler.emit = lambda record: written.append(formatter.format(record))  # type: ignore[method-assign]
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield written
    logger.removeHandler(handler)
    logger.setLevel(level)


def assert_whole(text: str) -> None:
    """One line, and a terminal shows it as it is."""
    assert text.isprintable(), repr(text)


def assert_no_forgery(text: str) -> None:
    """Lines that a terminal shows as they are, and none that somebody else began."""
    for line in text.split("\n"):
        assert line.isprintable(), repr(line)
        assert not line.lstrip().startswith("CRITICAL")


def hostile(type_: Any) -> Any:
    """A value of a type, as hostile as it can be."""
    options = typing.get_args(type_)
    if type_ is str or (type(None) in options and str in options):
        return HOSTILE
    if type_ is typing.Hashable or type_ is Any or "Hashable" in str(type_):
        return ("POST /x", HOSTILE)
    if isinstance(type_, type) and issubclass(type_, Enum):
        return next(iter(type_))
    if type_ is RequestInfo:
        return INFO
    if type_ in (int, float, bool):
        return type_(1)
    if type_ is BaseException or type(None) in options:
        return None
    return hostile(options[0]) if options else HOSTILE


def hostile_event(cls: Any) -> Any:
    """An event of a kind, with the worst in each of its fields."""
    types = typing.get_type_hints(cls)
    return cls(**{field.name: hostile(types[field.name]) for field in dataclasses.fields(cls)})


@pytest.mark.parametrize("cls", typing.get_args(Event), ids=lambda cls: cls.__name__)
def test_every_event_is_one_printable_line(cls: Any, lines: list[str]) -> None:
    """Route, model, partition, reason, code and id of every kind of event there is."""
    event = hostile_event(cls)
    assert_whole(describe(event))
    LogWriter(None)(event)
    assert len(lines) == 1
    assert_whole(lines[0])
    assert_whole(repr(event))
    for value in fields_of(event).values():
        assert_whole(str(value))


def test_every_logging_call_goes_through_the_escaping_logger() -> None:
    """There is one logger, it escapes, and nothing but words of our own is its format."""
    calls, loggers = [], []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if name.endswith("getLogger"):
                loggers.append(ast.unparse(node))
            elif name.startswith(("logger.", "logging.", "log.")):
                calls.append((name, node))
    assert set(loggers) == {"logging.getLogger('comet_resilience')"}
    assert any(isinstance(one, EscapingFilter) for one in logger.filters)
    words = {"debug", "info", "warning", "error", "exception", "critical", "log"}
    calls = [(name, node) for name, node in calls if name.rpartition(".")[2] in words]
    assert len(calls) >= 5
    for name, node in calls:
        assert name.startswith("logger."), name
        assert not any(isinstance(part, ast.JoinedStr) for part in ast.walk(node)), name


@pytest.mark.parametrize("level", [logging.DEBUG, logging.ERROR])
def test_whatever_is_logged_is_escaped(level: int, lines: list[str]) -> None:
    """In the format, among the arguments, by name, and in the text of an exception."""
    logger.log(level, HOSTILE)
    logger.log(level, "%s and %d", HOSTILE, 3)
    logger.log(level, "%(a)s", {"a": HOSTILE})
    assert " and 3" in lines[1]
    for line in lines:
        assert_whole(line)
    lines.clear()
    try:
        try:
            raise KeyError(HOSTILE)
        except KeyError as error:
            raise ExceptionGroup(HOSTILE, [ValueError(HOSTILE)]) from error
    except ExceptionGroup:
        logger.exception("it failed")
    assert_no_forgery(lines[0])
    assert lines[0].count("Traceback") == 3
    assert "KeyError" in lines[0]
    assert "ValueError" in lines[0]


@pytest.mark.anyio
async def test_a_hostile_model_and_answer_forge_no_line(lines: list[str]) -> None:
    """From the wire to the log, the note, the diagnosis, the report and the snapshot."""
    error = {"error": {"message": HOSTILE, "code": HOSTILE.replace("\ud800", ""), "type": "x"}}
    answer: Answer = (503, error, {"x-request-id": "a\x1bb"})
    text = HOSTILE.replace("\ud800", "")
    client, _ = scripted(answer, max_retries=2, backoff_initial=0.0, backoff_max=0.0)
    with pytest.raises(openai.APIStatusError) as caught:
        await ask(client, model=text)
    with pytest.raises(openai.APIStatusError):
        await client.get("/files/a%0aCRITICAL%20forged%1b[31m", cast_to=object)
    assert len(lines) > 4
    for line in lines:
        assert_whole(line)
    told = diagnose(caught.value)
    report = support_report(caught.value)
    for shown in (*caught.value.__notes__, str(told), told.summary, report.to_markdown(),
                  str(comet_resilience.snapshot(client))):  # fmt: skip
        assert_no_forgery(shown)


@pytest.mark.anyio
@pytest.mark.parametrize("option", ["on_event", "journal"])
async def test_a_function_that_fails_with_hostile_words_forges_no_line(
    option: str, lines: list[str]
) -> None:
    """Its exception is logged with its traceback."""

    def broken(_: object) -> None:
        raise LookupError(HOSTILE)

    options: dict[str, Any] = {option: broken}
    client, _ = scripted((500, {}, {}), max_retries=0, **options)
    with contextlib.suppress(openai.APIStatusError):
        await ask(client)
    assert any("LookupError" in line for line in lines)
    for line in lines:
        assert_no_forgery(line)


def test_retries_above_ours_are_named_on_one_line(lines: list[str]) -> None:
    """The warning names route and model."""
    NestingWatch()._warn(INFO, "it seems", "Switch it off")
    assert len(lines) == 1
    assert_whole(lines[0])


def test_a_snapshot_and_a_warning_are_printable(tmp_path: Path) -> None:
    """A partition's key is the caller's; a path may hold anything."""
    gate = GateView(host=HOSTILE, is_host=True, reason=HOSTILE, since=1.0, next_canary=1.0)
    shown = PartitionSnapshot(
        partition=("GET /x", HOSTILE), limit=1, in_flight=0, waiting=0, ok=0, refused=0, other=0,
        closed_for=1.0, changes=(), gate=gate,
    )  # fmt: skip
    assert_no_forgery(str(Snapshot(partitions=(shown,))))
    path = tmp_path / "a\x1b[2Jb"
    path.write_bytes(HEADER + b"nonsense\n")
    path.chmod(0o600)
    finished = Checkpoint(path)
    with pytest.warns(UserWarning, match="cannot be read") as caught:
        finished.open()
    finished.close()
    for warning in caught:
        assert_whole(str(warning.message))


def test_the_warning_of_a_base_url_shows_no_token() -> None:
    """Where a path before /v1 holds one."""
    bare = bare_client(Scripted([]), base_url="https://api.cometapi.com/kHjw82hsWq01/v1")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        wrap(bare)
    [warning] = [one for one in caught if "base URL" in str(one.message)]
    assert "kHjw82hsWq01" not in str(warning.message)
    assert_whole(str(warning.message))


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain", f"Error code: 400 - {{'error': {{'message': {HOSTILE!r}, 'code': 'x\\x1b'}}}}"],
        ["explain", "--status", "500", "--body", HOSTILE.replace("\ud800", "").replace("\0", "")],
        ["explain", "--status", "500", "--header", "a\x1b\nCRITICAL"],
        ["explain", "--status", "500", "--file", "/nowhere/\x1b[2J\nCRITICAL"],
        ["saturation", "/nowhere/\x1b[2J\nCRITICAL"],
    ],
)
def test_the_command_line_prints_no_forgery(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What is pasted into it comes from outside as well."""
    main(arguments)
    printed = capsys.readouterr()
    assert printed.out + printed.err
    for text in printed:
        assert_no_forgery(text.rstrip("\n"))
