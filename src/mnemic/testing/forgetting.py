# ruff: noqa: D102  (a test's name says what it demands)
"""What a memory promises of forgetting and of keeping people apart, as tests."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from string import ascii_lowercase
from unittest import SkipTest

from mnemic.errors import AmbiguousMessage
from mnemic.memory import Memory, ScopedMemory
from mnemic.records import Erasure
from mnemic.testing.contract import demand, refusal
from mnemic.testing.fakes import MeasuringEmbedder
from mnemic.testing.opening import (
    OpensMemory,
    actions,
    contents,
    found,
    kept,
    messages,
    trace,
    without,
)

SECRET = "My PIN is 4711."
TEA = "I like tea."
# Names that a careless key, pattern or folding of case takes for one.
NAMES = (
    "ana",
    "Ana",
    "ana ",
    "ana/ben",
    "/",
    "user:ana",
    "default/user:ana",
    "%",
    "_na",
    "a'b",
    'a"; --',
    "|",
    "é",
    "e\u0301",
    "\u0430na",  # a Cyrillic "a"
    "ana\u200b",
    "👩‍👩‍👧",
    "n" * 512,
    "n" * 511,
)


def demand_erased(erasure: Erasure, counts: tuple[int, int], what: str) -> None:
    """Demand a clean erasure of so many messages and memories."""
    got = (erasure.messages, erasure.memories)
    demand(got == counts, f"forgetting {what} takes {counts} messages and memories, not {got}")
    demand(
        erasure.state == "clean",
        f"where nobody reads, an erasure ends clean: no byte left; {what} ended {erasure.state}",
    )


class ForgetContract(OpensMemory):
    """What is forgotten is gone: from answers, lists, exports, and from the disk."""

    def test_a_memory_is_forgotten_by_its_id(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            goes, stays = ana.remember([SECRET, TEA]).memory_ids
            ana.recall("warm up what is resident")
            demand_erased(ana.forget(goes), (1, 1), "a memory")
            places = trace(ana, "PIN tea")
            demand(
                ana.get(goes) is None and all(texts == [TEA] for texts in places.values()),
                f"a forgotten memory may come out by no way, and others must stay: {places}",
            )
            demand(ana.get(stays) is not None, "another memory must stay")
            [stats] = memory.operator.stats().scopes
            demand(
                (stats.messages, stats.memories, stats.without_vector) == (1, 1, 0),
                f"the counts must go down with what is forgotten: {stats}",
            )

    def test_a_message_is_forgotten_with_all_its_passages(self) -> None:
        long = " ".join(f"Sentence {n} of the secret is long enough." for n in range(10))
        with self._new(MeasuringEmbedder(16)) as memory:
            ana = memory.user("ana")
            ids = ana.remember(messages([long, TEA])).memory_ids
            erasure = ana.forget(message_id="m0")
            demand_erased(erasure, (1, len(ids) - 1), "a message of several passages")
            places = trace(ana, "sentence secret")
            demand(all(texts == [TEA] for texts in places.values()), f"all passages go: {places}")

    def test_an_id_in_several_sessions_needs_its_session(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            for session in ("s1", "s2"):
                ana.remember({"id": "m1", "content": f"said in {session}"}, session=session)
            with refusal(AmbiguousMessage, "an id that two sessions use is ambiguous"):
                ana.forget(message_id="m1")
            demand(len(contents(ana)) == 2, "an ambiguous forget must change nothing")
            demand_erased(ana.forget(message_id="m1", session="s1"), (1, 1), "one of the two")
            demand(contents(ana) == ["said in s2"], "the other session's message must stay")

    def test_a_session_is_forgotten_whole(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            ana.remember(["one in s1", "two in s1", "said in both"], session="s1")
            ana.remember(["one in s2", "said in both"], session="s2")
            demand_erased(ana.forget_session("s1"), (3, 2), "a session")
            demand(
                contents(ana) == sorted(kept(ana)) == ["one in s2", "said in both"]
                and len(ana.recall("said", in_session="s1")) == 0,
                f"what another session says as well must stay, and only that: {kept(ana)}",
            )

    def test_everything_of_a_scope_is_forgotten(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            ana.remember(messages([SECRET, TEA]), session="s1")
            demand_erased(ana.forget_everything(), (2, 2), "everything")
            places = trace(ana, "PIN tea")
            demand(not any(places.values()), f"nothing of a forgotten scope may come out: {places}")
            demand(memory.operator.scopes() == [], "the scope's name must go as well")
            ana.remember({"id": "m0", "content": "A new beginning."}, session="s1")
            demand(found(ana.recall("PIN beginning")) == ["A new beginning."], "it can begin anew")

    def test_what_another_message_says_stays_in_its_words(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            ana.remember({"id": "m1", "content": "MY  PIN IS 4711!"}, session="s1")
            [id] = ana.remember({"id": "m2", "content": SECRET}, session="s2").memory_ids
            ana.pin(id)
            demand_erased(ana.forget(message_id="m1"), (1, 0), "one of two that say the same")
            record = ana.get(id)
            demand(
                record is not None
                and (record.text, record.session, record.message_ids) == (SECRET, "s2", ("m2",))
                and record.pinned,
                f"a memory said twice keeps its id and takes the words that are left: {record}",
            )
            demand(found(ana.recall("PIN")) == [SECRET], "it must be found in those words")
            demand_erased(ana.forget(id), (1, 1), "the memory itself")

    def test_forgetting_twice_finds_nothing(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            [id] = ana.remember({"id": "m1", "content": SECRET}, session="s1").memory_ids
            ana.forget(id)
            again = (
                ana.forget(id),
                ana.forget(message_id="m1"),
                ana.forget_session("s1"),
                ana.forget_everything(),
            )
            demand(
                all((e.state, e.messages, e.memories) == ("absent", 0, 0) for e in again),
                f"what isn't there is absent, and that is no error: {again}",
            )

    def test_the_history_of_what_was_forgotten_holds_no_text(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            [id] = ana.remember(SECRET).memory_ids
            ana.forget(id)
            demand(
                actions(ana, id) == ["remembered", "forgotten"],
                f"history must tell that it was forgotten: {actions(ana, id)}",
            )
            demand("4711" not in repr(ana.history(id)), "history may hold no text")

    def test_what_is_forgotten_stays_so_after_reopening(self) -> None:
        target = self.target()
        with self.open(target) as memory:
            ana = memory.user("ana")
            ana.remember(messages([SECRET, TEA]))
            ana.forget(message_id="m0")
        with self.open(target) as memory:
            places = trace(memory.user("ana"), "PIN tea")
            demand(without(places, SECRET), f"the forgotten may not come back: {places}")
            memory.user("ana").remember({"id": "m0", "content": "Something else."})

    def test_no_byte_of_the_forgotten_is_left_on_disk(self) -> None:
        random = Random(4711)
        texts = {
            f"m{n}": " ".join("".join(random.choices(ascii_lowercase, k=8)) for _ in range(size))
            for n, size in enumerate(random.choices((3, 40, 800), (6, 3, 1), k=120))
        }
        ids = sorted(texts)
        random.shuffle(ids)
        goes, stays = ids[:40], ids[40:]
        target = self.target()
        with self.open(target) as memory:
            ana = memory.user("ana")
            for id, text in texts.items():
                ana.remember({"id": id, "content": text})
            if not any(self.holds(target, texts[id].encode()) for id in stays):
                raise SkipTest("holds() doesn't find what is there, so it can't tell what is gone")
            states = {ana.forget(message_id=id).state for id in goes}
            demand(
                states == {"clean"},
                f"where nobody reads, an erasure ends clean: no byte left; these ended {states}",
            )
            left = [id for id in goes if self.holds(target, texts[id][:24].encode())]
            demand(
                not left,
                "after a clean erasure no byte of the text may be left on disk, neither in the"
                f" database nor in its log: {len(left)} of {len(goes)} are",
            )
        left = [id for id in goes if self.holds(target, texts[id][:24].encode())]
        demand(not left, f"nor may closing the store bring bytes back: {left}")


class IsolationContract(OpensMemory):
    """Nobody sees, changes or counts what belongs to another."""

    def test_scopes_of_one_name_are_kept_apart(self) -> None:
        with self._new() as memory:
            handles = _scopes_called(memory, "ana")
            for n, handle in enumerate(handles):
                receipt = handle.remember({"id": "m1", "content": f"word{n} secret"}, session="s1")
                demand(
                    receipt.made == 1,
                    f"{handle.scope} has ids and memories of its own, whatever others have: {receipt}",
                )
            for n, handle in enumerate(handles):
                places = trace(handle, "secret")
                demand(
                    all(texts == [f"word{n} secret"] for texts in places.values()),
                    f"{handle.scope} may see its own memory and nobody else's: {places}",
                )

    def test_the_ids_of_another_do_nothing(self) -> None:
        with self._new() as memory:
            ana, ben = memory.user("ana"), memory.user("ben")
            [id] = ana.remember({"id": "m1", "content": SECRET}, session="s1").memory_ids
            before = memory.operator.stats().scopes
            demand(
                ben.get(id) is None and ben.history(id) == [],
                "a memory's id must open nothing in another's hands",
            )
            demand(
                not ben.pin(id) and not ben.unpin(id),
                "another's memory may be neither pinned nor freed",
            )
            forget: tuple[Callable[[], Erasure], ...] = (
                lambda: ben.forget(id),
                lambda: ben.forget(message_id="m1"),
                lambda: ben.forget_session("s1"),
                ben.forget_everything,
            )
            states = [erase().state for erase in forget]
            demand(states == ["absent"] * 4, f"nobody may forget another's memory: {states}")
            demand(
                memory.operator.stats().scopes == before and kept(ana) == [SECRET],
                "what one tries with another's ids must change nothing",
            )

    def test_forgetting_everything_of_one_leaves_the_others(self) -> None:
        with self._new() as memory:
            handles = _scopes_called(memory, "ana")
            for handle in handles:
                handle.remember(messages([SECRET, TEA]), session="s1")
            handles[0].forget_everything()
            left = [kept(handle) for handle in handles]
            demand(
                left == [[]] + [[SECRET, TEA]] * (len(handles) - 1),
                f"who forgets everything forgets what is theirs, and nothing else: {left}",
            )

    def test_names_that_look_alike_are_kept_apart(self) -> None:
        with self._new() as memory:
            handles = [handle for name in NAMES for handle in _scopes_called(memory, name)]
            handles += [memory.tenant(name).user("ana") for name in NAMES]
            for n, handle in enumerate(handles):
                handle.remember(f"word{n}")
            mixed = [str(h.scope) for n, h in enumerate(handles) if kept(h) != [f"word{n}"]]
            demand(not mixed, f"different names, different memories; mixed up: {mixed[:5]}")
            names = sorted(map(str, memory.operator.scopes()))
            demand(
                names == sorted(str(handle.scope) for handle in handles),
                "the operator must see each scope once, by its own name",
            )


def _scopes_called(memory: Memory, name: str) -> list[ScopedMemory]:
    other = memory.tenant("another tenant")
    return [
        memory.user(name),
        memory.agent(name),
        memory.shared(name),
        other.user(name),
        other.agent(name),
    ]
