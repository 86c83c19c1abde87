"""The gate's look for known vulnerabilities: it never passes in silence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

AUDIT: Final = Path(__file__).parents[1] / ".ci" / "audit"
FOUND: Final = "Found 1 known vulnerability in 1 package"
BUSY: Final = "requests.exceptions.HTTPError: 503 Server Error: Service Unavailable"
OFFLINE: Final = "pip_audit._service.interface.ConnectionError: Could not connect"
TWO: Final = "anyio==4.10\nopenai==3.0"

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not AUDIT.exists(), reason="a shell script of the repository"
)

#: What stands for ``python3 -m venv``: an environment whose programs do as they are told.
PYTHON: Final = """#!/bin/sh
mkdir -p "$3/bin"
cat >"$3/bin/pip" <<'END'
#!/bin/sh
case "$*" in
    freeze*) printf '%s\\n' "$INSTALLED" ;;
    *pip-audit) exit "$TOOL" ;;
esac
END
cat >"$3/bin/pip-audit" <<'END'
#!/bin/sh
echo "$*" >"$ASKED"
echo "$ERRORS" >&2
exit "$STATUS"
END
chmod +x "$3/bin/pip" "$3/bin/pip-audit"
"""

CASES: Final = {
    "sound": ({}, 0, 0, "passed: 2 packages"),
    "vulnerable": ({"STATUS": "1", "ERRORS": FOUND}, 1, 1, "FAILED"),
    "broken": ({"STATUS": "2", "ERRORS": "Traceback"}, 1, 1, "FAILED"),
    "offline": ({"STATUS": "1", "ERRORS": OFFLINE}, 0, 1, "skipped: no database"),
    "busy": ({"STATUS": "1", "ERRORS": BUSY}, 0, 1, "skipped: no database"),
    "no tool": ({"TOOL": "1"}, 0, 1, "skipped: no tool"),
    "nothing": ({"INSTALLED": ""}, 1, 1, "FAILED"),
}


@pytest.mark.parametrize("options", [[], ["--required"]])
@pytest.mark.parametrize("case", CASES)
def test_how_an_audit_ends(case: str, options: list[str], tmp_path: Path) -> None:
    """The last line says how, and what was skipped is a failure where it is required."""
    told, status, required_status, words = CASES[case]
    python = tmp_path / "python3"
    python.write_text(PYTHON, encoding="utf-8")
    python.chmod(0o755)
    asked = tmp_path / "asked.txt"
    usual = {"STATUS": "0", "ERRORS": "", "TOOL": "0", "INSTALLED": TWO, "ASKED": str(asked)}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(  # noqa: S603 - a script of our own
        [str(AUDIT), *options],
        env={**os.environ, **usual, **told, "PATH": path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == (required_status if options else status), ran.stderr
    assert ran.stdout.splitlines()[-1].startswith(f"dependency audit: {words}")
    if words.startswith("passed"):
        assert "--strict" in asked.read_text(encoding="utf-8")
