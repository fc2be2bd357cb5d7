"""A tool call and its results stay or go together."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mnemic import Message
from mnemic.layers.working.rendering import to_openai
from mnemic.layers.working.units import Unit, units
from mnemic.records import Turn
from tests.layers.talk import check_accepted

NOW = datetime(2023, 5, 8, tzinfo=UTC)
Spec = tuple[str, Any]


def call(id: Any) -> dict[str, Any]:
    named = {} if id is None else {"id": id}
    return {**named, "type": "function", "function": {"name": "look", "arguments": "{}"}}


def turns(*specs: Spec) -> list[Turn]:
    """Turns from ("user", words), ("calls", ids), ("tool", id), ("older", name), ("function", name)."""
    made = []
    for seq, (kind, what) in zip(count(1), specs, strict=False):
        role, content, name, extra = kind, "words", None, dict[str, Any]()
        if kind == "calls":
            role, content, extra = "assistant", "", {"tool_calls": [call(id) for id in what]}
        elif kind == "older":
            role, content = "assistant", ""
            extra = {"function_call": {"name": what, "arguments": "{}"}}
        elif kind == "function":
            name = what
        elif kind == "tool":
            extra = {} if what is None else {"tool_call_id": what}
        else:
            content = what
        said: Any = role
        message = Message(f"m{seq}", "s1", said, content, NOW, NOW, name=name, extra=extra)
        made.append(Turn(seq, message))
    return made


def places(made: list[Unit]) -> list[tuple[int, ...]]:
    return [tuple(turn.seq for turn in unit.turns) for unit in made]


def test_a_message_is_a_unit() -> None:
    made = units(turns(("user", "Hi"), ("assistant", "Hello"), ("system", "Be kind.")))
    assert places(made) == [(1,), (2,), (3,)]
    assert not any(unit.open for unit in made)
    assert made[1].seq == 2


def test_a_call_and_its_result_are_one() -> None:
    made = units(turns(("user", "Hi"), ("calls", ["a"]), ("tool", "a"), ("assistant", "Done")))
    assert places(made) == [(1,), (2, 3), (4,)]


def test_parallel_calls_are_one_with_all_results_in_the_calls_order() -> None:
    made = units(turns(("calls", ["a", "b", "c"]), ("tool", "c"), ("tool", "a"), ("tool", "b")))
    assert places(made) == [(1, 3, 4, 2)]


def test_a_result_never_stands_without_its_call() -> None:
    assert units(turns(("tool", "a"), ("user", "Hi")))[0].seq == 2
    assert units(turns(("tool", "a"), ("function", "look"), ("tool", None))) == []
    # Before its call it is none of it.
    assert places(units(turns(("tool", "a"), ("calls", ["a"]), ("user", "Hi")))) == [(3,)]


def test_what_was_said_in_between_comes_after_the_results() -> None:
    made = units(turns(("calls", ["a"]), ("user", "Wait!"), ("tool", "a"), ("assistant", "Yes")))
    assert places(made) == [(1, 3), (2,), (4,)]


def test_a_call_without_all_its_results_is_left_out() -> None:
    assert places(units(turns(("calls", ["a", "b"]), ("tool", "a"), ("user", "Hi")))) == [(3,)]


def test_of_a_call_without_results_the_words_stay() -> None:
    said = turns(("calls", ["a"]), ("user", "Hi"))
    words = Message("m0", "s1", "assistant", "Let me look.", NOW, NOW, extra=said[0].message.extra)
    made = units([Turn(1, words), said[1]])
    assert [unit.rendered for unit in made] == [
        [{"role": "assistant", "content": "Let me look."}],
        [{"role": "user", "content": "Hi"}],
    ]


def test_a_call_at_the_end_is_open() -> None:
    (unit,) = units(turns(("calls", ["a", "b"])))
    assert unit.open
    assert places([unit]) == [(1,)]
    (unit,) = units(turns(("calls", ["a", "b"]), ("tool", "b")))
    assert unit.open
    assert places([unit]) == [(1, 2)]
    (unit,) = units(turns(("calls", ["a"]), ("tool", "a")))
    assert not unit.open


def test_a_call_that_broke_off_is_never_open() -> None:
    said = turns(("calls", ["a"]))[0]
    broken = Message("m1", "s1", "assistant", "", NOW, NOW, extra=said.message.extra)
    for state in ("interrupted", "streaming"):
        left: Any = state
        message = Message("m1", "s1", "assistant", "I", NOW, NOW, extra=broken.extra, state=left)
        (unit,) = units([Turn(1, message)])
        assert not unit.open
        assert "tool_calls" not in unit.rendered[0]


def test_a_second_result_for_a_call_is_left_out() -> None:
    made = units(turns(("calls", ["a"]), ("tool", "a"), ("tool", "a"), ("user", "Hi")))
    assert places(made) == [(1, 2), (4,)]


def test_an_id_may_be_used_again() -> None:
    said = turns(("calls", ["a"]), ("tool", "a"), ("calls", ["a"]), ("tool", "a"))
    assert places(units(said)) == [(1, 2), (3, 4)]
    # The later call's result isn't the earlier one's.
    assert places(units(turns(("calls", ["a"]), ("calls", ["a"]), ("tool", "a")))) == [(2, 3)]


def test_functions_of_the_older_form_go_by_their_name() -> None:
    said = turns(("older", "look"), ("function", "look"), ("function", "other"), ("user", "Hi"))
    assert places(units(said)) == [(1, 2), (4,)]


def test_results_without_ids_belong_to_the_calls_in_their_order() -> None:
    said = turns(("calls", [None, None]), ("tool", None), ("tool", None), ("user", "Hi"))
    assert places(units(said)) == [(1, 2, 3), (4,)]
    assert places(units(turns(("calls", [None, None]), ("tool", None), ("user", "Hi")))) == [(3,)]


def test_what_says_nothing_is_left_out() -> None:
    silent = Turn(1, Message("m1", "s1", "assistant", "", NOW, NOW, state="interrupted"))
    assert units([silent]) == []
    image = Message("m2", "s1", "user", "", NOW, NOW, extra={"parts": [{"type": "image"}]})
    assert places(units([Turn(2, image)])) == [(2,)]


IDS = st.sampled_from(["a", "b", "c", None])
SPECS = st.one_of(
    st.tuples(st.just("user"), st.sampled_from(["Hi", "Wait"])),
    st.tuples(st.just("assistant"), st.just("Well")),
    st.tuples(st.just("calls"), st.lists(IDS, max_size=3)),
    st.tuples(st.just("tool"), IDS),
    st.tuples(st.sampled_from(["older", "function"]), st.sampled_from(["look", "other"])),
)


@given(st.lists(SPECS, max_size=20))
def test_whatever_was_said_an_api_takes_it(specs: list[Spec]) -> None:
    said = turns(*specs)
    made = units(said)
    sent = [to_openai(turn.message) for unit in made for turn in unit.turns]
    check_accepted(sent, may_end_open=True)
    assert not any(unit.open for unit in made[:-1])
    seqs = [turn.seq for unit in made for turn in unit.turns]
    assert len(set(seqs)) == len(seqs)
    assert [unit.seq for unit in made] == sorted(unit.seq for unit in made)
    # Words of people and of models are never lost.
    words = {turn.seq for turn in said if turn.message.role == "user"}
    words |= {t.seq for t in said if t.message.role == "assistant" and t.message.content}
    assert words <= set(seqs)
