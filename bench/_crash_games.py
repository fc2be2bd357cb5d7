"""Rounds of `crash.py` on other stores: new ones, copies that are migrated, copies that are restored to."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench._crash_book import Book
from bench._crash_check import Checker
from bench._crash_copies import Content, content_of, damage_of, remove
from bench._crash_notes import EXTRA, NEWER, Plan, newer, read_log
from mnemic import Memory

if TYPE_CHECKING:
    from bench.crash import Crash


def play_new(crash: Crash, roles: Sequence[str]) -> None:
    """Several make one new store, and write to it; two have different embedders."""
    file = crash.folder / "new.db"
    plans = crash.plans(roles, file)
    plans[0] = plans[0]._replace(embedder=crash.rng.choice(["words-b", "words-c"]))
    crash.kill(plans)
    acked = any("ack" in line for plan in plans for line in read_log(plan.log))
    if acked and not file.exists():
        crash.tally.fault("missing", "a new store that was opened, and written to")
    with crash.open(file):  # Whatever was left of it, it opens.
        pass
    crash.settle(Checker(file, Book(crash.args.seed, crash.tally)), plans)
    crash.tally.checked["new stores"] += 1
    remove(file)


def play_newer(crash: Crash, roles: Sequence[str]) -> None:
    """Several open a copy of the store with a newer version; one may still be of the old version."""
    file, copy = crash.folder / "newer.db", crash.book.copy()
    shutil.copy(crash.file, file)
    checker = Checker(file, copy)
    plans = [p._replace(migrations=crash.migrations) for p in crash.plans(roles, file)]
    crash.kill(plans)
    crash.tampered("newer", checker)
    done = migrated(checker)
    crash.tally.checked["stores migrated" if done else "stores left at the old schema"] += 1
    with newer(crash.migrations):
        crash.settle(checker, plans)
        if crash.rng.random() < 0.2:
            with crash.open(file) as memory:
                checker.finish(memory, crash.rng)
    if not migrated(checker):
        crash.tally.fault("left_undone", "the migration, although the store was opened")
    remove(file)


def migrated(checker: Checker) -> bool:
    """Whether a store has the later migration: all of it, or nothing."""
    version = checker.rows("SELECT version_num FROM alembic_version")[0][0]
    there = "rewritten" in [row[1] for row in checker.rows("PRAGMA table_info(records)")]
    if there != (version == NEWER):
        says = f"the schema says {version}, the column is {'' if there else 'not '}there"
        checker.tally.fault("half", says)
    # What a process of either version has remembered since has no value there.
    if there and checker.rows("SELECT 1 FROM records WHERE rewritten <> hex(id)"):
        checker.tally.fault("half", "rows were not rewritten")
    return there


def play_restore(crash: Crash, roles: Sequence[str]) -> None:
    """Some put two backups in one place, in turn, while others look at what is there."""
    file, backups = crash.folder / "place.db", list[Path]()
    with crash.open(crash.file) as memory:
        embedder = memory.operator.stats().embedder
        for name in ("one", "other"):
            backups.append(crash.folder / f"{name}.db")
            memory.operator.backup(backups[-1], replace=True)
            memory.user(EXTRA).remember(f"said in between, after backup {name}")
        memory.user(EXTRA).forget_everything()
    said = [content_of(path) for path in backups]
    Memory.restore(backups[0], file, replace=True)
    plans = crash.plans(roles, file)
    crash.kill([p._replace(backups=(*backups,), embedder=embedder) for p in plans])
    check_restored(crash, file, plans, said)
    for plan in plans:
        plan.log.unlink(missing_ok=True)


def check_restored(
    crash: Crash, file: Path, plans: Sequence[Plan], said: Sequence[Content]
) -> None:
    """The place holds one of the backups, and who looked saw only those."""
    tally, step = crash.tally, "before or after"
    if crash.left_beside(file.name):
        step = "while the backup is looked over, or put in place"
    sizes = {len(content) for content in said}
    for plan in plans:
        lines = list(read_log(plan.log))
        tally.phases[f"restore, {step}"] += plan.role == "restorer" and "do" in lines[-1]
        tally.acked[f"{'restore' if plan.role == 'restorer' else 'look'}s"] += sum(
            "ack" in line for line in lines
        )
        for line in lines:
            if "broke" in line:
                tally.fault("raised", f"{plan.role}: {line['broke']}")
            elif "ack" in line and line["ack"] not in sizes:
                tally.fault("half", f"{plan.role} saw {line['ack']} messages, not one of {sizes}")
    if damage := damage_of(file):
        tally.fault("damaged", f"a restored store: {damage}")
        return
    try:
        found = content_of(file)
    except sqlite3.Error as error:
        tally.fault("damaged", f"a restored store: {error}")
        return
    if found not in said:
        tally.fault("half", f"a restored store holds {len(found)} messages, not one of {sizes}")
    with crash.open(file) as memory:
        if memory.operator.stats().messages != len(found):
            tally.fault("missing", "messages of a restored store, when it is opened")
