"""Two writers and two readers at one store for ten minutes: is all seen, is nothing lost, does memory grow?

Writers remember, forget and pin for the same four users, and have told to the others, through the
parent, what they were told is done. From then on each must see it at its next call, and never again what
was forgotten. Memory, threads, open files, the database and its log are measured all along; whether memory
grows can be told from two minutes on. Run:

    python bench/together.py                  # ten minutes
    python bench/together.py --minutes 0.5
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing, suppress
from itertools import islice
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench._cheap import HashedWords, text_of
from bench._together_parties import USERS, Event, Writer, percentile, read, write
from mnemic import Memory
from mnemic.models.embedder import Embedder
from mnemic.models.minilm import MiniLM
from mnemic.settings import Settings
from mnemic.transfer.exporting import export_lines

PARTIES = (("writer 1", write), ("writer 2", write), ("reader 1", read), ("reader 2", read))
# More than this, from the first third to the end, is not flat: in MB, beside a share of what was there.
FLAT_MB, FLAT_SHARE = 4.0, 0.02
# The least of so many samples counts: a call may need some MB for a moment.
WINDOW = 20
# Messages of somebody else, so that there is something to search and to keep from the beginning.
OTHERS = 2_500
LOG_MB = 64.0
MUST = "not_seen seen_again lost too_much changed errors left_undone damaged grew".split()


def resources(pid: int) -> tuple[float, int, int] | None:
    """Resident MB, open files and threads of a process, where the system tells them."""
    folder = Path(f"/proc/{pid}")
    try:
        pages = int((folder / "statm").read_text().split()[1])
        threads = (folder / "status").read_text().partition("Threads:")[2].split()[0]
        return pages * 4096 / 1e6, len(list((folder / "fd").iterdir())), int(threads)
    except (OSError, IndexError, ValueError):
        return None


class Together:
    """The parent: passes on what was done, measures, and knows what must be there in the end."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.file = args, folder / "together.db"
        self.embedder: Embedder = MiniLM() if args.real_model else HashedWords(sleep=0)
        self.live: dict[str, Event] = {}
        self.pinned = set[str]()
        self.samples: list[tuple[float, list[Any], float, float]] = []
        self.faults, self.counts = Counter[str](), Counter[str]()

    def fault(self, kind: str, says: str, times: int = 1) -> None:
        self.faults[kind] += times
        print(f"{kind}: {says}"[:400], file=sys.stderr)

    def fill(self) -> list[Event]:
        """Say as much as is to be there all along."""
        writer = Writer(self.file, 0, self.args.real_model, None)
        while len(writer.ids) < self.args.live:
            writer.remember(None)
        for start in range(0, OTHERS, 500):
            said = [text_of(7, 0, 4_095, number, 0)[1] for number in range(start, start + 500)]
            writer.memory.user("others").remember(said, session=f"s{start}")
        writer.memory.close()
        self.live = dict(writer.known)
        return list(writer.known.values())

    def run(self) -> dict[str, Any]:
        context = multiprocessing.get_context("spawn")
        options = {"file": self.file, "real_model": self.args.real_model, "live": self.args.live}
        options["pause"] = self.args.pause / 1000
        known, running = self.fill(), []
        for number, (_, life) in enumerate(PARTIES, 1):
            ours, theirs = context.Pipe(duplex=False)
            events = context.Queue()
            work = (number, options, known, events, theirs)
            process = context.Process(target=life, args=work, daemon=True)
            process.start()
            theirs.close()
            running.append((process, events, ours))
        for _, _, pipe in running:
            pipe.recv()
        self.before = (self.sizes()[0], self.history()[0])
        until = time.monotonic() + self.args.minutes * 60
        for _, events, _ in running:
            events.put(until)
        self.pass_on(running)
        for _, events, _ in running:
            events.put(None)
        reports = [pipe.recv() for _, _, pipe in running]
        for process, events, _ in running:
            process.join()
            events.close()
        self.check()
        return self.figures(reports)

    def pass_on(self, running: list[tuple[Any, Any, Any]]) -> None:
        """Tell each what the others did, until all are done; and measure once a second."""
        left: dict[Any, Any] = {pipe: events for _, events, pipe in running}
        everyone, start = list(left.values()), time.monotonic()
        due = start
        while left:
            ready: list[Any] = list(wait(list(left), timeout=max(0.0, due - time.monotonic())))
            for pipe in ready:
                said = pipe.recv()
                if said == "done":
                    del left[pipe]
                    continue
                self.take(said)
                for events in everyone:
                    if events is not left[pipe]:
                        events.put(said)
            if time.monotonic() >= due:
                found = [resources(process.pid) for process, _, _ in running]
                self.samples.append((time.monotonic() - start, found, *self.sizes()))
                due += 1.0

    def sizes(self) -> tuple[float, float]:
        """The database and its log, in MB."""
        sizes = [0.0, 0.0]
        for at, suffix in enumerate(("", "-wal")):
            with suppress(OSError):
                sizes[at] = Path(f"{self.file}{suffix}").stat().st_size / 1e6
        return sizes[0], sizes[1]

    def take(self, event: Event) -> None:
        self.counts[event.what] += 1
        if event.what == "said":
            self.live[event.message] = event
        elif event.what == "forgotten":
            self.live.pop(event.message, None)
        else:
            self.pinned.add(event.memories[0])

    def check(self) -> None:
        """In the end the store holds what was acknowledged, and nothing else."""
        with Memory(self.file, embedder=self.embedder, settings=Settings()) as memory:
            stats = memory.operator.upkeep()
            if waiting := sum(scope.without_vector for scope in stats.scopes):
                self.fault("left_undone", f"{waiting} memories without vector")
            if stats.jobs:
                self.fault("left_undone", f"jobs {dict(stats.jobs)}")
            found: dict[tuple[str, str], str] = {}
            for user in USERS:
                lines = map(json.loads, islice(export_lines(memory.user(user)), 1, None))
                found.update({(user, line["id"]): line["content"] for line in lines})
                pins = {r.id: r.pinned for r in memory.user(user).iter_memories()}
                if wrong := [id for id, on in pins.items() if on != (id in self.pinned)]:
                    self.fault("changed", f"the pins of {wrong[:5]}", len(wrong))
            self.counts["memories"] = stats.memories
        self.compare(found)

    def compare(self, found: dict[tuple[str, str], str]) -> None:
        must = {(event.user, event.message): event.text for event in self.live.values()}
        if lost := must.keys() - found.keys():
            self.fault("lost", f"{sorted(lost)[:5]} were acknowledged", len(lost))
        if new := found.keys() - must.keys():
            self.fault("too_much", f"{sorted(new)[:5]} were forgotten, or never said", len(new))
        for place in must.keys() & found.keys():
            if must[place] != found[place]:
                self.fault("changed", f"{place} is not what was said")
        with closing(sqlite3.connect(self.file)) as connection:
            if (state := connection.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
                self.fault("damaged", str(state))

    def history(self) -> tuple[float, int]:
        """The MB and the lines of the history, which grows for ever; without MB where SQLite can't tell."""
        size, query = 0.0, "SELECT sum(pgsize) FROM dbstat WHERE name LIKE '%changes%'"
        with closing(sqlite3.connect(self.file)) as connection:
            with suppress(sqlite3.Error):
                size = float(connection.execute(query).fetchone()[0]) / 1e6
            return size, int(connection.execute("SELECT count(*) FROM changes").fetchone()[0])

    # --- figures ---------------------------------------------------------------------------------

    def figures(self, reports: list[dict[str, Any]]) -> dict[str, Any]:
        seconds = self.args.minutes * 60
        calls, looks, errors = list[dict[str, Any]](), Counter[str](), Counter[str]()
        for (name, _), report in zip(PARTIES, reports, strict=True):
            for call, bins in sorted(report["bins"].items()):
                row = {"process": name, "call": call, "calls": int(bins.sum())}
                row["per_s"] = round(row["calls"] / seconds, 1)
                row |= {"p50_ms": round(percentile(bins, 0.5), 2)}
                row |= {"p99_ms": round(percentile(bins, 0.99), 2)}
                calls.append(row | {"longest_ms": round(report["longest"][call] * 1000, 1)})
            looks.update(report["looks"])
            errors.update(report["errors"])
            self.faults.update(report["faults"])
            for says in report["says"]:
                print(f"{name}: {says}", file=sys.stderr)
        self.faults["errors"] += errors.total()
        processes = [self.growth(at, name) for at, (name, _) in enumerate(PARTIES)]
        figures = {"minutes": self.args.minutes, "acknowledged": dict(self.counts)}
        figures |= {"looked_for": dict(sorted(looks.items())), "calls": calls}
        figures |= {"processes": processes, "files": self.files(), "errors_by_name": dict(errors)}
        return figures | {kind: self.faults[kind] for kind in MUST}

    def late(self) -> list[tuple[float, list[Any], float, float]]:
        """The samples of the last two thirds."""
        return self.samples[len(self.samples) // 3 :]

    def growth(self, at: int, name: str) -> dict[str, Any]:
        """How a process grew over the last two thirds: by a line through the least of each window."""
        rows = [(moment, *found[at]) for moment, found, *_ in self.late() if found[at]]
        if len(rows) < 5:
            return {"process": name}
        moments, sizes, files, threads = (np.array(column) for column in zip(*rows, strict=True))
        windows = [slice(start, start + WINDOW) for start in range(0, len(sizes), WINDOW)]
        least = np.array([sizes[window].min() for window in windows])
        middle = np.array([moments[window].mean() for window in windows])
        slope = float(np.polyfit(middle, least, 1)[0]) * 60 if len(least) > 2 else 0.0
        grown = slope * (moments[-1] - moments[0]) / 60
        row = {"process": name, "mb": round(float(sizes[-1]), 1)}
        row |= {"mb_least": round(float(sizes.min()), 1), "mb_most": round(float(sizes.max()), 1)}
        row |= {"kb_per_minute": round(slope * 1000, 1), "grown_mb": round(grown, 2)}
        row |= {"mb_each_minute": [round(s[1][at][0], 1) for s in self.samples[::60] if s[1][at]]}
        for what, column in (("open_files", files), ("threads", threads)):
            half = len(column) // 2
            row |= {what: f"{column.min()} to {column.max()}"}
            if column[half:].min() > column[:half].max():
                self.fault("grew", f"{what} of {name}: {row[what]}")
        if grown > FLAT_MB + FLAT_SHARE * sizes[0]:
            self.fault("grew", f"{name} by {grown:.1f} MB over the last two thirds")
        return row

    def files(self) -> dict[str, Any]:
        """How the database and its log grew; what the history takes is no fault."""
        logs = np.array([row[3] for row in self.samples])
        if logs.max() > LOG_MB:
            self.fault("grew", f"the log to {logs.max():.1f} MB")
        (before, history_before), (history, lines) = self.before, self.history()
        after = self.sizes()[0]
        grown = after - before - (history - history_before)
        if grown > FLAT_MB + before:
            self.fault("grew", f"the database by {grown:.1f} MB beside its history")
        return {
            "db_mb_before": round(before, 1),
            "db_mb": round(after, 1),
            "history_mb": round(history, 1),
            "history_lines": lines,
            "log_mb_most": round(float(logs.max()), 1),
            "log_mb_mean": round(float(logs.mean()), 1),
        }


def show(figures: dict[str, Any]) -> None:
    """Print the tables."""
    print(
        f"{'process':<10}{'call':<17}{'calls':>10}{'a second':>10}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}"
    )
    for row in figures["calls"]:
        print(
            f"{row['process']:<10}{row['call']:<17}{row['calls']:>10,}{row['per_s']:>10.1f}"
            f"{row['p50_ms']:>9.2f}{row['p99_ms']:>9.2f}{row['longest_ms']:>9.1f}"
        )
    print(
        f"\n{'process':<10}{'MB':>8}{'least':>8}{'most':>8}{'KB a minute':>13}  open files, threads"
    )
    for row in figures["processes"]:
        if "mb" in row:
            print(
                f"{row['process']:<10}{row['mb']:>8.1f}{row['mb_least']:>8.1f}{row['mb_most']:>8.1f}"
                f"{row['kb_per_minute']:>13.1f}  {row['open_files']}, {row['threads']}"
            )
    print()
    for name in ("acknowledged", "looked_for", "files"):
        print(
            f"{name.replace('_', ' ')}: ", ", ".join(f"{k} {v:,}" for k, v in figures[name].items())
        )
    print("must be none: ", ", ".join(f"{kind} {figures[kind]}" for kind in MUST), "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--live", type=int, default=2_000, help="messages that are there all along")
    parser.add_argument("--pause", type=float, default=2.0, help="of readers between calls, in ms")
    parser.add_argument("--real-model", action="store_true", help="embed with the bundled model")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        figures = Together(args, Path(folder)).run()
    show(figures)
    print(json.dumps(figures))
    return int(any(figures[kind] for kind in MUST))


if __name__ == "__main__":
    sys.exit(main())
