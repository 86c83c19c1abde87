"""The command ``doctor``: its options, and a run from the first step to the exit status."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio

from ...diagnosis.redaction import redactor
from .demo import SCENARIOS, demonstration, scenario_called
from .plan import CHAT, Examination, Plan
from .settings import parse_dotenv, secrets_of
from .steps import examine
from .text import Printer, document
from .triage import exit_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_DESCRIPTION = """\
Find out why your calls to CometAPI fail. doctor checks the key, the base URL
and the proxies that your program would use, then queries the gateway in small
steps. Each step says whether it passed, if not why, and what to do first.

Nothing that costs money is sent unless you add --run: without it, doctor
requests only the models list and shows what each further step would send. A key
is never printed.

First time? Try --demo: it examines a gateway inside this program, without any
network.
"""
_EPILOG = """\
examples:
  comet-resilience doctor
      configuration, connection and key
  comet-resilience doctor --run --model gpt-5-mini
      also a minimal request, plain and streamed
  comet-resilience doctor --run --request body.json
      also the JSON body that fails, as it is and without its advanced fields
  comet-resilience doctor --run --request body.json \\
      --alternate-model gpt-5-nano --alternate-key-env SPARE_KEY
      also with another model, and with another key
  comet-resilience doctor --demo refused_field
      a demonstration of one failure, from the first step to the report

where things come from:
  the key       COMETAPI_KEY, or else OPENAI_API_KEY
  the base URL  --base-url, or else COMETAPI_BASE_URL, or else OPENAI_BASE_URL,
                or else CometAPI's own
  the model     --model, or else the request's, or else COMETAPI_DEFAULT_MODEL

exit status:
  0 nothing failed      64 key or base URL missing or malformed
  1 something failed    69 the gateway cannot be reached
  2 wrong usage         77 the gateway refuses the key
"""
_REQUEST_SIZE: Final = 20_000_000


def add_to(commands: Any) -> None:
    """Add the command to the parser's sub-commands."""
    parser = commands.add_parser(
        "doctor",
        help="find out, step by step, why calls fail",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_requests(parser)
    parser.add_argument("--base-url", metavar="URL", help="the base URL to examine")
    parser.add_argument(
        "--retries", type=int, default=1, metavar="N", help="retries of each request (default: 1)"
    )
    parser.add_argument(
        "--timeout", type=float, default=60.0, metavar="SECONDS",
        help="for each request with its retries (default: 60)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--demo", nargs="?", const="", metavar="SCENARIO",
        help="examine a built-in gateway that fails like this; without a name, list the scenarios",
    )  # fmt: skip
    parser.set_defaults(run=run)


def _add_requests(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run", "--yes", dest="spend", action="store_true",
        help="also send the requests that may cost money",
    )  # fmt: skip
    parser.add_argument("--model", metavar="ID", help="the model to ask")
    parser.add_argument("--request", metavar="FILE", help="the JSON body that fails, '-' for stdin")
    parser.add_argument(
        "--path", default=CHAT, metavar="PATH",
        help=f"where --request goes, below the base URL (default: {CHAT})",
    )  # fmt: skip
    parser.add_argument("--alternate-model", metavar="ID", help="send what failed to this model")
    parser.add_argument(
        "--alternate-key-env", metavar="NAME", help="send what failed with the key in this variable"
    )


def run(given: argparse.Namespace) -> int:
    """Examine, print what was found, and return the process's exit status.

    Raises:
        ValueError: If an argument makes no sense.
        OSError: If the request cannot be read.

    """
    return anyio.run(_run, given)


async def _run(given: argparse.Namespace) -> int:
    async with _subject(given) as plan:
        alternate = plan.environment.get(plan.alternate_key_env, "")
        secrets = {*secrets_of(plan.environment, plan.endpoint), alternate}
        secrets |= secrets_of(plan.dotenv)
        printer = Printer(redactor(secrets, ""), silent=given.json)
        if given.demo == "":
            printer.scenarios({name: row.meaning for name, row in SCENARIOS.items()})
        printer.head(plan)
        examination = await examine(plan, printer.begin, printer.result)
    return _conclude(examination, printer, as_json=given.json)


def _conclude(examination: Examination, printer: Printer, *, as_json: bool) -> int:
    if as_json:
        found = document(examination, printer.redactor)
        print(json.dumps(found, indent=2, default=str))
        return int(found["status"])
    printer.end(examination)
    return exit_status(examination.final)


@asynccontextmanager
async def _subject(given: argparse.Namespace) -> AsyncIterator[Plan]:
    """Provide the plan of what to examine: this machine's configuration, or a demonstration."""
    if given.demo is None:
        yield _plan(given, os.environ)
        return
    async with demonstration(scenario_called(given.demo or "healthy")) as (plan, _):
        yield plan


def _plan(given: argparse.Namespace, environment: Mapping[str, str]) -> Plan:
    name = given.alternate_key_env or ""
    if name and not environment.get(name, "").strip():
        raise ValueError(f"--alternate-key-env: the variable {name} is not set")
    if not given.timeout > 0 or given.retries < 0:
        raise ValueError("expected --timeout above 0 seconds and --retries of 0 or more")
    request = _read_request(given.request) if given.request else None
    asked = given.model or (request or {}).get("model") or environment.get("COMETAPI_DEFAULT_MODEL")
    return Plan(
        environment=environment,
        timeout=given.timeout,
        retries=given.retries,
        dotenv=_read_dotenv(),
        base_url=given.base_url,
        model=asked.strip() if isinstance(asked, str) else "",
        request=request,
        path="/" + given.path.lstrip("/"),
        run=given.spend,
        alternate_model=given.alternate_model or "",
        alternate_key_env=name,
    )


def _read_request(source: str) -> dict[str, Any]:
    text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    if len(text) > _REQUEST_SIZE:
        raise ValueError(f"--request: more than {_REQUEST_SIZE:,} characters")
    try:
        body = json.loads(text)
    except ValueError as error:
        raise ValueError(f"--request: not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ValueError('--request: expected a JSON object such as {"model": ...}')
    return body


def _read_dotenv() -> dict[str, str]:
    try:
        return parse_dotenv(Path(".env").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
