"""The measures, on rankings and texts whose figures are known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemic.evaluation import measures
from mnemic.evaluation.datasets import Question

IDS = st.lists(st.sampled_from("abcdefgh"), unique=True)


def question(answer: str, spans: tuple[str, ...] = ()) -> Question:
    return Question("q", "Where is the key?", None, answer, "single-hop", ("m",), spans=spans)


def test_figures_of_a_ranking_known_by_hand() -> None:
    ranked = ["x", "a", "y", "b"]
    assert measures.recall_at(ranked, {"a", "b"}, 2) == 0.5
    assert measures.reciprocal_rank(ranked, {"a", "b"}) == 0.5
    ideal = 1 + 1 / math.log2(3)
    found = 1 / math.log2(3) + 1 / math.log2(5)
    assert measures.ndcg_at(ranked, {"a", "b"}, 4) == pytest.approx(found / ideal)


@given(IDS, st.sets(st.sampled_from("abcdefgh"), min_size=1), st.integers(1, 8))
def test_figures_stay_between_0_and_1(ranked: list[str], evidence: set[str], k: int) -> None:
    for value in (
        measures.recall_at(ranked, evidence, k),
        measures.ndcg_at(ranked, evidence, k),
        measures.reciprocal_rank(ranked, evidence),
    ):
        assert 0 <= value <= 1
    assert measures.recall_at(ranked, evidence, k) <= measures.recall_at(ranked, evidence, k + 1)


def test_a_turn_counts_by_the_sentences_that_are_rendered() -> None:
    turn = "The key is red. It hangs by the door."
    assert measures.rendered(turn, question("red"), f"x {turn} y") == 1
    part = measures.rendered(turn, question("red"), "... The key is red. ...")
    assert part == pytest.approx(len("The key is red.") / 36)


def test_of_a_long_turn_only_what_bears_the_answer_counts() -> None:
    filler = " ".join(f"Nothing of note happened on day {n}." for n in range(40))
    turn = f"{filler} The spare hangs behind the greenhouse. {filler}"
    asked = question("behind the greenhouse")
    assert measures.bearing(turn, asked) == ["The spare hangs behind the greenhouse."]
    assert measures.rendered(turn, asked, "The spare hangs behind the greenhouse.") == 1
    assert measures.rendered(turn, asked, filler) == 0
    told = question("no words of it", spans=("on day 7.",))
    assert measures.bearing(turn, told) == ["Nothing of note happened on day 7."] * 2


def test_an_interval_draws_whole_conversations() -> None:
    values, groups = [1.0] * 50 + [0.0] * 50, ["a"] * 50 + ["b"] * 50
    mean, low, high = measures.interval(values, groups)
    assert (mean, low, high) == (0.5, 0.0, 1.0)
    apart = measures.interval(values, [str(n) for n in range(100)])
    assert apart[0] == 0.5
    assert 0.35 < apart[1] < 0.5 < apart[2] < 0.65
    assert all(map(math.isnan, measures.interval([], [])))


@given(st.lists(st.floats(0, 1), min_size=1), st.lists(st.floats(0, 1), min_size=1))
def test_the_area_counts_pairs(right: list[float], wrong: list[float]) -> None:
    pairs = [(a > b) + (a == b) / 2 for a in right for b in wrong]
    assert measures.area(right, wrong) == pytest.approx(sum(pairs) / len(pairs))


def test_bloat_counts_repeats_but_not_other_numbers() -> None:
    vectors = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], dtype=np.float32)
    texts = ["bus 7 is late", "the bus 7 is late", "bus 8 is late", "tea"]
    assert measures.bloat(vectors, texts, 0.95) == (1, [(0, 1)])


def test_an_answer_stands_in_one_piece_or_not_at_all() -> None:
    assert measures.answered("Half past 7", "We met at half past 7!")
    assert not measures.answered("half past 7", "half of it was past; 7 came")
    assert not measures.answered("", "anything")
