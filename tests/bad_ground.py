"""What a bad input is played on: a folder of its own, and what is compared before and after."""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from mnemic.errors import InputError
from mnemic.memory import Memory, ScopedMemory
from mnemic.settings import Settings
from mnemic.transfer.exporting import export_lines
from tests.fakes import FakeEmbedder, new_folder

Call = Callable[["Ground"], Any]
Place = Callable[["Ground", Any], Any]
Cases = Iterator["Case"]
# A value that is a function is made when it is given.
Values = Mapping[str, Any]
# Where a value is given, the word by which messages name it there, and how it is given.
Places = Mapping[str, tuple[str, Place]]


@dataclass(frozen=True)
class Case:
    """One bad input: what is given, to what, and what comes of it.

    `error` is raised, or, where it is None, nothing is, and `happens` says what comes instead.
    `before` makes the world that the case is about, `after` takes out of it what was in the way.
    """

    group: str
    given: str
    call: Call
    error: type[Exception] | None = InputError
    to: str = ""
    subject: str = ""  # the word by which the message names what was given
    happens: str = ""
    varies: str = ""  # a pattern of what is left out of the page, as machines differ in it
    before: Call | None = None
    after: Call | None = None
    lasting: bool = False  # the store can't be used afterwards either

    @property
    def id(self) -> str:
        words = f"{self.group} {self.given} {self.to}".lower()
        return re.sub(r"[^a-z0-9\u00b2=]+", "-", words).strip("-")


@dataclass(frozen=True)
class Played:
    """What came of a case: what was raised, what was said, the store before and after."""

    raised: Exception | None
    says: str
    before: Any
    after: Any
    works: bool


class Ground:
    """A folder with a store of three messages, which is opened when it is first asked for."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.path = folder / "memory.db"
        self.path.write_bytes(_filled_store())
        self.stack = stack
        self.held: list[Any] = []
        self.opened: Memory | None = None

    # Both are of no type, as what is given to them is often of a wrong one.
    @property
    def memory(self) -> Any:
        if self.opened is None:
            self.opened = self.open(self.path)
        return self.opened

    @property
    def ana(self) -> Any:
        return self.memory.user("ana")

    def open(self, target: Any, embedder: Any = None, settings: Any = None) -> Any:
        opened = Memory(
            target, embedder=embedder or FakeEmbedder(), settings=settings or Settings()
        )
        return self.stack.enter_context(opened)

    def content(self) -> Any:
        """All that the store holds, by its tables and, where it is open, by its own export."""
        rows = _rows(self.path)
        if self.opened is None:
            return rows, {re.sub("-(wal|shm)$", "", path.name) for path in self.folder.iterdir()}
        stats = self.opened.operator.stats()
        handles = [ScopedMemory(self.opened._core, each.scope) for each in stats.scopes]
        return rows, replace(stats, bytes_on_disk=0), [list(export_lines(one)) for one in handles]

    def works(self) -> bool:
        """Whether it still remembers, and recalls what was there before and what has come."""
        receipt = self.ana.remember("The plumber comes on Monday.")
        asked = {"tea": "I like tea", "the plumber": "The plumber comes on Monday."}
        return receipt.state == "indexed" and all(
            self.ana.recall(what, limit=1)[0].memory.text == text for what, text in asked.items()
        )


@cache
def _filled_store() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memory.db"
        with Memory(path, embedder=FakeEmbedder(), settings=Settings()) as memory:
            ana = memory.user("ana")
            ana.remember({"id": "m1", "content": "I like tea"}, session="s1")
            ana.remember({"id": "m1", "content": "I like coffee"}, session="s2")
            ana.remember({"id": "m2", "content": "The cat is called Minka"})
        return path.read_bytes()


def _rows(path: Path) -> Any:
    if not path.is_file():
        return "no file"
    try:
        with closing(sqlite3.connect(path, timeout=0)) as connection:
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            tables = sorted(name for (name,) in names)
            return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
    except sqlite3.OperationalError:
        return "locked"
    except sqlite3.DatabaseError:
        return path.read_bytes()


def play(case: Case, *, look: bool = True) -> Played:
    """Play a case in a folder of its own; without `look` only what is raised and said is found out."""
    with new_folder() as folder, ExitStack() as stack:
        ground = Ground(folder, stack)
        if case.before is not None:
            case.before(ground)
        elif look:
            assert ground.memory is not None  # open before, so that it is the same one afterwards
        before = ground.content() if look else None
        raised, said = None, None
        try:
            said = case.call(ground)
        except Exception as error:
            raised = error
        after = ground.content() if look else None
        if case.after is not None:
            case.after(ground)
        says = str(said or "") if raised is None else str(raised)
        for prefix in (f"{folder}{os.sep}", f"{folder.as_posix()}/"):
            says = says.replace(f"sqlite:///{prefix}", "").replace(prefix, "")
        return Played(raised, says, before, after, not look or case.lasting or ground.works())


def each(group: str, calls: Mapping[str, Call], error: Any = InputError, **more: Any) -> Cases:
    for given, call in calls.items():
        yield Case(group, given, call, error, **more)


def every(
    group: str, values: Values, places: Places, error: Any = InputError, **more: Any
) -> Cases:
    """Every value, given to every place."""
    for given, value in values.items():
        for to, (subject, place) in places.items():
            yield Case(group, given, partial(_give, place, value), error, to, subject, **more)


def _give(place: Place, value: Any, ground: Ground) -> Any:
    return place(ground, value() if callable(value) else value)


def fifty_mb() -> str:
    return "x" * 50_000_000


def ten_kb() -> str:
    return "x" * 10_240


def digits() -> Any:
    return 10**5000


BAD_TEXT: Values = {
    "empty text": "",
    "white space": " \t\n\u2003",
    "a NUL character": "a\x00b",
    "half a surrogate pair": "a\ud800b",
    "50 MB of text": fifty_mb,
}
NOT_TEXT: Values = {"a number": 5, "`True`": True, "bytes": b"ana", "a list": ["ana"]}
