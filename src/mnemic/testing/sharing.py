# ruff: noqa: D102  (a test's name says what it demands)
"""What a memory promises where several work on one store, and where a store moves, as tests."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import SkipTest

from mnemic.errors import EmbedderError, EmbedderMismatch, IdConflict
from mnemic.memory import Memory, ScopedMemory
from mnemic.records import MemoryRecord
from mnemic.testing.contract import demand, refusal
from mnemic.testing.fakes import FailingEmbedder, FakeEmbedder, MeasuringEmbedder
from mnemic.testing.opening import (
    OpensMemory,
    contents,
    found,
    kept,
    messages,
    numbers,
    said,
    trace,
    without,
)
from mnemic.transfer.exporting import export_lines
from mnemic.transfer.importing import ImportReport, import_file

SECRET = "My PIN is 4711."
TEA = "I like tea."
WRITERS, EACH = 4, 25


class SharingContract(OpensMemory):
    """Two memories that are open on one store are one memory."""

    def test_a_write_is_seen_by_the_other_at_once(self) -> None:
        with self._two() as (one, other):
            for n in range(8):
                writer, reader = ((one, other), (other, one))[n % 2]
                writer.user("ana").remember(f"apple number {n}")
                places = trace(reader.user("ana"), "apple")
                demand(
                    all(len(texts) == n + 1 for texts in places.values()),
                    "what one has committed, the other's next call must see; after"
                    f" {n + 1} writes it saw {places}",
                )

    def test_what_one_forgot_the_other_never_tells(self) -> None:
        with self._two() as (one, other):
            ours, theirs = one.user("ana"), other.user("ana")
            goes, _ = ours.remember([SECRET, TEA]).memory_ids
            demand(SECRET in found(theirs.recall("PIN")), "the other must see it first")
            ours.forget(goes)
            places = trace(theirs, "PIN")
            demand(
                without(places, SECRET) and theirs.get(goes) is None,
                "what was forgotten may come out nowhere from then on, whatever another process has"
                f" in memory: {places}",
            )
            ours.forget_everything()
            places = trace(theirs, "tea")
            demand(not any(places.values()), f"nor may anything of a forgotten scope: {places}")
            theirs.remember("A new beginning.")
            demand(kept(ours) == ["A new beginning."], "and both can begin anew")

    def test_a_pin_is_seen_by_the_other(self) -> None:
        with self._two() as (one, other):
            [id] = one.user("ana").remember(TEA).memory_ids
            other.user("ana").recall("tea")
            one.user("ana").pin(id)
            [hit] = other.user("ana").recall("tea")
            demand(hit.memory.pinned, "a memory that one has pinned is pinned for the other")

    def test_an_id_is_in_use_for_both(self) -> None:
        with self._two() as (one, other):
            one.user("ana").remember({"id": "m1", "content": TEA})
            again = other.user("ana").remember({"id": "m1", "content": TEA})
            demand(again.state == "unchanged", f"the same message again changes nothing: {again}")
            with refusal(IdConflict, "an id that one has used is in use for the other as well"):
                other.user("ana").remember({"id": "m1", "content": SECRET})
            demand(contents(one.user("ana")) == [TEA], "and the conflict changed nothing")

    def test_writers_at_once_lose_nothing(self) -> None:
        with self._two() as both:

            def write(number: int) -> None:
                ana = both[number % 2].user("ana")
                for n in range(EACH):
                    # Each has messages of its own, and one that all of them send.
                    ana.remember({"id": f"{number}-{n}", "content": f"word{number}x{n}"})
                    ana.remember({"id": f"all-{n}", "content": f"shared{n}"})

            with ThreadPoolExecutor(WRITERS) as pool:
                list(pool.map(write, range(WRITERS)))
            for memory in both:
                ana = memory.user("ana")
                got, wanted = contents(ana), WRITERS * EACH + EACH
                demand(
                    len(got) == len(set(got)) == len(kept(ana)) == wanted,
                    "of writers at once each message is kept, and kept once:"
                    f" {wanted} are due, {len(got)} are there, {len(set(got))} of them different",
                )
                [stats] = memory.operator.stats().scopes
                demand(
                    (stats.messages, stats.memories, stats.without_vector) == (wanted, wanted, 0),
                    f"and the counts agree: {stats}",
                )
                seqs = [c.seq for r in ana.iter_memories() for c in ana.history(r.id)]
                demand(len(seqs) == len(set(seqs)), "no two changes of a scope share a number")

    @contextmanager
    def _two(self) -> Iterator[tuple[Memory, Memory]]:
        if not self.opens_twice:
            raise SkipTest("opens_twice is False: this store has one process at a time")
        target = self.target()
        with self.open(target) as one, self.open(target) as other:
            yield one, other


class MovingContract(OpensMemory):
    """What is moved arrives whole: to another store, or to another embedder."""

    def test_an_export_imports_to_the_same(self) -> None:
        long = " ".join(f"Sentence {n} is long enough to be cut." for n in range(10))
        with self._new(MeasuringEmbedder()) as memory:
            ana = memory.user("ana")
            ana.remember(messages([TEA, "i like  tea!", long]), session="s1")
            ana.remember({"content": SECRET, "tags": ["a"], "metadata": {"b": [1, None]}})
            ana.pin(next(iter(ana.iter_memories())).id)
            ana.forget(message_id="m0")
            lines, records = list(export_lines(ana)), list(ana.iter_memories())
        with self._new(MeasuringEmbedder()) as memory:
            ana = memory.user("ana")
            report = _import(memory, lines)
            demand(
                list(export_lines(ana)) == lines,
                "an export, imported into an empty scope, must export to the same lines",
            )
            demand(
                list(ana.iter_memories()) == records,
                "memories must keep their ids, words, times and pins on the way",
            )
            demand(
                (report.messages, report.memories) == (len(lines) - 1, len(records)),
                f"the report must count what came: {report}",
            )
            hits = found(ana.recall("PIN"))
            demand(hits[:1] == [SECRET], f"what was imported must be found: {hits}")

    def test_importing_again_adds_nothing(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            ana.remember(messages(numbers(20)))
            lines = list(export_lines(ana))
            before, stats = said(ana), memory.operator.stats().scopes
            report = _import(memory, lines)
            demand(
                (report.messages, report.there_already) == (0, 20),
                f"an import that is run again must find everything there: {report}",
            )
            demand(
                said(ana) == before and memory.operator.stats().scopes == stats,
                "and must change nothing, so that one that broke off is simply run again",
            )

    def test_another_embedder_is_refused(self) -> None:
        target = self.target()
        with self.open(target) as memory:
            memory.user("ana").remember(TEA)
        with self.open(target, FakeEmbedder("other")) as memory:
            ana = memory.user("ana")
            with refusal(EmbedderMismatch, "a question to another model's vectors means nothing"):
                ana.recall("tea")
            with refusal(EmbedderMismatch, "two models' vectors in one store can't be compared"):
                ana.remember(SECRET)
        with self.open(target) as memory:
            demand(contents(memory.user("ana")) == [TEA], "a mismatch must change nothing")

    def test_a_store_moves_to_another_embedder(self) -> None:
        target, other = self.target(), FakeEmbedder("other", 48)
        with self.open(target) as memory:
            for name in ("ana", "ben"):
                memory.user(name).remember(numbers(30, name))
            before = [list(memory.user(name).iter_memories()) for name in ("ana", "ben")]
        with self.open(target, other) as memory:
            made = memory.operator.reembed()
            demand(made == 60, f"reembed must make every vector anew, and say how many: {made}")
            _demand_moved(memory, before)
            demand(memory.operator.reembed() == 0, "moved once, there is nothing left to make")
        says = "once a store has moved, its old embedder is another's"
        with self.open(target) as memory, refusal(EmbedderMismatch, says):
            memory.user("ana").recall("ana")

    def test_a_move_that_broke_off_goes_on(self) -> None:
        target, other = self.target(), FailingEmbedder("other", 48, after=1)
        with self.open(target) as memory:
            for name in ("ana", "ben"):
                memory.user(name).remember(numbers(30, name))
            before = [list(memory.user(name).iter_memories()) for name in ("ana", "ben")]
        says = "reembed must tell that the model failed"
        with self.open(target, other) as memory, refusal(EmbedderError, says):
            memory.operator.reembed()
        with self.open(target) as memory:
            hits = memory.user("ben").recall("ben number 7", limit=1)
            demand(
                found(hits) == ["ben number 7"] and memory.operator.stats().embedder == "fake",
                "until the last vector is there the old embedder must answer as before",
            )
        other.after = None
        with self.open(target, other) as memory:
            made = memory.operator.reembed()
            demand(0 < made <= 60, f"a move that broke off must go on: it made {made}")
            _demand_moved(memory, before)


def _import(memory: Memory, lines: list[str]) -> ImportReport:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "export.jsonl"
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        return import_file(memory, path, user="ana")


def _demand_moved(memory: Memory, before: list[list[MemoryRecord]]) -> None:
    handles: list[ScopedMemory] = [memory.user("ana"), memory.user("ben")]
    stats = memory.operator.stats()
    demand(
        stats.embedder == "other" and not any(scope.without_vector for scope in stats.scopes),
        f"the store must know its new embedder, and lack no vector: {stats}",
    )
    demand(
        [list(handle.iter_memories()) for handle in handles] == before,
        "moving makes vectors: no memory may be lost or changed",
    )
    hits = handles[1].recall("ben number 7", limit=1)
    demand(
        found(hits) == ["ben number 7"]
        and hits.error is None
        and bool(hits[0].channels["meaning"]),
        f"the new vectors must answer: {hits}",
    )
