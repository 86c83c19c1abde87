"""The promises of SECURITY.md that no other file shows: origins, files, connections of our own."""

from __future__ import annotations

import ast
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import openai
import pytest

import comet_resilience
from comet_resilience.bulk.checkpoint import Checkpoint

from .conftest import BASE_URL, KEY, OK, Answer, ask, envelope, scripted

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = Path(comet_resilience.__file__).parent
#: Rooms that write files, each with the reason why that is safe.
WRITERS: Final = {
    "bulk/checkpoint.py",  # opened by private_files.py: results may be stored in it
    "cli/saturation/command.py",  # a page to be shown around: routes, models and numbers
    "journal/writer.py",  # by private_files.py too, although it holds no content
}
_NETWORK: Final = {
    "aiohttp", "ftplib", "http.client", "requests", "smtplib", "socket", "urllib.request",
    "urllib3",
}  # fmt: skip
_MAKES_FILES: Final = {"write_text", "write_bytes", "mkdir", "mkstemp", "mkdtemp"}


def calls_of(path: Path) -> Iterator[tuple[str, str]]:
    """The last name of each function that a file calls, and its arguments as text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            yield name, ", ".join(map(ast.unparse, node.args))


def writes(path: Path) -> bool:
    """Return True if a file of ours creates files."""
    return any(
        name in _MAKES_FILES
        or (
            name in ("open", "open_private") and re.search(r"'[rb]*[wax][+bt]*'|O_CREAT", arguments)
        )
        for name, arguments in calls_of(path)
    )


def test_who_writes_files_is_known() -> None:
    """No other room creates a file: a new one has to say why it is safe."""
    found = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if writes(path)}
    assert found == WRITERS


@pytest.mark.skipif(os.name == "nt", reason="file modes mean little there")
def test_results_of_bulk_runs_are_for_the_owner_alone(tmp_path: Path) -> None:
    """The file of finished calls is made for its owner, whatever the umask."""
    path = tmp_path / "finished.jsonl"
    before = os.umask(0)
    try:
        finished = Checkpoint(path)
        finished.open()
    finally:
        os.umask(before)
    finished.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_room_opens_connections_of_its_own() -> None:
    """What is sent goes through the caller's http client: nobody else speaks to the network."""
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] in ("testing", "cli"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not set(names) & _NETWORK, path


ELSEWHERE: Final = {
    "location": "https://evil.test/v1",
    "content-location": "https://evil.test/v1",
    "refresh": "0; url=https://evil.test/v1",
    "link": '<https://evil.test/v1>; rel="canonical"',
    "alt-svc": 'h2="evil.test:443"',
    "retry-after": "0",
}


@pytest.mark.anyio
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 400, 401, 429, 500, 502, 503, 524])
async def test_no_answer_moves_a_request_to_another_origin(status: int) -> None:
    """Whatever a server says, every attempt goes to the base URL, with the key in one place."""
    answer: Answer = (status, envelope("", "try https://evil.test/v1"), ELSEWHERE)
    client, inner = scripted(answer, answer, OK, backoff_initial=0.0, backoff_max=0.0)
    try:
        await ask(client)
    except openai.APIStatusError:
        assert status not in (429, 500, 502, 503)
    for headers, url, _ in inner.sent:
        assert url.startswith(BASE_URL + "/")
        assert [name for name, value in headers.items() if KEY in value] == ["authorization"]
    assert all(KEY.encode() not in body for body in inner.bodies)


@pytest.mark.anyio
async def test_a_server_cannot_keep_a_request_waiting() -> None:
    """However long a pause it asks for, the caller hears of it at once."""
    hint = {"retry-after": "99999999"}
    client, inner = scripted((429, envelope("", "slow down"), hint))
    with pytest.raises(openai.RateLimitError):
        await ask(client)
    assert len(inner.sent) == 1
