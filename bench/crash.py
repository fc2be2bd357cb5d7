"""What survives `kill -9`: one to three processes at work in one store are killed, again and again.

They remember, forget, pin, import, move the store to another embedder, make backups, make and migrate
stores, restore; each notes a call before it begins (intent) and after it returned (ack). After each
round the store is compared with those notes. One database lives through all kills. (A killed process
loses nothing that the system has taken: this doesn't stand for a power cut.) Run:

    python bench/crash.py --kills 500
    python bench/crash.py --sabotage all    # does the checker find what it must?
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from math import inf
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench._crash_book import BROKEN, Book, Tally
from bench._crash_check import Checker
from bench._crash_copies import Copies
from bench._crash_games import play_new, play_newer, play_restore
from bench._crash_notes import (
    FILES,
    Json,
    Plan,
    embedder_of,
    read_log,
    write_import,
    write_migrations,
)
from bench._crash_sabotage import SABOTAGE
from bench._crash_work import work
from mnemic import Memory
from mnemic.settings import Settings

# The roles of the processes of a round; all of them come up before one does again.
DECK = """scribe|importer|mover|keeper|scribe scribe|scribe importer|importer importer|mover scribe|
keeper scribe|keeper keeper|mover mover|importer mover|scribe scribe scribe|importer keeper scribe|
mover keeper scribe|mover importer scribe|new|new new|new new new|newer|newer newer|newer newer old|
restorer reader|restorer restorer reader"""
GAMES = {"new": play_new, "newer": play_newer, "restorer": play_restore}
# Half the time the first process is killed within so many seconds of a call of its role's own.
AIMS = {
    "importer": ("import", 0.15),
    "mover": ("reembed", 0.4),
    "keeper": ("backup", 0.08),
    "restorer": ("restore", 0.15),
    "new": ("upgrading", 0.025),
    "newer": ("upgrading", 0.25),
}
SHORTEST, LONGEST = 0.005, 0.9
CROWD = 200  # A user who has more messages forgets everything.
SAMPLE = 6


class Crash:
    """A folder with a store in it, and the rounds that it has to survive."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder, self.file = args, folder, folder / "crash.db"
        self.rng, self.tally = Random(args.seed), Tally()
        self.book = Book(args.seed, self.tally)
        self.checker = Checker(self.file, self.book)
        self.copies = Copies(folder, self.book, args.real_model)
        self.migrations = write_migrations(folder)
        self.context = start_method()
        self.deck: list[str] = []
        self.sessions: list[str] = []  # Those of the user that all write to.
        self.kills = self.round = 0
        self.together = Counter[str]()
        self.sabotage: str | None = None
        self.before = set[Path]()  # The files that were there when the round began.

    def play(self) -> None:
        """One round: processes are started, killed, and what they left is looked over."""
        if not self.deck:
            self.deck = [" ".join(roles.split()) for roles in DECK.split("|")]
            self.rng.shuffle(self.deck)
        roles = self.deck.pop().split()[: self.args.kills - self.kills]
        self.before = set(self.folder.iterdir())
        if roles[0] in GAMES and self.file.exists():
            GAMES[roles[0]](self, roles)
        else:
            self.play_store(["scribe" for _ in roles] if roles[0] in GAMES else roles)
        self.round += 1
        self.kills += len(roles)
        self.together[f"{len(roles)} at once"] += 1

    def play_store(self, roles: Sequence[str]) -> None:
        """A round on the store that lives through all of them."""
        self.book.begin()
        whole, last = self.book.whole_imports(), max(self.book.imported, default=-1)
        first = last if last >= 0 and last not in whole else last + 1
        for number in range(first, first + FILES):
            write_import(self.folder, self.args.seed, number)
        old = tuple(s for s in self.sessions if int(s[1:].split("-")[0]) < self.round - 6)
        crowd = self.book.crowded(CROWD)
        plans = [
            plan._replace(crowded=crowd, sessions=old, first_file=first)
            for plan in self.plans(roles, self.file)
        ]
        if "importer" in roles:
            at = roles.index("importer")
            plans[at] = plans[at]._replace(drop=tuple(sorted(whole)[:-2]))
        self.kill(plans)
        self.settle(self.checker, plans)
        self.tampered("backups", self.checker)
        self.copies.check(self.round, self.rng, self.left_beside)
        alls = {said.session for (user, _), said in self.book.alive.items() if user == "all"}
        self.sessions = sorted(session for session in alls if session)

    def plans(self, roles: Sequence[str], file: Path) -> list[Plan]:
        args, number = self.args, self.round
        logs = [self.folder / f"notes-{number}-{slot}" for slot in range(len(roles))]
        return [
            Plan(role, slot, number, args.seed, file, logs[slot], None, args.real_model)
            for slot, role in enumerate(roles)
        ]

    def settle(self, checker: Checker, plans: Sequence[Plan]) -> None:
        """Look over a store that processes were killed at."""
        for plan in plans:
            checker.book.replay(plan.slot, plan.log)
            plan.log.unlink(missing_ok=True)
        if checker is self.checker:
            self.tampered("store", checker)
        checker.check_bytes()
        with self.open(checker.file) as memory:
            checker.check(memory, self.rng, SAMPLE)

    def tampered(self, stage: str, checker: Checker) -> None:
        """Where the checker is on trial, do the damage that it has to find."""
        if self.sabotage is None:
            return
        damage, when, _ = SABOTAGE[self.sabotage]
        if when == stage and damage(self, checker):
            self.sabotage = None

    def kill(self, plans: Sequence[Plan]) -> None:
        """Let processes begin at one moment, and kill each after some time, or all at once."""
        moments = [self.rng.uniform(SHORTEST, LONGEST) for _ in plans]
        one, aim, share = self.rng.random() < 0.5, self.rng.random() < 0.5, self.rng.random()
        aimed = plans[0] if aim and plans[0].role in AIMS else None
        if aimed is not None:
            moments[0] = inf
        if one:
            moments = [moments[0]] * len(plans)
        running = [self.started(plan) for plan in plans]
        for _, pipe in running:
            pipe.recv()
        for _, pipe in running:
            pipe.send("go")
        start = time.perf_counter()
        left = set(range(len(plans)))
        while left:
            now = time.perf_counter() - start
            if aimed is not None and (now > LONGEST or at_it(aimed)):
                moment = now + share * AIMS[aimed.role][1]
                moments = [moment if at == inf else at for at in moments]
                aimed = None
            for at in [at for at in left if moments[at] <= now]:
                if running[at][0].exitcode is not None:
                    self.tally.fault("raised", f"a {plans[at].role} ended by itself")
                running[at][0].kill()
                left.remove(at)
            time.sleep(0.001)
        for process, pipe in running:
            process.join()
            pipe.close()

    def left_beside(self, name: str) -> bool:
        """Whether this round left a file beside another that begins with its name."""
        return bool(set(self.folder.glob(f"{name}.*")) - self.before)

    def started(self, plan: Plan) -> tuple[Any, Any]:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=work, args=(plan, theirs), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    def open(self, file: Path) -> Memory:
        """Open a store with the embedder that it has."""
        memory = Memory(file, embedder=embedder_of("words-a", False), settings=Settings())
        name = memory.operator.stats().embedder
        if name in (None, "words-a"):
            return memory
        memory.close()
        made = embedder_of(name, self.args.real_model)
        return Memory(file, embedder=made, settings=Settings())

    def figures(self) -> Json:
        """What was done, and what was found."""
        tally = self.tally
        counts = {"kills of processes": self.together, "acknowledged": tally.acked}
        counts |= {"hit": tally.phases, "raised, as they may": tally.errors}
        counts |= {"checked": tally.checked}
        figures: Json = {"kills": self.kills, "rounds": self.round}
        figures |= {name: dict(sorted(values.items())) for name, values in counts.items()}
        figures |= {"erased": len(self.book.erased), "messages": len(self.book.alive)}
        figures |= {"seed": self.args.seed}
        return figures | {kind: tally.faults[kind] for kind in BROKEN}


def at_it(plan: Plan) -> bool:
    """Whether a process is in the middle of a call of its role's own."""
    lines, aim = list(read_log(plan.log)), AIMS[plan.role][0]
    if not lines:
        return False
    if aim == "upgrading":
        return bool(lines[-1].get("part") == aim)
    return lines[-1].get("do") == aim or isinstance(lines[-1].get("part"), int)


def start_method() -> Any:
    """How processes are started: where it can be, forked from one that has loaded everything."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # It is a new interpreter, which doesn't know where this was found.
    os.environ["PYTHONPATH"] = os.pathsep.join([sys.path[0], os.environ.get("PYTHONPATH", "")])
    context.set_forkserver_preload(["bench._crash_work", "alembic.command"])
    return context


def run(args: argparse.Namespace) -> Json:
    """Kill so many, then let upkeep finish what was left, and look once more."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        crash = Crash(args, Path(folder))
        while crash.kills < args.kills:
            crash.play()
        with crash.open(crash.file) as memory:
            crash.checker.finish(memory, crash.rng)
        crash.checker.check_bytes()
    return {**crash.figures(), "seconds": round(time.perf_counter() - start, 1)}


def run_sabotaged(args: argparse.Namespace, name: str) -> bool:
    """Kill until the damage could be done, and once more look; whether it was found."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        crash = Crash(args, Path(folder))
        while crash.kills < args.kills:
            crash.sabotage = name if crash.round > 3 else None
            crash.play()
            if crash.round > 4 and crash.sabotage is None:
                break
    kinds = SABOTAGE[name][2]
    found = sum(crash.tally.faults[kind] for kind in kinds)
    print(f"{name:<12}{(SABOTAGE[name][0].__doc__ or '').strip():<64}{dict(crash.tally.faults)}")
    return found > 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real-model", action="store_true", help="embed with the bundled model")
    parser.add_argument("--json-only", choices=("yes", "no"), default="no", help="no table")
    says = "damage what is looked over, and exit with 0 if it was found"
    parser.add_argument("--sabotage", choices=(*SABOTAGE, "all"), help=says)
    args = parser.parse_args()
    if args.sabotage:
        names = list(SABOTAGE) if args.sabotage == "all" else [args.sabotage]
        return int(not all([run_sabotaged(args, name) for name in names]))
    figures = run(args)
    for name, value in figures.items() if args.json_only == "no" else ():
        for part, number in value.items() if isinstance(value, dict) else [("", value)]:
            print(f"{name.replace('_', ' '):<21}{part:<56}{number:>8,}")
    print(json.dumps(figures))
    return int(any(figures[kind] for kind in BROKEN))


if __name__ == "__main__":
    sys.exit(main())
