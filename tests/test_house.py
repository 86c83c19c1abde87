"""The house: which room may know which, and what no room may do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import comet_resilience
from comet_resilience.wire import http

ROOT = Path(comet_resilience.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

#: The floors: a room imports from its own floor and from the floors below it.
FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "verdict",
        "limits.algorithm",
        "limits.fixed",
        "limits.budget",
        "limits.priority",
        "events",
        "observers",
        "log",
        "log_lines",
        "fleet.scope",
        "keywords",
        "config",
        "escaping",
        "private_files",
    ),
    ("errors", "wire", "limits", "diagnosis", "journal"),
    ("fleet", "overrides"),
    ("call",),
    ("transport",),
    ("client", "inquiry"),
    ("testing", "otel", "cli", "bulk", "__init__", "__main__"),
)
PURE = (
    "verdict", "limits.algorithm", "limits.budget", "limits.explanations", "limits.fixed",
    "limits.forecast", "limits.lookout", "limits.priority", "limits.queue", "limits.ring",
    "limits.attempt_log", "limits.belief", "limits.snapshot", "limits.spacing", "limits.standstill",
    "fleet.memory", "fleet.merge", "fleet.message", "fleet.pace", "fleet.renewal", "fleet.scope",
    "fleet.sampler", "fleet.share", "wire.sse", "diagnosis.content", "diagnosis.hints",
    "diagnosis.redaction", "diagnosis.secrets", "diagnosis.sizes", "journal.record",
    "journal.sample", "journal.saturation", "escaping",
    "cli.doctor.triage",
    "bulk.keys", "bulk.pace", "bulk.progress", "testing.capacity", "keywords", "config",
)  # fmt: skip
IMPURE_MODULES = {"anyio", "asyncio", "logging", "os", "random", "socket", "threading", "time"}
TESTS = Path(__file__).parent
#: Rooms that have no tests of their name: the file, or the folder, that tests them.
TESTED_IN = {
    "wire.forking": "failure_modes/test_loops_and_forks.py",  # a fork is a process of its own
    "wire.http": "test_house.py",  # protocols: nothing runs, and the house holds others to them
}
#: Folders of tests that are about a whole client, or about what is not in the package.
OF_THEIR_OWN = ("bench", "corpus", "ecosystem", "failure_modes", "matrix")
#: Tests that are about more than one room, or about what is none.
ASPECTS = {
    "bulk/test_example": "a program of `examples/`",
    "bulk/test_killed": "a process that is killed",
    "call/test_retry_loop_machine": "the loop as a state machine, by hypothesis",
    "fleet/test_draw_script": "what runs inside of Redis",
    "fleet/test_example": "a program of `examples/`",
    "fleet/test_script": "what runs inside of Redis",
    "fleet/test_servers": "real servers, restarted and cut off",
    "limits/test_reasons": "the words of every change of a limit",
    "limits/test_state_machine": "the limiter as a state machine, by hypothesis",
    "otel/test_beside": "beside the instrumentation of others",
    "otel/test_dashboard": "a file of `examples/`",
    "test_aiohttp": "the SDK's other HTTP client",
    "test_audit": "`.ci/audit`",
    "test_conftest": "what the tests share",
    "test_credentials": "keys that are renewed while a call waits",
    "test_displays": "values in a notebook",
    "test_examples": "`examples/`",
    "test_failure_shapes": "failures of any shape, by hypothesis",
    "test_gate": "`.ci/run`",
    "test_house": "this file",
    "test_linear_work": "every pattern of the package",
    "test_package": "what is installed",
    "test_proxy": "a proxy of the http client's that makes no connection",
    "test_readme": "the pages",
    "test_readme_snippets": "the pages' programs",
    "test_readme_tests": "the pages' tests",
    "test_recipes": "the pages' recipes",
    "test_recordings": "answers as they came",
    "test_secrets": "no secret in anything that is said, by hypothesis",
    "test_security": "promises of `.github/SECURITY.md`",
    "test_successes": "answers pass as they came",
    "test_traceback_locals": "what a traceback with local variables shows",
    "test_waits": "`wait` and `jitter`, from keyword to pause",
    "verdict/test_boundaries": "the table at the edges of its rows",
    "verdict/test_envelope_members": "bodies of every family",
}


#: Attributes that the SDK's clients have for themselves.
PRIVATE_TO_THE_SDK = {
    "_api_key_provider", "_azure_ad_token_provider", "_build_request", "_client",
    "_custom_headers", "_make_status_error", "_prepare_options", "_prepare_request",
    "_provider_runtime", "_workload_identity_auth",
}  # fmt: skip
#: Where ``request``, ``response`` and ``url`` are those of an HTTP library.
HTTP_ROOMS = ("call", "transport", "diagnosis.capture", "inquiry")
HTTP_MEMBERS = {
    name: {*dir(protocol), *protocol.__annotations__}
    for name, protocol in {
        "request": http.Request, "response": http.Response, "url": http.URL
    }.items()
}  # fmt: skip
#: Attributes that only objects of the HTTP libraries have, whatever the variable is called.
HTTP_INSIDES = {
    "get_length", "http_version", "is_stream_consumed", "num_bytes_downloaded", "reason_phrase",
    "_mounts", "_pool", "_transport",
}  # fmt: skip


def room_of(path: Path) -> str:
    """The dotted name of a file inside the package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def floor_of(room: str) -> int:
    """The floor of a room; the most specific entry counts."""
    found = [
        (len(name), floor)
        for floor, names in enumerate(FLOORS)
        for name in names
        if room == name or room.startswith(name + ".")
    ]
    assert found, f"{room} stands on no floor"
    return max(found)[1]


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path: Path) -> Iterator[tuple[str, int]]:
    """The imports of a file, those for types included: absolute names with level 0."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            names = ["__init__" if name == "__version__" else name for name in names]
            yield from ((name, node.level) for name in names)


def rooms_known_to(path: Path) -> Iterator[str]:
    """The rooms that a file imports, or imports something of."""
    package = room_of(path).split(".")[:-1]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            place = package[: len(package) - node.level + 1]
            place += node.module.split(".") if node.module else []
            for alias in node.names:
                inside = _room_called([*place, alias.name])
                yield from inside or _room_called(place)


def _room_called(place: list[str]) -> set[str]:
    return {".".join(place), ".".join([*place, "__init__"])} & ROOMS.keys()


def functions_of(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a file."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


ROOMS = {room_of(path): path for path in FILES}


def test_no_rooms_know_each_other() -> None:
    """No circle of imports exists, those for types counted."""
    known = {room: set(rooms_known_to(path)) - {room} for room, path in ROOMS.items()}
    while free := {room for room, others in known.items() if not others & known.keys()}:
        known = {room: others for room, others in known.items() if room not in free}
    assert not known, {room: others & known.keys() for room, others in known.items()}


@pytest.mark.parametrize("path", FILES, ids=room_of)
def test_rooms_know_only_what_is_below(path: Path) -> None:
    """No room imports from a floor above its own."""
    room = room_of(path)
    for target in rooms_known_to(path):
        assert floor_of(target) <= floor_of(room), f"{room} imports {target}"


@pytest.mark.parametrize("path", FILES, ids=room_of)
def test_pure_rooms_are_pure(path: Path) -> None:
    """Rooms that decide have no await, clock, randomness, logging or I/O."""
    room = room_of(path)
    if not room.startswith(PURE):
        pytest.skip("not a pure room")
    assert {name.partition(".")[0] for name, _ in imports_of(path)}.isdisjoint(IMPURE_MODULES)
    for node in ast.walk(tree_of(path)):
        assert not isinstance(node, (ast.AsyncFunctionDef, ast.Await))


@pytest.mark.parametrize("path", FILES, ids=room_of)
def test_only_wire_knows_the_http_libraries(path: Path) -> None:
    """Outside ``wire`` and the test gateway no code names httpx or httpx2."""
    if room_of(path).startswith(("wire", "testing")):
        pytest.skip("may know them")
    for node in ast.walk(tree_of(path)):
        named = getattr(node, "id", None) or (
            node.value
            if isinstance(node, ast.Constant) and node.value in ("httpx", "httpx2")
            else ""
        )
        assert named not in ("httpx", "httpx2")
    assert {name.partition(".")[0] for name, _ in imports_of(path)}.isdisjoint({"httpx", "httpx2"})


@pytest.mark.parametrize("path", FILES, ids=room_of)
def test_only_wire_reaches_into_objects_of_the_http_libraries(path: Path) -> None:
    """Elsewhere a request and a response have the members of their protocols and no others."""
    room = room_of(path)
    if room.startswith(("wire", "testing")):
        pytest.skip("may reach into them")
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute):
            assert node.attr not in HTTP_INSIDES, f"{ast.unparse(node)} in line {node.lineno}"
            owner = getattr(node.value, "id", getattr(node.value, "attr", ""))
            if room.startswith(HTTP_ROOMS) and owner in HTTP_MEMBERS:
                assert node.attr in HTTP_MEMBERS[owner], f"{owner}.{node.attr}"


@pytest.mark.parametrize("path", FILES, ids=room_of)
def test_only_the_client_reaches_into_the_sdk(path: Path) -> None:
    """Elsewhere no code uses what the SDK's clients have for themselves, or its private modules."""
    if room_of(path) == "client":
        pytest.skip("may reach into them")
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) != "self":
            assert node.attr not in PRIVATE_TO_THE_SDK, ast.unparse(node)
    assert not [name for name, _ in imports_of(path) if name.startswith("openai._")]


@pytest.mark.parametrize("path", FILES, ids=room_of)
def test_only_config_gives_numbers_a_default(path: Path) -> None:
    """No parameter outside ``config`` and the test gateway defaults to a number.

    Declarations that repeat ``config`` for editors are held to it by ``test_keywords.py``.
    """
    if room_of(path).startswith(("config", "testing")):
        pytest.skip("may have defaults")
    for function in functions_of(path):
        if any("implemented_by" in ast.unparse(each) for each in function.decorator_list):
            continue
        for default in (*function.args.defaults, *function.args.kw_defaults):
            value = getattr(default, "value", None)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            assert not number, f"{function.name} defaults to {value}"


@pytest.mark.parametrize("path", FILES, ids=room_of)
def test_functions_fit_on_a_screen(path: Path) -> None:
    """A function is read from top to bottom without scrolling; a file is as long as its idea."""
    for function in functions_of(path):
        body = function.body[1:] if ast.get_docstring(function) else function.body
        if body:
            last = body[-1].end_lineno or 0
            assert last - body[0].lineno < 50, function.name


def test_the_door_is_in_order() -> None:
    """Everything offered exists, has a docstring, and stands in order."""
    names = comet_resilience.__all__
    assert names == sorted(names, key=lambda name: (name.islower(), name))
    for name in names:
        member = getattr(comet_resilience, name)
        assert getattr(member, "__doc__", None) or name == "Event"


def _tests_of(room: str) -> Path:
    folder, _, name = room.rpartition(".")
    return TESTS / folder.replace(".", "/") / f"test_{name}.py"


def test_every_file_has_tests_of_its_name() -> None:
    """Whoever looks for the tests of a file finds them without a search."""
    rooms = {room for room in ROOMS if not room.rpartition(".")[2].startswith("__")}
    assert not {room for room in rooms - TESTED_IN.keys() if not _tests_of(room).exists()}
    assert not TESTED_IN.keys() - rooms
    assert not {room for room in TESTED_IN if _tests_of(room).exists()}
    assert not {tests for tests in TESTED_IN.values() if not (TESTS / tests).exists()}


def test_every_file_of_tests_has_the_name_of_its_room() -> None:
    """Or it is about more than one room, and says what about."""
    named = {_tests_of(room) for room in ROOMS}
    others = {
        path.relative_to(TESTS).with_suffix("").as_posix()
        for path in TESTS.rglob("test_*.py")
        if path not in named and path.relative_to(TESTS).parts[0] not in OF_THEIR_OWN
    }
    assert not others - ASPECTS.keys()
