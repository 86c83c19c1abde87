"""LiteLLM's proxy as a process on loopback, in front of a provider that the test scripts.

It is the real thing from PyPI, without a database and without retries of its own: what a client
meets here is what a team meets that puts it in front of its providers.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import openai
from anyio.abc import Process

from comet_resilience.testing import Gateway

KEY: Final = "sk-master-key-of-the-proxy-in-front"
#: It needs seconds to import itself.
STARTS_WITHIN: Final = 120.0


def find_litellm(given: str | None = None) -> str | None:
    """Return the proxy's command: the one given, beside this interpreter, or on the path."""
    beside = Path(sys.executable).with_name("litellm")
    if given:
        return shutil.which(given)
    return str(beside) if beside.exists() else shutil.which("litellm")


@asynccontextmanager
async def litellm_proxy(
    models: Mapping[str, Mapping[str, Any]],
    *,
    command: str,
    general: Mapping[str, Any] | None = None,
) -> AsyncIterator[str]:
    """Run a proxy for some models, each with its parameters; its base URL.

    *general* goes to ``general_settings``.
    """
    settings = _settings(models, general or {})
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(json.dumps(settings), encoding="utf-8")  # which is YAML, too
        arguments = ("--config", str(file), "--host", "127.0.0.1", "--port", str(port))
        with (Path(folder) / "log").open("w+b") as log:
            process = await anyio.open_process(
                [command, *arguments], stdout=log, stderr=log, cwd=folder, env=_environment()
            )
            try:
                await _started(process, port, Path(folder) / "log")
                yield f"http://127.0.0.1:{port}/v1"
            finally:
                process.terminate()
                with anyio.move_on_after(10, shield=True):
                    await process.wait()
                if process.returncode is None:
                    process.kill()


def client_of(base_url: str, **options: Any) -> openai.AsyncOpenAI:
    """Make a bare client of the proxy."""
    return openai.AsyncOpenAI(base_url=base_url, api_key=KEY, **options)


def behind(provider: Gateway, **parameters: Any) -> dict[str, Any]:
    """Return the parameters of a model that is this provider's."""
    return {"api_base": provider.base_url, "api_key": "sk-provider", "max_retries": 0, **parameters}


def _settings(
    models: Mapping[str, Mapping[str, Any]], general: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "model_list": [
            {"model_name": name, "litellm_params": {"model": f"openai/{name}", **parameters}}
            for name, parameters in models.items()
        ],
        "litellm_settings": {"num_retries": 0, "telemetry": False},
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
        "general_settings": {"master_key": KEY, **general},
    }


def _environment() -> dict[str, str]:
    """Return the environment of the process: prices from its package, no account of anybody's."""
    kept = {name: value for name, value in os.environ.items() if "API_KEY" not in name}
    return {**kept, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}


def _free_port() -> int:
    """Return a port that stays free until the proxy binds it, many seconds later.

    Those from 32,768 on the system gives to whoever connects without naming one.
    """
    for port in random.SystemRandom().sample(range(10_000, 20_000), 1_000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free")


async def _started(process: Process, port: int, log: Path) -> None:
    """Wait until the proxy takes connections.

    Raises:
        RuntimeError: If it ends first, or takes too long; with the end of its log.

    """
    with anyio.move_on_after(STARTS_WITHIN):
        while process.returncode is None:
            try:
                stream = await anyio.connect_tcp("127.0.0.1", port)
            except OSError:
                await anyio.sleep(0.1)
            else:
                await stream.aclose()
                return
    told = await anyio.Path(log).read_text(errors="replace")
    raise RuntimeError(f"the proxy did not start:\n{told[-4_000:]}")
