"""The matrix keeps what pyproject.toml promises, and picks what it is asked for."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from .__main__ import choose, main, status, table
from .environments import ENVIRONMENTS, FLOORS, Environment
from .packaging import SOURCES
from .pythons import find_python
from .running import Outcome, StepFailedError, _Job, lacking, run

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final[dict[str, Any]] = tomllib.loads(
    (ROOT / "pyproject.toml").read_text(encoding="utf-8")
)["project"]


def test_every_promised_python_is_run() -> None:
    """Each Python among the classifiers has an environment, and no other."""
    promised = {
        found[1] for line in PROJECT["classifiers"] if (found := re.search(r":: (3\.\d+)$", line))
    }
    assert {environment.python for environment in ENVIRONMENTS} == promised
    assert PROJECT["requires-python"] == f">={min(promised, key=lambda each: int(each[2:]))}"


def test_the_floors_are_those_of_the_project() -> None:
    """The lowest versions that are promised are the ones that are tested."""
    promised = {
        found[1]: found[2].split(".")
        for line in PROJECT["dependencies"]
        if (found := re.match(r"(\w+)>=([\d.]+)", line))
    }
    tested = {name: version.split(".") for name, _, version in (f.partition("==") for f in FLOORS)}
    assert tested.keys() == promised.keys()
    for name, version in promised.items():
        assert tested[name][: len(version)] == version
        assert not any(int(part) for part in tested[name][len(version) :])
    assert any(set(FLOORS) <= set(environment.requirements) for environment in ENVIRONMENTS)


def test_both_families_run_without_the_other() -> None:
    """There is an environment without httpx, one without httpx2, and one with both."""
    assert {environment.absent for environment in ENVIRONMENTS} == {("httpx",), ("httpx2",), ()}


def test_names_and_tests_exist() -> None:
    """Names are unique; tests and what goes beside the wheel are there."""
    every = choose([], core=False, frameworks=False)
    assert len({environment.name for environment in every}) == len(every) > len(ENVIRONMENTS)
    for path in (*SOURCES, *(test for environment in every for test in environment.tests)):
        assert (ROOT / path).exists(), path


def test_choosing() -> None:
    """By name, the core, the frameworks, both, or everything."""
    core = choose([], core=True, frameworks=False)
    frameworks = choose([], core=False, frameworks=True)
    assert {environment.name for environment in core} >= {"floor-core", "wheel"}
    assert frameworks
    # The gate meets a real gateway, if that can be installed; all else has to be there.
    assert [each.name for each in core if each.optional] == ["litellm-proxy"]
    assert {*choose([], core=True, frameworks=True)} == {*core, *frameworks}
    assert choose(["wheel", "floor"], core=False, frameworks=False) == tuple(
        environment for environment in ENVIRONMENTS if environment.name in ("floor", "wheel")
    )
    with pytest.raises(SystemExit, match="no such environment: nothing"):
        choose(["nothing"], core=False, frameworks=False)


def test_a_python_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    """It is skipped in so many words, and an outcome of nothing but that is a failure."""
    assert find_python("3.99") is None
    far = Environment(name="far", python="3.99", requirements=())
    outcome = run(far, tmp_path, None)
    assert not outcome.ran
    assert "skipped: Python 3.99 is not on this machine" in table([outcome])


#: What pip prints, after warnings of its own, when the index has not what is asked for.
NOWHERE: Final = """WARNING: Retrying (Retry(total=0)) after connection broken
ERROR: Could not find a version that satisfies the requirement some-proxy==9.9 (from versions: none)
ERROR: No matching distribution found for some-proxy==9.9; extra == "proxy"
"""
CONFLICT: Final = """ERROR: Cannot install some-proxy, whose dependencies conflict with ours
ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/
"""
NO_WHEEL: Final = "ERROR: Failed building wheel for some-proxy\n"
#: What each step of an environment does: prints, or fails with what it prints.
WELL: Final = {"about": json.dumps([{"openai": "3.0"}, "/here/__init__.py"]), "pytest": "3 passed"}
HOW_IT_ENDS: Final[dict[str, tuple[dict[str, str], bool, bool, str]]] = {
    "all is well": (WELL, True, True, ""),
    "not on the index": ({"install": NOWHERE}, True, False, "the package index lacks some-proxy"),
    "not on the index, required": ({"install": NOWHERE}, False, True, "install"),
    "a conflict with us": ({"install": CONFLICT}, True, True, "install"),
    "it cannot be built": ({"install": NO_WHEEL}, True, True, "install"),
    "it cannot be imported": ({"about": "!ImportError"}, True, True, "about"),
    "a test fails": ({**WELL, "pytest": "!1 failed, 2 passed"}, True, True, "pytest"),
    "a test says so, too": ({**WELL, "pytest": f"!{NOWHERE}"}, True, True, "pytest"),
    "nothing ran": ({**WELL, "pytest": "5 skipped"}, True, True, "no test ran"),
}


@pytest.mark.parametrize("case", HOW_IT_ENDS)
def test_only_the_index_excuses_an_optional_environment(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else goes wrong has failed, and with it the whole run."""
    told, optional, ran, words = HOW_IT_ENDS[case]

    def step(job: _Job, *command: str) -> str:
        name = next((name for name in ("install", "pytest", "-c") if name in command), "venv")
        name = "about" if name == "-c" else name
        printed = told.get(name, "")
        job.log += printed.lstrip("!") + "\n"
        if (name == "install" and printed) or printed.startswith("!"):
            raise StepFailedError(f"{name} failed", printed)
        return printed

    monkeypatch.setattr(_Job, "_step", step)
    running = ".".join(map(str, sys.version_info[:2]))
    wanted = Environment(name="proxy", python=running, requirements=("p",), optional=optional)
    outcome = run(wanted, tmp_path, None)
    assert outcome.ran is ran
    assert outcome.problem.startswith(words) if words else outcome.problem == ""
    beside = Outcome(environment=ENVIRONMENTS[0], versions={}, passed=3)
    assert status([beside, outcome], required=False) == (1 if ran and words else 0)
    assert status([beside, outcome], required=True) == (1 if words else 0)
    assert status([outcome], required=False) == (1 if words else 0)
    assert ("skipped: " in table([outcome])) is not ran


def test_what_pip_found_nowhere() -> None:
    """The requirement that it names; conflicts and builds that fail are no such thing."""
    assert lacking(NOWHERE) == 'some-proxy==9.9; extra == "proxy"'
    assert lacking(CONFLICT) is lacking(NO_WHEEL) is None


def test_the_table_says_what_went_wrong() -> None:
    """A row for each outcome, in order, with versions, counts and the problem."""
    floor = ENVIRONMENTS[0]
    good = Outcome(environment=floor, versions={"openai": "2.37.0"}, passed=3, seconds=1.4)
    bad = Outcome(environment=floor, versions={}, problem="no test ran")
    rows = table([good, bad]).splitlines()[2:]
    assert rows == [
        "| floor | openai 2.37.0 | 3 | 0 | 1 | ok |",
        "| floor | - | 0 | 0 | 0 | no test ran |",
    ]


def test_the_list_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """`--list` names each environment with what it holds."""
    assert main(["--list", "--core"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.partition(" (core):")[0] for line in listed] == [
        environment.name for environment in choose([], core=True, frameworks=False)
    ]
