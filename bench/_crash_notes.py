"""What the killed processes and the checker of `crash.py` agree on: plans, notes, users, files.

A process notes each call before it begins (`do`), how far it has come (`part`), and that it returned
(`ack`) or raised (`error`), each with the time. From those notes alone the checker works out what
must be there.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from bench._cheap import HashedWords, text_of
from mnemic.models.embedder import Embedder
from mnemic.models.minilm import MiniLM
from mnemic.stores import database

Json = dict[str, Any]
Place = tuple[str, str]  # A user, and a message's id.

# Each process has users of its own, of whom its notes tell all; `all` is everybody's: there they tell
# only what doesn't depend on who came first. Imports go to two users that nobody else writes to.
SLOTS, OWN, ALL, IMPORTS = range(3), ("ana", "ben"), "all", ("imp0", "imp1")
USERS = (*(f"{name}{slot}" for slot in SLOTS for name in OWN), ALL, *IMPORTS)
SAID_BY_FILE, SAID_BY_ALL = 9, 10  # In the place of a slot, in the place of a text.
EXTRA = "extra"
FILES, BATCH = 6, 24
GRACE_MICROS = 1_000_000
# So that what one left undone is soon due to the next, and what takes long has many steps.
_HURRIED: dict[str, dict[str, float]] = {
    "mnemic.stores.appending": {"EMBED_GRACE_MICROS": GRACE_MICROS},
    "mnemic.stores.copies": {"_OLD": 0.0},
    "mnemic.stores.store": {"SCRUB_GRACE_MICROS": GRACE_MICROS},
    "mnemic.stores.outbox": {"LEASE_MICROS": GRACE_MICROS, "FIRST_WAIT_MICROS": GRACE_MICROS},
    "mnemic.transfer.importing": {"BATCH": BATCH},
    "mnemic.writing.remember": {"EMBED_BATCH": 64},
    "mnemic.writing.reembed": {"EMBED_BATCH": 64},
    "mnemic.writing.mend": {"EMBED_BATCH": 64},
}


class Plan(NamedTuple):
    """What a process is to do, until it is killed."""

    role: str
    slot: int
    round: int
    seed: int
    file: Path
    log: Path
    embedder: str | None
    real_model: bool
    crowded: tuple[str, ...] = ()  # Users of whom there is enough.
    sessions: tuple[str, ...] = ()  # Sessions of `all` that nobody writes to any more.
    first_file: int = 0  # To import from there on,
    drop: tuple[int, ...] = ()  # and those that were imported, to forget.
    migrations: Path | None = None
    backups: tuple[Path, ...] = ()  # To restore, in turn.


class Said(NamedTuple):
    """A message that the store must hold, or holds; the memories are those of the export."""

    session: str | None
    name: str | None
    content: str
    memories: frozenset[str] = frozenset()


class Log:
    """The notes of one process."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
        self._file = os.open(path, flags)

    def note(self, **line: Any) -> None:
        os.write(self._file, json.dumps({"t": time.monotonic_ns(), **line}).encode() + b"\n")


def read_log(path: Path) -> Iterator[Json]:
    """The notes; the last one may be torn."""
    if path.exists():
        yield from map(json.loads, path.read_bytes().split(b"\n")[:-1])


def hurry() -> None:
    """Make what is due after seconds due after one, and batches small, in this process."""
    for module, values in _HURRIED.items():
        with suppress(ModuleNotFoundError):
            for name, value in values.items():
                setattr(import_module(module), name, value)


def embedder_of(name: str | None, real_model: bool) -> Embedder:
    """The embedder of a name; the first of `embedder_names` where a store has none yet."""
    if real_model and name in (None, MiniLM.name):
        return MiniLM()
    sizes = {"words-a": 64, "words-b": 48, "words-c": 96}
    name = name or "words-a"
    return HashedWords(name, sizes[name])


def embedder_names(real_model: bool) -> list[str]:
    """The embedders that a store is moved between."""
    return [MiniLM.name if real_model else "words-a", "words-b", "words-c"]


def said_by(intent: Json) -> list[Said]:
    """What a call of `remember` says."""
    said = intent.get("messages", ())
    return [Said(intent["session"], item.get("name"), item["content"]) for item in said]


def import_path(folder: Path, number: int) -> Path:
    return folder / f"import-{number}.jsonl"


def import_said(seed: int, number: int) -> dict[Place, Said]:
    """What the file of a number says, in its order; some of it twice."""
    rng, session = Random(f"{seed} file {number}"), f"import{number}"
    said: dict[Place, Said] = {}
    for line in range(rng.randint(60, 200)):
        again = rng.randrange(line) if line and rng.random() < 0.1 else line
        name, text = text_of(seed, SAID_BY_FILE, number % 4096, again, 0)
        place = (IMPORTS[number % len(IMPORTS)], f"i{number}n{line}")
        said[place] = Said(session, name, text)
    return said


def write_import(folder: Path, seed: int, number: int) -> None:
    path = import_path(folder, number)
    if path.exists():
        return
    with path.open("w", encoding="utf-8") as file:
        for (user, id), said in import_said(seed, number).items():
            line: Json = {"role": "user", "user": user, "id": id, "content": said.content}
            line |= {"session": said.session, "name": said.name}
            file.write(json.dumps({key: v for key, v in line.items() if v is not None}) + "\n")


NEWER = "9999"
_SECOND = '''"""A later migration, which takes long enough to be killed in."""

import time

import sqlalchemy as sa
from alembic import op

revision = "{0}"
down_revision = "{1}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    op.add_column("records", sa.Column("rewritten", sa.Text))
    rows = connection.exec_driver_sql("SELECT scope, id FROM records").all()
    for number, row in enumerate(rows):
        query = "UPDATE records SET rewritten = hex(id) WHERE scope = ? AND id = ?"
        connection.exec_driver_sql(query, tuple(row))
        if number % 100 == 0:
            time.sleep(0.005)
'''


def write_migrations(folder: Path) -> Path:
    """The migrations of the package, and one more behind them."""
    there = folder / "migrations"
    ours = Path(database.__file__).parent / "migrations"
    shutil.copytree(ours, there, ignore=shutil.ignore_patterns("__pycache__"))
    later = there / "versions" / "9999_later.py"
    later.write_text(_SECOND.format(NEWER, database.HEAD), encoding="utf-8")
    return there


@contextmanager
def newer(migrations: Path | None) -> Iterator[None]:
    """Be a version of Mnemic that has the later migration."""
    before = database.HEAD, database._MIGRATIONS
    if migrations is not None:
        database.HEAD, database._MIGRATIONS = NEWER, migrations
    try:
        yield
    finally:
        database.HEAD, database._MIGRATIONS = before
