"""Late interaction: tokens are compared as they are coded, and what has no codes is told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from mnemic import Memory
from mnemic.models.minilm import MiniLM
from mnemic.retrieval.late import MOST_TOKENS, late_interaction, weigh_tokens
from mnemic.stores import schema
from mnemic.testing import FakeEmbedder

BITS = 24
CODES = st.binary(min_size=1, max_size=6).map(lambda raw: (raw * (BITS // 8))[: len(raw) * 3])
STATES = st.lists(
    st.lists(st.floats(-1, 1, width=32), min_size=BITS, max_size=BITS), min_size=1, max_size=5
)


@given(STATES, st.lists(st.none() | CODES, max_size=6))
def test_each_token_of_the_question_counts_with_its_best_match(
    states: list[list[float]], said: list[bytes | None]
) -> None:
    asked = np.array(states, dtype=np.float32)
    met = late_interaction(asked, said)
    for values, codes in zip(met, said, strict=True):
        if codes is None:
            assert np.isnan(values).all()
            continue
        bits = np.unpackbits(np.frombuffer(codes, np.uint8)).reshape(-1, BITS)
        signs = (2.0 * bits - 1.0) / np.sqrt(BITS)
        assert np.abs(values - (asked @ signs.T).max(axis=1)).max() < 1e-4


def test_so_many_tokens_are_compared_and_no_more() -> None:
    said = [bytes(3 * 200)] * 100  # 200 tokens each
    met = late_interaction(np.ones((1, BITS), np.float32), said)
    assert len(met) == MOST_TOKENS // 200


def test_without_tokens_in_the_question_nothing_is_told() -> None:
    met = late_interaction(np.zeros((0, BITS), np.float32), [bytes(3), None])
    assert np.isnan(met).all()


def test_the_same_words_meet_best_whatever_stands_around_them() -> None:
    model = MiniLM(threads=1)
    _, states = model.embed_states("How much was the red canoe?")
    said = [
        "We had soup and then went home early because of the rain.",
        "The red canoe was 450 dollars, and the paddle came with it.",
        "The dentist has moved to the other side of the river.",
    ]
    _, codes = model.embed_coded(said)
    met = late_interaction(states, codes)
    assert int(np.argmax(met.mean(axis=1))) == 1
    tokens = weigh_tokens(met, np.arange(3), np.zeros(3, np.int64))
    assert tokens is not None
    assert int(np.argmax(tokens.rare)) == 1


VALUES = st.lists(st.floats(0, 0.75, width=32), min_size=3, max_size=3)
MET = st.lists(st.tuples(st.none() | VALUES, st.integers(0, 8)), min_size=1, max_size=6)


@given(MET)
def test_tokens_are_taken_from_the_messages_around(
    candidates: list[tuple[list[float] | None, int]],
) -> None:
    """As a plain loop over pairs would: two messages away, in one session (here of four)."""
    met = np.array([values or [np.nan] * 3 for values, _ in candidates], dtype=np.float32)
    message = np.array([number for _, number in candidates], dtype=np.int64)
    session = message // 4
    tokens = weigh_tokens(met, message, session)
    known = np.asarray(~np.isnan(met).any(axis=1))
    if not known.any():
        assert tokens is None
        return
    assert tokens is not None
    full = np.where(known[:, None], met, met[known].mean(axis=0))
    weights = np.log(2 / ((full > 0.5).mean(axis=0) + 0.02))
    weights /= weights.sum()
    for at, _ in enumerate(candidates):
        near = (abs(message - message[at]) <= 2) & (session == session[at])
        assert abs(tokens.around[at] - full[near].max(axis=0) @ weights) < 1e-4
        assert abs(tokens.rare[at] - full[at] @ weights) < 1e-4
        assert tokens.around[at] >= tokens.rare[at] - 1e-6


def test_candidates_that_nobody_looked_at_have_the_least() -> None:
    met = np.array([[0.7, 0.1], [0.2, 0.1]], dtype=np.float32)
    tokens = weigh_tokens(met, np.arange(4), np.zeros(4, np.int64))
    assert tokens is not None
    for column in (tokens.plain, tokens.rare, tokens.around):
        assert len(column) == 4
        assert (column[2:] == column[:2].min()).all()


def test_codes_are_kept_with_the_vectors_and_go_with_them(tmp_path: Path) -> None:
    with Memory(tmp_path / "a.db") as memory:
        ana = memory.user("ana")
        text = "The red canoe was 450 dollars."
        ana.remember([{"role": "user", "content": text, "id": "m1"}])
        core = ana._core
        reader = core.reader()
        assert reader is not None
        index = reader.indexes.current(ana.scope, reader.known)
        found = core.store.find_codes(ana.scope, reader.known, [index.id_of(0)])
        assert list(found.values()) == MiniLM(threads=1).embed_coded([text])[1]
        ana.forget(message_id="m1")
        with core.database.read() as connection:
            assert connection.execute(schema.vectors.select()).all() == []


def test_memories_without_codes_are_ranked_by_the_rest(tmp_path: Path) -> None:
    texts = ["The red canoe was 450 dollars.", "Otto lives in Porto.", "The dentist is on Friday."]
    with Memory(tmp_path / "a.db") as memory:
        ana = memory.user("ana")
        ana.remember([{"role": "user", "content": text} for text in texts])
        with ana._core.database.write() as connection:
            connection.execute(update(schema.vectors).values(codes=None))
        found = ana.recall("What did the canoe cost?", min_relevance=0)
        assert found[0].memory.text == texts[0]
        assert np.isfinite([hit.score for hit in found]).all()
        assert all(0 < hit.relevance < 1 for hit in found)
        # An older store's: made where it is repaired, and then nothing is left to do.
        assert memory.operator.repair() == ["vectors made: 3"]
        with ana._core.database.read() as connection:
            assert all(row.codes for row in connection.execute(schema.vectors.select()))
        assert memory.operator.repair() == []


def test_an_embedder_without_codes_answers_too(tmp_path: Path) -> None:
    with Memory(tmp_path / "a.db", embedder=FakeEmbedder()) as memory:
        ana = memory.user("ana")
        ana.remember(["The red canoe was 450 dollars.", "Otto lives in Porto."])
        assert ana.recall("canoe")[0].memory.text.startswith("The red canoe")
