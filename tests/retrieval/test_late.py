"""Late interaction: tokens are compared as they are coded, and what has no codes is told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from mnemic import Memory
from mnemic.models.minilm import MiniLM
from mnemic.retrieval.late import late_interaction
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
    for value, codes in zip(met, said, strict=True):
        if codes is None:
            assert np.isnan(value)
            continue
        bits = np.unpackbits(np.frombuffer(codes, np.uint8)).reshape(-1, BITS)
        signs = (2.0 * bits - 1.0) / np.sqrt(BITS)
        wanted = (asked @ signs.T).max(axis=1).mean()
        assert abs(value - wanted) < 1e-4


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
    assert int(np.argmax(late_interaction(states, codes))) == 1


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
