# ruff: noqa: D102  (a test's name says what it demands)
"""What a memory promises of remembering and of finding again, as tests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

from mnemic.errors import IdConflict, InputError
from mnemic.testing.contract import demand, refusal
from mnemic.testing.fakes import FailingEmbedder
from mnemic.testing.opening import (
    OpensMemory,
    actions,
    contents,
    found,
    kept,
    messages,
    numbers,
    said,
)

TO_THE_LETTER = (
    "I moved to Lisbon.",
    "line one\nline two\r\n\ttabbed, and \u2028 a separator",
    "'; DROP TABLE messages; -- % _ \\ \" `",
    "👩‍👩‍👧 שלום e\u0301 漢字 \u202e \ufeff",
    " blanks around \u00a0",
    '{"json": [1, 2.5, null]}',
    "A long story. " * 1500,
)
FULL: dict[str, Any] = {
    "id": "D1:3",
    "role": "assistant",
    "name": "Ana",
    "content": "The tram goes at ten.",
    "said_at": "2023-05-08T15:56:07.123456+02:00",
    "tags": ["travel", "漢字"],
    "metadata": {"place": {"city": "Lisbon"}, "n": 2**53 - 1, "part": 0.1, "none": None},
    "expires_at": "2900-01-01T00:00:00Z",
    "tool_calls": [{"id": "c1", "function": {"name": "tram", "arguments": "{}"}}],
}


class RememberContract(OpensMemory):
    """What is remembered is kept: to the letter, all or nothing, once."""

    def test_what_is_said_is_kept_to_the_letter(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            receipt = ana.remember(messages(TO_THE_LETTER), session="s1")
            demand(
                (receipt.state, receipt.error) == ("indexed", None),
                f"with an embedder that works, a receipt must say indexed; it says {receipt}",
            )
            demand(
                receipt.message_ids == tuple(f"m{n}" for n in range(len(TO_THE_LETTER))),
                f"a receipt must name the messages in the order given; it has {receipt.message_ids}",
            )
            for wanted, got in zip(TO_THE_LETTER, contents(ana), strict=True):
                demand(
                    wanted == got,
                    "what was said must be kept to the letter, for it is quoted later:"
                    f" {wanted[:60]!r} became {got[:60]!r}",
                )

    def test_what_a_message_carries_is_kept(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            [id] = ana.remember(FULL, session="s1").memory_ids
            record = ana.get(id)
            assert record is not None
            got = {
                "text": record.text,
                "speaker": record.speaker,
                "source": record.source,
                "session": record.session,
                "message_ids": record.message_ids,
                "said_at": record.said_at,
                "tags": record.tags,
                "metadata": dict(record.metadata),
                "expires_at": record.expires_at,
            }
            wanted = {
                "text": FULL["content"],
                "speaker": "Ana",
                "source": "assistant",
                "session": "s1",
                "message_ids": ("D1:3",),
                "said_at": datetime(2023, 5, 8, 13, 56, 7, 123456, UTC),
                "tags": ("travel", "漢字"),
                "metadata": FULL["metadata"],
                "expires_at": datetime(2900, 1, 1, tzinfo=UTC),
            }
            wrong = {name: got[name] for name in wanted if got[name] != wanted[name]}
            demand(not wrong, f"what a message carries must come back as it was given: {wrong}")
            demand(
                said(ana)[0]["tool_calls"] == FULL["tool_calls"],
                "tool calls must be kept as they are: a conversation is replayed from them",
            )

    def test_what_was_acknowledged_is_there_after_reopening(self) -> None:
        target = self.target()
        with self.open(target) as memory:
            [id] = memory.user("ana").remember("I moved to Lisbon.").memory_ids
        with self.open(target) as memory:
            ana = memory.user("ana")
            record = ana.get(id)
            demand(
                record is not None and found(ana.recall("Lisbon")) == ["I moved to Lisbon."],
                "what remember has acknowledged must be there when the store is opened again",
            )

    def test_many_messages_are_kept_in_order(self) -> None:
        texts = numbers(1_100)
        with self._new() as memory:
            ana = memory.user("ana")
            receipt = ana.remember(messages(texts))
            demand(
                (receipt.made, len(set(receipt.memory_ids))) == (1_100, 1_100),
                f"each of 1,100 messages makes a memory; the receipt says {receipt.made}",
            )
            for what, got in (("messages", contents(ana)), ("memories", kept(ana))):
                demand(
                    got == texts,
                    f"all {what} must come back in the order in which they were said, whatever the"
                    f" size of a page; {len(got)} came, {len(set(texts) - set(got))} are missing",
                )

    def test_a_list_is_kept_whole_or_not_at_all(self) -> None:
        def breaks_off() -> Iterator[str]:
            yield "one"
            raise InputError("the source broke off")

        bad: tuple[Any, ...] = (
            ["one", "two", {"role": "robot", "content": "three"}],
            ["one", "two", " "],
            breaks_off(),
        )
        with self._new() as memory:
            ana = memory.user("ana")
            ana.remember("zero")
            for given in bad:
                with refusal(InputError, f"a list with a bad message must be refused: {given!r}"):
                    ana.remember(given)
                demand(
                    contents(ana) == kept(ana) == ["zero"],
                    "a list is all or nothing, so that it can be sent again: part of a refused one"
                    f" was kept: {contents(ana)}",
                )

    def test_the_same_id_and_content_changes_nothing(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            first = ana.remember(messages(["one", "two"]), session="s1")
            before, stats = said(ana), memory.operator.stats().scopes
            again = ana.remember(messages(["one", "two"]), session="s1")
            demand(
                (again.state, again.message_ids) == ("unchanged", first.message_ids),
                f"what is there already must be told as unchanged, so that a retry is safe: {again}",
            )
            demand(
                said(ana) == before and memory.operator.stats().scopes == stats,
                "a message that is sent again must change nothing: no message, memory or version",
            )
            more = ana.remember(messages(["one", "two", "three"]), session="s1")
            demand(
                contents(ana) == ["one", "two", "three"] and more.made == 1,
                f"of a list, what is new must be added: {contents(ana)}",
            )

    def test_an_id_in_use_for_another_content_changes_nothing(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            ana.remember({"id": "m1", "content": "I like tea."}, session="s1")
            before, stats = said(ana), memory.operator.stats().scopes
            other = {"id": "m1", "content": "I like milk."}
            lists: tuple[list[Any], ...] = ([other], ["Something new.", other])
            for given in lists:
                with refusal(IdConflict, "an id that is in use for another content is a conflict"):
                    ana.remember(given, session="s1")
                demand(
                    said(ana) == before and memory.operator.stats().scopes == stats,
                    f"a conflict of ids must change nothing at all; there is now: {contents(ana)}",
                )

    def test_an_id_belongs_to_its_session(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            for session in ("s1", "s2", None):
                ana.remember({"id": "m1", "content": f"said in {session}"}, session=session)
            demand(
                contents(ana) == ["said in s1", "said in s2", "said in None"],
                f"the same id in another session is another message: {contents(ana)}",
            )

    def test_a_repeat_supports_the_memory_that_it_repeats(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            receipt = ana.remember(messages(["I like tea.", "i like  tea!", "I like milk."]))
            first, second = ana.iter_memories()
            demand(
                (first.text, first.message_ids) == ("I like tea.", ("m0", "m1"))
                and second.message_ids == ("m2",),
                "a near-exact repeat adds its message to the memory that is there, in that one's"
                f" words: {first.message_ids}, {second.message_ids}",
            )
            demand(
                receipt.made == 2 and [s.message_id for s in receipt.skipped] == ["m1"],
                f"a receipt must say which message was a repeat: {receipt}",
            )
            demand(len(contents(ana)) == 3, "the repeating message itself must be kept")

    def test_words_are_kept_while_the_embedder_is_away(self) -> None:
        embedder = FailingEmbedder()
        with self._new(embedder) as memory:
            ana = memory.user("ana")
            ana.remember("The cat sleeps.")
            embedder.failing = True
            receipt = ana.remember("I moved to Lisbon.")
            demand(
                receipt.state == "committed" and receipt.error is not None,
                f"without its vector a message is committed, and the receipt says why: {receipt}",
            )
            demand(
                "I moved to Lisbon." in found(ana.recall("Lisbon")),
                "what has no vector yet must be found by its words",
            )
            embedder.failing = False
            stats = memory.operator.upkeep()
            demand(
                stats.scopes[0].without_vector == 0 and not stats.jobs,
                f"upkeep must make the vectors that are missing, and end their job: {stats}",
            )

    def test_a_pin_is_kept_and_written_down(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            [id] = ana.remember("My sister is called Ida.").memory_ids
            for pinned, change in ((True, ana.pin), (False, ana.unpin)):
                demand(change(id), "pin and unpin say True for a memory that is there")
                record = ana.get(id)
                demand(record is not None and record.pinned is pinned, f"pinned must be {pinned}")
            demand(
                actions(ana, id) == ["remembered", "pinned", "unpinned"],
                f"history must tell what happened, oldest first: {actions(ana, id)}",
            )
            changes = ana.history(id)
            demand(
                all(
                    a.seq < b.seq and a.at <= b.at and a.memory_id == id
                    for a, b in pairwise(changes)
                ),
                f"history must be in order, and of this memory: {changes}",
            )
            nobody = str(uuid4())
            demand(
                not ana.pin(nobody) and not ana.unpin(nobody) and ana.history(nobody) == [],
                "what isn't there can't be pinned and has no history",
            )

    def test_the_counts_are_those_of_what_is_there(self) -> None:
        with self._new() as memory:
            ana, ben = memory.user("ana"), memory.tenant("acme").user("ben")
            ana.remember(["I like tea.", "I like tea", "I like milk."])
            [id] = ben.remember("The tram is late.").memory_ids
            ben.pin(id)
            stats = memory.operator.stats()
            counted = {
                str(s.scope): (s.messages, s.memories, s.without_vector) for s in stats.scopes
            }
            demand(
                counted == {"user:ana": (3, 2, 0), "acme/user:ben": (1, 1, 0)},
                f"stats must count what each scope holds: {counted}",
            )
            demand(
                (stats.messages, stats.memories) == (4, 3) and not stats.jobs,
                f"stats must add the scopes up, and nothing is left to do: {stats}",
            )
            scopes = sorted(map(str, memory.operator.scopes()))
            demand(
                scopes == sorted(counted), f"scopes must name those that hold something: {scopes}"
            )


class RecallContract(OpensMemory):
    """A question finds what answers it, and only what may."""

    def test_a_new_store_answers_nothing(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            demand(
                len(ana.recall("anything")) == len(kept(ana)) == len(memory.operator.scopes()) == 0
                and ana.get(str(uuid4())) is None,
                "a new store holds nothing, and looking into it adds nothing",
            )

    def test_the_best_answer_comes_first(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            ana.remember([*numbers(40), "The violin is in the attic."])
            hits = ana.recall("Where is the violin?", limit=5, min_relevance=0)
            demand(
                len(hits) == 5 and hits[0].memory.text == "The violin is in the attic.",
                f"of 41 memories the one that shares its words comes first: {found(hits)}",
            )
            scores = [hit.score for hit in hits]
            demand(scores == sorted(scores, reverse=True), f"hits come best first: {scores}")
            demand(
                all(ana.get(hit.memory.id) == hit.memory for hit in hits),
                "a hit's memory must be the one that get() returns",
            )

    def test_what_was_just_said_is_found_at_once(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            for n in range(30):
                ana.remember(f"apple number {n}")
                got = len(ana.recall("apple", limit=100))
                demand(got == n + 1, f"after {n + 1} writes a recall must see all; it saw {got}")

    def test_a_question_is_narrowed(self) -> None:
        may = datetime(2023, 5, 8, 12, tzinfo=UTC)
        tea = {
            "content": "tea at noon",
            "session": "s1",
            "tags": ["hot", "drink"],
            "metadata": {"cups": 2},
            "said_at": may,
        }
        milk = {
            "content": "milk at noon",
            "session": "s2",
            "tags": ["drink"],
            "metadata": {"cups": 1},
            "said_at": may + timedelta(days=1),
        }
        with self._new() as memory:
            ana = memory.user("ana")
            ana.remember([tea, milk])
            cases: tuple[tuple[dict[str, Any], set[str]], ...] = (
                ({}, {"tea at noon", "milk at noon"}),
                ({"in_session": "s1"}, {"tea at noon"}),
                ({"in_session": "s3"}, set()),
                ({"tags": ["drink"]}, {"tea at noon", "milk at noon"}),
                ({"tags": ["drink", "hot"]}, {"tea at noon"}),
                ({"where": {"cups": 1}}, {"milk at noon"}),
                ({"where": {"cups": [1, 2]}}, {"tea at noon", "milk at noon"}),
                ({"since": may + timedelta(days=1)}, {"milk at noon"}),
                ({"until": may + timedelta(days=1)}, {"tea at noon"}),
                ({"kinds": ["semantic"]}, set()),
            )
            for narrowed, wanted in cases:
                got = set(found(ana.recall("what at noon?", **narrowed)))
                demand(
                    got == wanted,
                    f"narrowed by {narrowed} a question may find {sorted(wanted)}, not {sorted(got)}",
                )

    def test_what_has_expired_is_not_found(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            ana.remember(
                [
                    {"content": "milk is sold out", "expires_at": "2023-01-01T00:00:00Z"},
                    {"content": "milk is back", "expires_at": "2900-01-01T00:00:00Z"},
                ]
            )
            got = found(ana.recall("milk"))
            demand(got == ["milk is back"], f"what has expired may not be recalled: {got}")
