"""What `remember` takes, what it refuses, and what it makes of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mnemic.errors import IdConflict, InputError
from mnemic.memory import Memory, ScopedMemory
from mnemic.records import Message
from mnemic.stores import appending
from mnemic.writing import passages
from mnemic.writing.messages import read_input
from mnemic.writing.passages import cut, text_to_embed
from tests.fakes import FailingEmbedder, FakeEmbedder, MeasuringEmbedder, new_memory, open_memory

NOON = datetime(2023, 5, 8, 12, tzinfo=UTC)


def counts(memory: Memory) -> list[tuple[str, int, int, int]]:
    """What each scope holds, and its version."""
    stats = memory.operator.stats()
    return [(str(s.scope), s.messages, s.memories, s.version) for s in stats.scopes]


def said(handle: ScopedMemory) -> list[Message]:
    return [item.message for item in handle._message_page(0, 1000)]


def texts(handle: ScopedMemory) -> list[str]:
    return [record.text for record in handle.iter_memories()]


# --- shapes ---------------------------------------------------------------------------------------


def test_a_string_is_what_the_user_said(ana: ScopedMemory) -> None:
    before = datetime.now(UTC)
    receipt = ana.remember("I moved to Lisbon.", session="s1")
    after = datetime.now(UTC)
    [message], [record] = said(ana), list(ana.iter_memories())
    assert (message.role, message.content) == ("user", "I moved to Lisbon.")
    assert (message.name, message.session) == (None, "s1")
    assert (record.text, record.source, record.kind) == ("I moved to Lisbon.", "user", "episodic")
    assert record.message_ids == receipt.message_ids == (message.id,)
    assert receipt.memory_ids == (record.id,)
    assert before <= record.said_at == message.said_at <= after
    assert record.recorded_at == message.recorded_at == message.said_at


def test_a_message_keeps_every_field(ana: ScopedMemory) -> None:
    given = {
        "role": "assistant",
        "content": "Your train leaves at 9.",
        "name": "Guide",
        "id": "m1",
        "session": "s1",
        "said_at": NOON,
        "expires_at": NOON + timedelta(days=30_000),
        "tags": ["travel", "train", "travel"],
        "metadata": {"line": {"number": 7}, "paid": True, "note": "überall"},
    }
    receipt = ana.remember(given)
    [message], record = said(ana), ana.get(receipt.memory_ids[0])
    assert record is not None
    for kept in (message, record):
        assert kept.session == "s1"
        assert kept.said_at == NOON
        assert kept.expires_at == NOON + timedelta(days=30_000)
        assert kept.tags == ("train", "travel")
        assert kept.metadata == given["metadata"]
    assert (message.id, message.role, message.name) == ("m1", "assistant", "Guide")
    assert (record.speaker, record.source, record.message_ids) == ("Guide", "assistant", ("m1",))
    assert record.render() == "[2023-05-08] Guide: Your train leaves at 9."


def test_a_list_is_kept_in_its_order(ana: ScopedMemory) -> None:
    given: list[Any] = ["one thing", {"role": "assistant", "content": "two things"}, "three things"]
    receipt = ana.remember(iter(given), session="s1")
    assert [m.content for m in said(ana)] == texts(ana)
    assert texts(ana) == ["one thing", "two things", "three things"]
    assert [m.id for m in said(ana)] == list(receipt.message_ids)
    assert len(receipt.memory_ids) == 3
    assert ana.remember([]).state == "unchanged"


def test_a_message_record_can_be_remembered_again(memory: Memory, ana: ScopedMemory) -> None:
    ana.remember({"role": "tool", "content": "21 degrees", "id": "m1", "tool_call_id": "c1"})
    [message] = said(ana)
    assert ana.remember(message).state == "unchanged"
    memory.user("bob").remember(message)
    [copy] = said(memory.user("bob"))
    assert (copy.id, copy.role, copy.extra) == ("m1", "tool", {"tool_call_id": "c1"})


def test_a_message_record_keeps_its_parts(memory: Memory, ana: ScopedMemory) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    ana.remember({"content": [{"type": "text", "text": "look"}, image], "id": "m1"})
    [message] = said(ana)
    assert ana.remember(message).state == "unchanged"
    memory.user("bob").remember(message)
    assert said(memory.user("bob"))[0].extra == {"parts": [image]}


def test_text_parts_become_text_and_other_parts_are_carried(ana: ScopedMemory) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    parts = [
        {"type": "text", "text": "Look at this"},
        image,
        "and this",
        {"type": "output_text", "text": "seen"},
        {"type": "refusal", "refusal": "no more"},
    ]
    ana.remember({"role": "user", "content": parts})
    [message] = said(ana)
    assert message.content == "Look at this\nand this\nseen\nno more"
    assert message.extra == {"parts": [image]}
    assert texts(ana) == [message.content]


def test_a_tool_call_without_content_is_kept_and_makes_no_memory(ana: ScopedMemory) -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]
    receipt = ana.remember({"role": "assistant", "content": None, "tool_calls": calls, "id": "m1"})
    assert receipt.state == "indexed"
    assert receipt.memory_ids == ()
    assert [(s.message_id, s.reason) for s in receipt.skipped] == [("m1", "no text")]
    [message] = said(ana)
    assert (message.content, message.extra) == ("", {"tool_calls": calls})
    assert texts(ana) == []


@pytest.mark.parametrize(
    ("role", "source"),
    [
        ("user", "user"),
        ("assistant", "assistant"),
        ("system", "system"),
        ("developer", "system"),
        ("tool", "tool"),
        ("function", "tool"),
    ],
)
def test_the_role_says_where_a_memory_comes_from(ana: ScopedMemory, role: str, source: str) -> None:
    ana.remember({"role": role, "content": "It rains in Porto."})
    [record] = ana.iter_memories()
    assert record.source == source
    assert said(ana)[0].role == role


# --- ids ------------------------------------------------------------------------------------------


def test_the_same_id_with_the_same_content_changes_nothing(
    memory: Memory, ana: ScopedMemory
) -> None:
    ana.remember({"id": "m1", "content": "I moved to Lisbon."}, session="s1")
    before = counts(memory)
    again = ana.remember({"id": "m1", "content": "I moved to Lisbon."}, session="s1")
    assert again.state == "unchanged"
    assert again.message_ids == ("m1",)
    assert again.memory_ids == ()
    assert [(s.message_id, s.reason) for s in again.skipped] == [("m1", "same id and content")]
    assert counts(memory) == before


@pytest.mark.parametrize(
    "other",
    [
        {"content": "I moved to Porto."},
        {"content": "I moved to Lisbon", "role": "user"},
        {"role": "assistant"},
        {"name": "Ana"},
        {"tool_call_id": "c1"},
    ],
)
def test_the_same_id_with_other_content_is_refused(
    memory: Memory, ana: ScopedMemory, other: dict[str, Any]
) -> None:
    first = {"id": "m1", "content": "I moved to Lisbon."}
    ana.remember(first, session="s1")
    before = counts(memory)
    with pytest.raises(IdConflict, match="m1"):
        ana.remember(["something new", {**first, **other}, "more"], session="s1")
    assert counts(memory) == before
    assert texts(ana) == ["I moved to Lisbon."]


def test_one_list_can_not_use_an_id_for_two_contents(memory: Memory, ana: ScopedMemory) -> None:
    with pytest.raises(IdConflict):
        ana.remember([{"id": "m1", "content": "yes"}, {"id": "m1", "content": "no"}])
    assert counts(memory) == []
    twice = ana.remember([{"id": "m1", "content": "yes"}, {"id": "m1", "content": "yes"}])
    assert [s.reason for s in twice.skipped] == ["same id and content"]
    assert [m.id for m in said(ana)] == ["m1"]


def test_an_id_belongs_to_its_session(ana: ScopedMemory) -> None:
    for session, content in (("s1", "in the first"), ("s2", "in the second"), (None, "in none")):
        ana.remember({"id": "m1", "content": content}, session=session)
    assert [(m.session, m.content) for m in said(ana)] == [
        ("s1", "in the first"),
        ("s2", "in the second"),
        (None, "in none"),
    ]


def test_the_session_of_the_message_wins_over_that_of_the_call(ana: ScopedMemory) -> None:
    ana.remember([{"content": "own", "session": "mine"}, "of the call"], session="call")
    assert [(m.content, m.session) for m in said(ana)] == [("own", "mine"), ("of the call", "call")]
    assert [r.session for r in ana.iter_memories()] == ["mine", "call"]


def test_messages_without_an_id_get_one_each(ana: ScopedMemory) -> None:
    ids = [*ana.remember(["hello there", "hello there"]).message_ids]
    ids += ana.remember("hello there").message_ids
    assert len(set(ids)) == 3
    assert [UUID(id).version for id in ids] == [7, 7, 7]
    [record] = ana.iter_memories()
    assert list(record.message_ids) == ids


# --- times ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moment",
    [
        NOON,
        NOON.astimezone(timezone(timedelta(hours=5, minutes=30))),
        "2023-05-08T12:00:00Z",
        " 2023-05-08T14:00:00+02:00 ",
        "2023-05-08 07:00:00-05:00",
        1683547200,
        1683547200.0,
    ],
)
@pytest.mark.parametrize("field", ["at", "said_at"])
def test_a_time_is_read_in_each_form(ana: ScopedMemory, moment: Any, field: str) -> None:
    ana.remember({"content": "I moved.", field: moment})
    [record] = ana.iter_memories()
    assert record.said_at == NOON
    assert record.said_at.tzinfo is UTC
    assert record.recorded_at > NOON


def test_a_said_at_of_none_leaves_the_word_to_at(ana: ScopedMemory) -> None:
    ana.remember({"content": "I moved.", "said_at": None, "at": NOON})
    assert [record.said_at for record in ana.iter_memories()] == [NOON]


# --- repeats --------------------------------------------------------------------------------------

BASE: dict[str, Any] = {"role": "user", "name": "Ana", "content": "I paid 20 euros. It's fine."}


@pytest.mark.parametrize(
    "content",
    [
        "I paid 20 euros. It's fine.",
        "i PAID 20 euros. it's FINE.",
        "  I paid  20\neuros. It's fine  ",
        "I paid 20 euros, it's fine!",
        "I paid 20 euros. It\u2019s fine\u2026",
    ],
)
def test_a_near_exact_repeat_supports_what_it_repeats(
    memory: Memory, ana: ScopedMemory, content: str
) -> None:
    first = ana.remember(BASE | {"id": "m1"}, session="s1")
    again = ana.remember(BASE | {"content": content, "id": "m2"}, session="s2")
    assert again.memory_ids == first.memory_ids
    assert again.state == "indexed"
    assert [(s.message_id, s.reason, s.memory_id) for s in again.skipped] == [
        ("m2", "repeat", first.memory_ids[0])
    ]
    [record] = ana.iter_memories()
    assert (record.text, record.session) == (BASE["content"], "s1")
    assert record.message_ids == ("m1", "m2")
    assert [m.content for m in said(ana)] == [BASE["content"], content]
    assert [c.action for c in ana.history(record.id)] == ["remembered", "supported"]


@pytest.mark.parametrize(
    "other",
    [
        {"name": "Bob"},
        {"name": None},
        {"role": "assistant"},
        {"content": "I paid 20 euros. It's fine?"},
        {"content": "I paid 21 euros. It's fine."},
        {"content": "I paid -20 euros. It's fine."},
        {"content": "I paid 20 euros. It isn't fine."},
        {"content": "I paid 20\u00b2 euros. It's fine."},
        {"tags": ["money"]},
        {"metadata": {"shop": 1}},
        {"expires_at": "2999-01-01T00:00:00Z"},
    ],
)
def test_what_says_something_else_is_no_repeat(ana: ScopedMemory, other: dict[str, Any]) -> None:
    first = ana.remember(BASE)
    second = ana.remember(BASE | other)
    assert second.skipped == ()
    assert set(first.memory_ids).isdisjoint(second.memory_ids)
    assert len(texts(ana)) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The room has 10\u00b2 tiles.", "The room has 102 tiles."),
        ("Cut it to 5' please", 'Cut it to 5" please'),
        ("That makes 5!", "That makes 5?"),
        ("...", "!"),
    ],
)
def test_a_different_number_or_sign_is_no_repeat(ana: ScopedMemory, one: str, other: str) -> None:
    ana.remember([one, other])
    assert texts(ana) == [one, other]


def test_repeats_are_found_inside_one_list(ana: ScopedMemory) -> None:
    receipt = ana.remember(["I like tea.", "I like coffee.", "i like tea"])
    assert texts(ana) == ["I like tea.", "I like coffee."]
    assert len(receipt.memory_ids) == 2
    assert [s.reason for s in receipt.skipped] == ["repeat"]


# --- receipts and a failing model -----------------------------------------------------------------


def test_a_receipt_says_where_the_time_went(ana: ScopedMemory) -> None:
    receipt = ana.remember("I moved to Lisbon.")
    assert receipt.state == "indexed"
    assert receipt.error is None
    assert list(receipt.timings_ms) == ["read", "commit", "embed", "vectors"]
    assert all(spent > 0 for spent in receipt.timings_ms.values())


def test_a_failing_embedder_leaves_what_was_said_findable_by_its_words(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appending, "EMBED_GRACE_MICROS", 0)
    embedder = FailingEmbedder()
    with open_memory(db, embedder) as memory:
        ana = memory.user("ana")
        ana.remember("We walked along the river.")
        embedder.failing = True
        receipt = ana.remember("My cat is called Minka.")
        assert receipt.state == "committed"
        assert receipt.error is not None
        assert "the model is away" in receipt.error
        assert len(receipt.memory_ids) == 1
        embedder.failing = False
        assert ana.recall("What is the cat called?")[0].memory.text == "My cat is called Minka."
        [stats] = memory.operator.stats().scopes
        assert stats.without_vector == 1
        assert memory.operator.stats().jobs == {"embed": 1}
        healed = memory.operator.upkeep()
        assert healed.jobs == {}
        assert [scope.without_vector for scope in healed.scopes] == [0]
        hit = ana.recall("What is the cat called?")[0]
    with open_memory(db) as memory:
        fresh = memory.user("ana").recall("What is the cat called?")[0]
    assert hit.memory == fresh.memory
    assert hit.score == pytest.approx(fresh.score, abs=1e-5)


def test_a_model_that_breaks_without_our_error_loses_nothing(db: Path) -> None:
    class Broken(FakeEmbedder):
        def embed(self, texts: Any) -> Any:
            return super().embed(texts)[:, :5]

    with open_memory(db, Broken()) as memory:
        receipt = memory.user("ana").remember("My cat is called Minka.")
        assert (receipt.state, texts(memory.user("ana"))) == (
            "committed",
            ["My cat is called Minka."],
        )


# --- passages -------------------------------------------------------------------------------------


def check_cut(text: str, spans: list[tuple[int, int]]) -> None:
    """Passages are trimmed stretches of the text, in order, and leave out spaces alone."""
    at = 0
    for start, stop in spans:
        assert at <= start < stop <= len(text)
        assert not text[at:start].strip()
        assert not text[start].isspace()
        assert not text[stop - 1].isspace()
        at = stop
    assert not text[at:].strip()


def test_a_long_message_is_cut_at_sentence_borders() -> None:
    sentences = [f"Sentence number {n} has seven words here." for n in range(9)]
    with new_memory(MeasuringEmbedder(max_tokens=16)) as memory:
        ana = memory.user("ana")
        ana.remember({"content": " ".join(sentences), "name": "Ana", "id": "m1"})
        kept = texts(ana)
        assert all(record.message_ids == ("m1",) for record in ana.iter_memories())
    assert " ".join(kept) == " ".join(sentences)
    assert [text.count("Sentence") for text in kept] == [2, 2, 2, 2, 1]
    assert all(text.startswith("Sentence") and text.endswith("here.") for text in kept)


def test_a_sentence_that_is_too_long_is_cut_between_words() -> None:
    text = " ".join(f"word{n}" for n in range(40))
    embedder = MeasuringEmbedder(max_tokens=12)
    spans = cut(text, embedder)
    check_cut(text, spans)
    assert [word for a, b in spans for word in text[a:b].split()] == text.split()
    assert len(spans) == 4
    assert max(len(text[a:b].split()) for a, b in spans) <= 12


WORDS = st.lists(
    st.one_of(
        st.sampled_from(["a", "Yes.", "no!", "why?", "end.\n", "\n\n", '"quoted."', "…", "3.5"]),
        st.text("abé漢。 .!?\n\u00a0", min_size=1, max_size=12),
    ),
    max_size=60,
)


@given(WORDS, st.integers(3, 15), st.sampled_from([None, "Ana", "Ana Maria"]))
@example(["。? ?"], 3, "Ana Maria")
def test_passages_fit_and_cover_the_message(
    words: list[str], max_tokens: int, speaker: str | None
) -> None:
    text = " ".join(words)
    embedder = MeasuringEmbedder(max_tokens)
    spans = cut(text, embedder, speaker)
    check_cut(text, spans)
    room = max(max_tokens, max_tokens // 2 + 2)
    for start, stop in spans:
        assert len(text_to_embed(speaker, text[start:stop]).split()) <= room


@given(WORDS, st.integers(2, 40))
def test_passages_of_an_embedder_that_measures_nothing_cover_the_message(
    words: list[str], most: int
) -> None:
    text = " ".join(words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passages, "FALLBACK_CHARACTERS", most)
        spans = cut(text, FakeEmbedder())
    check_cut(text, spans)
    assert all(stop - start <= most for start, stop in spans)


@given(WORDS)
def test_the_passages_of_a_message_are_stored_as_they_were_said(words: list[str]) -> None:
    text = " ".join(words)
    with new_memory(MeasuringEmbedder(6)) as memory:
        ana = memory.user("ana")
        if not text.strip():
            with pytest.raises(InputError):
                ana.remember(text)
            return
        receipt = ana.remember({"content": text, "id": "m1"})
        kept = texts(ana)
        [item] = ana._message_page(0, 10)
    assert item.message.content == text
    check_cut(text, [(span.start, span.stop) for span in item.spans])
    firsts = [text[span.start : span.stop] for span in item.spans if not span.repeat]
    assert kept == firsts
    assert len(receipt.memory_ids) == len(set(receipt.memory_ids)) == len(kept)


# --- what is refused ------------------------------------------------------------------------------

DEEP: dict[str, Any] = {}
for _ in range(2000):
    DEEP = {"a": DEEP}

BAD: dict[str, Any] = {
    "nothing": None,
    "a number": 5,
    "bytes": b"hello",
    "an empty text": "",
    "only spaces": " \n\t\u2003",
    "NUL": "a\x00b",
    "a lone surrogate": "a\ud800b",
    "too long": "x" * 2_000_001,
    "an item that is no message": ["fine", 7],
    "an item of None": ["fine", None],
    "a list in a list": ["fine", ["deeper"]],
    "no content": {"role": "user"},
    "empty content": {"content": ""},
    "empty parts": {"content": []},
    "content that is a number": {"content": 5},
    "content that is bytes": {"content": b"hello"},
    "content that is a mapping": {"content": {"type": "text", "text": "hello"}},
    "a part without a type": {"content": [{"text": "hello"}]},
    "a part that is a number": {"content": [5]},
    "a text part without text": {"content": [{"type": "text"}]},
    "a text part of a number": {"content": [{"type": "text", "text": 5}]},
    "an image that is no JSON": {"content": [{"type": "image", "data": b"png"}]},
    "NUL in a part": {"content": [{"type": "text", "text": "a\x00b"}]},
    "tool calls that are no JSON": {"content": "x", "tool_calls": [object()]},
    "an unknown role": {"role": "robot", "content": "x"},
    "a role that is a list": {"role": ["user"], "content": "x"},
    "a role of None": {"role": None, "content": "x"},
    "an unknown field": {"content": "x", "colour": "red"},
    "a field that is no string": {"content": "x", 5: "red"},
    "an empty id": {"content": "x", "id": ""},
    "a blank id": {"content": "x", "id": "  "},
    "an id that is a number": {"content": "x", "id": 5},
    "an id that is too long": {"content": "x", "id": "i" * 513},
    "NUL in an id": {"content": "x", "id": "a\x00"},
    "a surrogate in an id": {"content": "x", "id": "a\udfff"},
    "an empty name": {"content": "x", "name": ""},
    "a name that is a number": {"content": "x", "name": 5},
    "an empty session": {"content": "x", "session": ""},
    "a session that is a number": {"content": "x", "session": 5},
    "a naive time": {"content": "x", "said_at": datetime(2023, 5, 8)},
    "a naive ISO time": {"content": "x", "said_at": "2023-05-08T12:00:00"},
    "a date": {"content": "x", "said_at": NOON.date()},
    "a time that is no time": {"content": "x", "at": "yesterday"},
    "an empty time": {"content": "x", "said_at": ""},
    "a time of NaN": {"content": "x", "said_at": float("nan")},
    "an infinite time": {"content": "x", "said_at": float("inf")},
    "a time far out": {"content": "x", "said_at": 1e20},
    "a time that is true": {"content": "x", "said_at": True},
    "a time before the calendar": {"content": "x", "said_at": "0001-01-01T00:00:00+05:00"},
    "a time after the calendar": {"content": "x", "said_at": "9999-12-31T23:59:59-05:00"},
    "a naive end": {"content": "x", "expires_at": "2023-05-08"},
    "metadata that is a list": {"content": "x", "metadata": ["a"]},
    "metadata that is no JSON": {"content": "x", "metadata": {"a": {1, 2}}},
    "metadata with NaN": {"content": "x", "metadata": {"a": float("nan")}},
    "metadata with a surrogate": {"content": "x", "metadata": {"a": "\ud800"}},
    "metadata that is too large": {"content": "x", "metadata": {"a": "y" * 262_144}},
    "metadata that is too deep": {"content": "x", "metadata": DEEP},
    "tags that are a string": {"content": "x", "tags": "home"},
    "tags that are a number": {"content": "x", "tags": 5},
    "an empty tag": {"content": "x", "tags": [""]},
    "a tag that is a number": {"content": "x", "tags": [5]},
    "a tag that is too long": {"content": "x", "tags": ["t" * 201]},
    "too many tags": {"content": "x", "tags": [str(n) for n in range(65)]},
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_and_nothing_is_changed(
    memory: Memory, ana: ScopedMemory, bad: Any
) -> None:
    ana.remember({"id": "m1", "content": "before"})
    before = counts(memory)
    shapes = [bad] if isinstance(bad, list) else [bad, ["good", bad], [bad, "good"]]
    for shape in shapes:
        with pytest.raises(InputError) as refused:
            ana.remember(shape)
        assert len(str(refused.value)) > 10
    assert counts(memory) == before
    assert texts(ana) == ["before"]


@pytest.mark.parametrize("session", ["", "  ", 5, "a\x00", "s" * 513, "\ud800"])
def test_a_bad_session_is_refused(memory: Memory, ana: ScopedMemory, session: Any) -> None:
    with pytest.raises(InputError, match="session"):
        ana.remember("hello", session=session)
    assert counts(memory) == []


def test_a_refusal_says_which_message_it_is_about(ana: ScopedMemory) -> None:
    with pytest.raises(InputError, match=r"message 2: .*role"):
        ana.remember(["one", "two", {"role": "robot", "content": "three"}])


def test_the_longest_text_and_id_are_taken(ana: ScopedMemory) -> None:
    receipt = ana.remember({"content": "x" * 2_000_000, "id": "i" * 512})
    [message] = said(ana)
    assert (len(message.content), receipt.message_ids) == (2_000_000, ("i" * 512,))
    assert sum(map(len, texts(ana))) <= 2_000_000


def test_too_many_messages_are_refused(
    memory: Memory, ana: ScopedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnemic.writing.messages.MAX_MESSAGES", 3)
    with pytest.raises(InputError, match="at most 3"):
        ana.remember(["a", "b", "c", "d"])
    assert counts(memory) == []
    assert ana.remember(["a", "b", "c"]).state == "indexed"


def test_what_was_given_is_not_held_on_to() -> None:
    metadata: dict[str, Any] = {"a": {"b": 1}}
    [(message, _)] = read_input({"content": "x", "metadata": metadata}, None, NOON)
    metadata["a"]["b"] = 2
    assert message.metadata == {"a": {"b": 1}}


@pytest.mark.parametrize("open_scope", [Memory.user, Memory.agent, Memory.shared, Memory.tenant])
@pytest.mark.parametrize("name", ["", " ", 5, None, "a\x00", "\ud800", "n" * 513])
def test_a_scope_needs_a_proper_name(
    memory: Memory, open_scope: Callable[..., Any], name: Any
) -> None:
    with pytest.raises(InputError):
        open_scope(memory, name)
