"""What a question's words ask for, and what it is about."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemic import Memory
from mnemic.retrieval import clues
from mnemic.retrieval.clues import names_of, read_asked, subject_of


def test_examples() -> None:
    assert doctest.testmod(clues).failed == 0


@pytest.mark.parametrize(
    ("question", "subject"),
    [
        ("Summarise what we said about the roof.", "roof"),
        ("Give me an overview of my marathon training so far", "marathon training"),
        ("In what order did I mention the garden, the roof and the cellar?", "garden roof cellar"),
        ("What colour is the roof?", "What colour is the roof?"),
        ("Give me a summary.", "Give me a summary."),
    ],
)
def test_a_question_for_an_overview_is_searched_by_its_subject(question: str, subject: str) -> None:
    assert subject_of(question) == subject


@given(st.text(max_size=200))
def test_a_subject_is_made_of_the_questions_own_words(question: str) -> None:
    subject = subject_of(question)
    assert subject == question or all(word in question for word in subject.split())
    assert subject or not question


def test_names_and_numbers_are_told_but_for_the_first_word() -> None:
    assert names_of("Did Ana pay invoice INV-2031 in 2024?") == ["Ana", "INV-2031", "2024"]
    assert names_of("When I've met Bo I'm glad") == ["Bo"]


def test_a_summary_is_of_both_sides_words() -> None:
    assert read_asked("Summarise my garden plans").summary == 1
    assert read_asked("In what order did I plan the garden?").summary == 0


def test_a_name_that_nobody_said_makes_an_answer_less_likely(tmp_path: Path) -> None:
    texts = [f"On day {n} Otto painted the red canoe number {n}." for n in range(40)]
    with Memory(tmp_path / "a.db") as memory:
        ana = memory.user("ana")
        ana.remember([{"role": "user", "name": "Ana", "content": text} for text in texts])
        known = ana.recall("When did Otto paint the canoe?", min_relevance=0)[0].relevance
        strange = ana.recall("When did Bartholomew paint the canoe?", min_relevance=0)[0].relevance
        assert strange < known
