"""A run: every conversation of every data set asked, on all cores, each written down as soon as it is done.

`rows.jsonl` in the run's folder begins with what the rows depend on; a run that broke off goes on where it
was, and one under other conditions begins anew.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from mnemic import __version__
from mnemic.errors import InputError
from mnemic.evaluation import asking, beliefs, conflicts
from mnemic.evaluation.datasets import FORMATS, read_data, shipped
from mnemic.evaluation.reading import READ_MOST, Models, Reading, spread
from mnemic.evaluation.vectors import KeptVectors, identity
from mnemic.inputs import shown
from mnemic.models.minilm import MiniLM
from mnemic.settings import one_core_each

Row = dict[str, Any]
Progress = Callable[[str, int, int], None]

SHIPPED = "shipped"
# Questions about other people that each conversation of a data set is asked, all together.
STRANGERS = 2_000
# Where `--all` looks for each kind of data, in a folder.
PLACES = {
    "locomo": "locomo/*.json",
    "longmemeval": "longmemeval/*.jsonl*",
    "beam": "beam/*",
    "precisionmembench": "precisionmembench/fixtures",
    "factconsolidation": "factconsolidation/*.json",
}
WHOLE = {"precisionmembench": beliefs.ask, "factconsolidation": conflicts.ask}


@dataclass(frozen=True, slots=True)
class Data:
    """One data set: the name of its format, and where it is (None: what ships)."""

    form: str
    path: Path | None = None

    @property
    def name(self) -> str:
        """How rows and tables call it."""
        return self.form if self.path is None or self.form in PLACES else self.path.stem


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. `most` bounds the conversations of each data set; `contexts` adds coverage by tokens.

    `models` answer at most `read_most` questions of all data sets, from contexts and without.
    """

    data: tuple[Data, ...]
    folder: Path
    cache: Path
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    most: int | None = None
    contexts: bool = True
    models: Models | None = None
    read_most: int = READ_MOST


def find_data(folder: Path) -> list[Data]:
    """The data sets in a folder, by where they usually lie; raises `InputError` where there is none."""
    found = [
        Data(form, path)
        for form, place in PLACES.items()
        for path in sorted(folder.glob(place))
        if not path.name.startswith((".", "README", "LICENSE"))
    ]
    if not found:
        raise InputError(
            f"there is no data in {shown(str(folder))}; it is looked for as {', '.join(PLACES.values())}"
        )
    return found


def data_of(text: str) -> Data:
    """Read `format=path`; raises `InputError`."""
    form, mark, path = text.partition("=")
    known = [*FORMATS, *WHOLE]
    if not mark or form not in known:
        raise InputError(
            f"{shown(text)} names no data; write format=path, format one of {', '.join(known)}"
        )
    if not Path(path).exists():
        raise InputError(f"there is no {shown(path)}")
    return Data(form, Path(path))


def run(plan: Plan, progress: Progress | None = None) -> list[Row]:
    """Ask everything that the plan names and isn't done; returns all rows."""
    if plan.models is not None and not plan.contexts:
        raise InputError("a reader answers from contexts; leave out --no-contexts, or the reader")
    plan.folder.mkdir(parents=True, exist_ok=True)
    book = _Book(plan.folder / "rows.jsonl", _conditions(plan))
    left = 0 if plan.models is None else plan.read_most
    for at, data in enumerate(plan.data):
        # What a data set has too few questions for goes to those that follow.
        share = left // max(1, sum(other.form not in WHOLE for other in plan.data[at:]))
        every = list(_jobs(data, plan, share))
        left -= sum(len(job.work.read) for job in every if job.work is not None)
        jobs = [job for job in every if job.key not in book.done]
        there = sum(key.startswith(f"{data.name}/") for key in book.done)
        for number, (key, rows) in enumerate(_worked(jobs, plan), there + 1):
            book.add(key, rows)
            if progress is not None:
                progress(data.name, number, there + len(jobs))
    names = {data.name for data in plan.data}
    return [row for row in book.rows() if row["data"] in names]


@dataclass(frozen=True, slots=True)
class _Job:
    key: str
    work: asking.Work | None = None
    data: Data | None = None


def _jobs(data: Data, plan: Plan, read: int) -> Iterator[_Job]:
    if data.form in WHOLE:
        yield _Job(f"{data.name}/all", data=data)
        return
    talks = list(shipped() if data.path is None else read_data(data.path, data.form))[: plan.most]
    each = max(1, STRANGERS // max(1, len(talks)))
    for at, (talk, places) in enumerate(zip(talks, spread(talks, read), strict=True)):
        strangers = asking.strangers_for(talks, at, each)
        work = asking.Work(data.name, talk, strangers, plan.contexts, places)
        yield _Job(f"{data.name}/{talk.name}", work)


def _worked(jobs: Sequence[_Job], plan: Plan) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each job, as they are done."""
    if plan.workers == 1 or len(jobs) < 2:
        _begin(plan.cache, plan.workers, plan.models)
        yield from ((job.key, _do(job)) for job in jobs)
        return
    one_core_each()
    pool = ProcessPoolExecutor(
        min(plan.workers, len(jobs)),
        multiprocessing.get_context("spawn"),
        _begin,
        (plan.cache, 1, plan.models),
    )
    try:
        # A few at a time, so that what waits doesn't fill the memory.
        waiting: dict[Future[list[Row]], str] = {}
        left = iter(jobs)
        while True:
            while len(waiting) < 2 * plan.workers and (job := next(left, None)) is not None:
                waiting[pool.submit(_do, job)] = job.key
            if not waiting:
                return
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield waiting.pop(future), future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_embedders: list[KeptVectors] = []
_readings: list[Reading] = []  # one, or none where no reader is asked for


def _begin(cache: Path, threads: int, models: Models | None = None) -> None:
    """What a process needs once: its embedder, its reader and judge."""
    while _embedders:
        _embedders.pop().close()
    while _readings:
        _readings.pop().close()
    if models is not None:
        _readings.append(Reading.open(models))
    _embedders.append(KeptVectors(MiniLM(threads), cache))


def _do(job: _Job) -> list[Row]:
    if job.work is not None:
        return asking.ask(job.work, _embedders[0], *_readings)
    assert job.data is not None
    assert job.data.path is not None
    return WHOLE[job.data.form](job.data.name, job.data.path, _embedders[0])


def _conditions(plan: Plan) -> Row:
    """What rows depend on beside the data."""
    fitted = resources.files("mnemic.retrieval").joinpath("fitted.json").read_bytes()
    conditions: Row = {
        "type": "conditions",
        "mnemic": __version__,
        "embedder": identity(MiniLM()),
        "ranking": hashlib.sha256(fitted).hexdigest()[:16],
        "data": [[data.form, str(data.path or SHIPPED)] for data in plan.data],
        "most": plan.most,
        "contexts": plan.contexts,
    }
    if plan.models is not None:
        conditions["reading"] = {**plan.models.conditions(), "most": plan.read_most}
    return conditions


class _Book:
    """The rows of a run on disk, a line a conversation."""

    def __init__(self, path: Path, conditions: Row) -> None:
        self._path = path
        self.done: dict[str, list[Row]] = {}
        if not self._read(conditions):
            self.done = {}
            path.write_text(json.dumps(conditions) + "\n", "utf-8")

    def _read(self, conditions: Row) -> bool:
        if not self._path.exists():
            return False
        whole = [
            line for line in self._path.read_text("utf-8").splitlines(True) if line[-1:] == "\n"
        ]
        if not whole or json.loads(whole[0]) != conditions:
            return False
        for line in whole[1:]:
            value = json.loads(line)
            self.done[value["key"]] = value["rows"]
        self._path.write_text("".join(whole), "utf-8")  # what was half written goes
        return True

    def add(self, key: str, rows: list[Row]) -> None:
        """Write down what is done."""
        self.done[key] = rows
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, "rows": rows}, ensure_ascii=False) + "\n")

    def rows(self) -> list[Row]:
        """All rows."""
        return [row for rows in self.done.values() for row in rows]
