"""The examples run as a user would run them, and show what they promise."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from comet_resilience.testing import Gateway

from .programs import ROOT, environment_of, run_example

KEY = "sk-CANARY-8d41f0a9b7c2"
MODEL = "gpt-5.4"


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """A gateway on a real socket, in a thread of its own, that accepts one key and one model."""
    with start_blocking_portal() as portal:
        served = Gateway(keys=[KEY], models=[MODEL])
        with portal.wrap_async_context_manager(served):
            yield served


def quickstart(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the quickstart in a folder, with no settings but those that are given."""
    return run_example("quickstart.py", *arguments, folder=folder, **settings)


def counts(output: str, client: str) -> list[str]:
    """The numbers in a client's row of the first table."""
    row = re.search(rf"^ +{client} +(\d[\d. ]+)$", output, re.MULTILINE)
    assert row is not None, output
    return row[1].split()


def test_the_demo_shows_both_clients_and_draws_the_picture(tmp_path: Path) -> None:
    """Every good call of the wrapped client is answered; the two hopeless ones are explained."""
    done = quickstart(tmp_path, "--calls", "40")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    calls, succeeded, failed, attempts, _, retries, _ = counts(done.stdout, "wrapped")
    assert (calls, succeeded, failed) == ("40", "38", "2")
    assert int(attempts) == 40 + int(retries)
    assert counts(done.stdout, "bare SDK")[0] == "40"
    for name in ("429s", "invalid_request", "model_unavailable", "First:", "claude-sonnet-4-6"):
        assert name in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    picture = (tmp_path / "quickstart.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert 20_000 < len(picture) < 500_000


def test_with_a_key_a_few_calls_go_to_the_real_gateway(tmp_path: Path, gateway: Gateway) -> None:
    """Five calls reach the gateway that is named; the key stays out of sight, and no picture."""
    done = quickstart(
        tmp_path, "--model", MODEL, COMETAPI_KEY=KEY, COMETAPI_BASE_URL=gateway.base_url
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert counts(done.stdout, "wrapped")[:4] == ["5", "5", "0", "5"]
    assert [request.model for request in gateway.requests] == [MODEL] * 5
    assert "bare SDK" not in done.stdout
    assert KEY not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_refused_key_is_explained_and_not_shown(tmp_path: Path, gateway: Gateway) -> None:
    """Calls that fail make the exit code 1, and the report says what to do."""
    wrong = f"{KEY}-wrong"
    settings = {"COMETAPI_KEY": wrong, "COMETAPI_MODEL": MODEL}
    done = quickstart(tmp_path, COMETAPI_BASE_URL=gateway.base_url, **settings)
    assert done.returncode == 1
    assert counts(done.stdout, "wrapped")[:4] == ["5", "0", "5", "5"]
    assert "authentication" in done.stdout
    assert KEY not in done.stdout + done.stderr


def test_with_a_key_and_no_model_it_asks_for_one(tmp_path: Path) -> None:
    """Which model to pay for is the user's choice."""
    done = quickstart(tmp_path, COMETAPI_KEY=KEY)
    assert done.returncode == 2
    assert "--model" in done.stderr
    assert KEY not in done.stdout + done.stderr


def test_the_demo_ignores_a_key_when_told_so(tmp_path: Path, gateway: Gateway) -> None:
    """`--demo` sends nothing to the gateway that the settings name."""
    settings = {"COMETAPI_KEY": KEY, "COMETAPI_BASE_URL": gateway.base_url}
    done = quickstart(tmp_path, "--demo", "--calls", "10", **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bare SDK" in done.stdout
    assert gateway.requests == []


#: Examples that are started as they are; each says what it needs besides the package.
SCRIPTS = sorted(
    path.relative_to(ROOT / "examples").as_posix()
    for path in (ROOT / "examples").rglob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")
)
#: What is there wherever the package is.
PRESENT = {"openai", "anyio", "backoff", "pydantic", "comet_resilience", *sys.stdlib_module_names}


def imported_by(script: Path) -> set[str]:
    """Return the packages that a script imports from outside of the examples."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return {name for name in found - PRESENT if not (script.parent / f"{name}.py").exists()}


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_says_what_it_needs(script: str) -> None:
    """Without what it imports it ends with the command that installs it, and no traceback."""
    path = ROOT / "examples" / script
    needed = sorted(imported_by(path))
    if not needed:
        pytest.skip("it needs the package alone")
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(path.parent)!r})\n"
        f"sys.modules.update(dict.fromkeys({needed}))\n"
        f"runpy.run_path({str(path)!r}, run_name='__main__')"
    )
    done = subprocess.run(  # noqa: S603 - our own file
        [sys.executable, "-c", code],
        env=environment_of(),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 1
    assert re.fullmatch(r"\S+ is not installed\. Do: pip install .+\n", done.stderr), done.stderr


def test_help_names_the_options(tmp_path: Path) -> None:
    """`--help` works without a key, a gateway or a model."""
    done = quickstart(tmp_path, "--help")
    assert done.returncode == 0
    assert {"--demo", "--calls", "--model"} <= set(re.findall(r"--\w+", done.stdout))


def test_another_model_answers_where_the_first_cannot(tmp_path: Path) -> None:
    """What the detour took is told from the journal."""
    done = run_example("fallback.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    answer, first, second = done.stdout.splitlines()
    assert answer.endswith("from claude-sonnet-4-6")
    assert re.fullmatch(r"gpt-5\.4: attempts 3, seconds [\d.]+, tokens 0", first)
    assert re.fullmatch(r"claude-sonnet-4-6: attempts 1, seconds [\d.]+, tokens [1-9]\d*", second)


def test_an_outage_is_drawn_with_both_clients(tmp_path: Path) -> None:
    """The wrapped client answers every call; both lines are printed, and the picture is one."""
    done = run_example("outage.py", "--calls", "12", "--seconds", "0.8", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    bare, wrapped, _ = done.stdout.splitlines()
    assert bare.startswith("bare SDK, max_retries=6: ")
    assert wrapped.startswith("wrapped: 12 of 12 calls answered, the last after ")
    picture = (tmp_path / "outage.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert 20_000 < len(picture) < 500_000
