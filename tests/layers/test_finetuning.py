"""A fine-tuning set holds approved behaviour alone, in the format that OpenAI's API takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemic.errors import InputError
from mnemic.memory import ScopedMemory
from mnemic.transfer.finetuning import FinetuningReport, export_finetuning, finetuning_lines
from tests.fakes import new_memory

OK = ["approved"]
ROLES = {"system", "user", "assistant", "tool"}
KEYS = {"role", "content", "name", "tool_calls", "tool_call_id", "weight", "refusal"}


def call(id: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": "find", "arguments": "{}"}}


def lines_of(handle: ScopedMemory, **how: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in finetuning_lines(handle, FinetuningReport(), **how)]


def check(line: dict[str, Any]) -> None:
    """What the API's guide asks of a line of the chat format."""
    assert set(line) <= {"messages", "tools"}
    messages = line["messages"]
    assert messages[-1]["role"] == "assistant"
    assert messages[-1].get("weight", 1) == 1
    assert any(message["role"] == "user" for message in messages)
    open_calls: list[str] = []
    for at, message in enumerate(messages):
        assert set(message) <= KEYS
        assert message["role"] in ROLES
        assert (message["role"] == "system") <= (at == 0)
        assert message.get("weight", 1) in (0, 1)
        assert ("weight" in message) <= (message["role"] == "assistant")
        assert isinstance(message["content"], str | list) or message.get("tool_calls")
        if message["role"] == "tool":
            assert message["tool_call_id"] in open_calls
            open_calls.remove(message["tool_call_id"])
        else:
            assert open_calls == []
            open_calls = [called["id"] for called in message.get("tool_calls", ())]


def test_examples_stand_under_the_instructions_that_they_show(ana: ScopedMemory) -> None:
    rules = ana.procedures
    rules.remember("tone", "Be brief.", examples=[("Hi", "Hello."), ("Bye", "Bye.")])
    rules.remember(
        "refunds", "Ask.", mode="relevant", examples=[{"user": "Money", "assistant": "No."}]
    )
    rules.remember("off", "Shout.", examples=[("x", "X!")])
    rules.disable("off")
    rules.learn("Never.", name="waiting")
    lines = lines_of(ana)
    for line in lines:
        check(line)
    always = "# Instructions\n\n## tone\n\nBe brief."
    assert [line["messages"] for line in lines] == [
        [
            {"role": "system", "content": f"{always}\n\n## refunds\n\nAsk."},
            {"role": "user", "content": "Money"},
            {"role": "assistant", "content": "No."},
        ],
        [
            {"role": "system", "content": always},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
        ],
        [
            {"role": "system", "content": always},
            {"role": "user", "content": "Bye"},
            {"role": "assistant", "content": "Bye."},
        ],
    ]


def test_only_the_approved_reply_is_to_be_learned(ana: ScopedMemory) -> None:
    ana.procedures.remember("tone", "Be brief.")
    ana.remember(
        [
            {"role": "system", "content": "You are Bot."},
            {"role": "user", "content": "One?"},
            {"role": "assistant", "content": "A long one."},
            {"role": "user", "content": "Two?", "name": "Ana Maria"},
            {"role": "assistant", "content": "Two.", "tags": OK},
            {"role": "user", "content": "Three?", "tags": OK},
            {"role": "assistant", "content": "No idea."},
        ],
        session="s1",
    )
    ana.remember([{"role": "assistant", "content": "Hello?", "tags": OK}], session="s2")
    report = FinetuningReport()
    [line] = [json.loads(line) for line in finetuning_lines(ana, report)]
    check(line)
    assert line["messages"] == [
        {"role": "system", "content": "You are Bot.\n\n# Instructions\n\n## tone\n\nBe brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "A long one.", "weight": 0},
        {"role": "user", "content": "Two?", "name": "Ana_Maria"},
        {"role": "assistant", "content": "Two."},
    ]
    assert (report.examples, report.conversations, report.left_out) == (0, 1, 1)
    assert lines_of(ana, turns=1)[0]["messages"][1]["content"] == "Two?"
    assert lines_of(ana, tag="other") == []


def test_a_call_and_its_results_stay_together_and_bring_their_tools(ana: ScopedMemory) -> None:
    ana.remember(
        [
            {"role": "user", "content": "Find both."},
            {"role": "assistant", "content": "", "tool_calls": [call("a"), call("b")], "tags": OK},
            {"role": "tool", "content": "B", "tool_call_id": "b"},
            {"role": "tool", "content": "A", "tool_call_id": "a"},
            {"role": "tool", "content": "orphan", "tool_call_id": "z"},
            {"role": "assistant", "content": "A and B.", "tags": OK},
        ],
        session="s1",
    )
    tools = [{"type": "function", "function": {"name": "find", "parameters": {}}}]
    first, second = lines_of(ana, tools=tools, turns=1)
    for line in (first, second):
        check(line)
        assert line["tools"] == tools
    assert [m["role"] for m in first["messages"]] == ["user", "assistant"]
    assert [m["content"] for m in second["messages"]] == ["Find both.", None, "A", "B", "A and B."]
    assert "tools" not in lines_of(ana)[0]


def test_what_was_forgotten_or_is_anothers_is_not_exported(ana: ScopedMemory) -> None:
    said: list[dict[str, Any]] = [
        {"role": "user", "content": "Secret?"},
        {"role": "assistant", "content": "Psst.", "tags": OK, "id": "a1"},
    ]
    ana.remember(said, session="s1")
    assert len(lines_of(ana)) == 1
    assert lines_of(ana, turns=1000) == lines_of(ana)
    ana.forget(message_id="a1")
    assert lines_of(ana) == []


def test_a_set_is_written_whole_or_not_at_all(ana: ScopedMemory, tmp_path: Path) -> None:
    file = tmp_path / "set.jsonl"
    ana.procedures.remember("tone", "Be brief.", examples=[("Olá?", "Olá.\u2028")])
    report = export_finetuning(ana, file)
    assert (report.examples, report.conversations) == (1, 0)
    raw = file.read_bytes()
    assert raw.count(b"\n") == 1
    assert json.loads(raw)["messages"][1] == {"role": "user", "content": "Olá?"}
    with pytest.raises(InputError, match="there already"):
        export_finetuning(ana, file)
    for bad in ({"turns": 0}, {"turns": True}, {"tag": ""}, {"tools": {"a": 1}}, {"tools": [1]}):
        with pytest.raises(InputError):
            export_finetuning(ana, file, replace=True, **bad)
    with pytest.raises(InputError, match="can't write"):
        export_finetuning(ana, tmp_path / "nowhere" / "set.jsonl")
    assert file.read_bytes() == raw
    assert export_finetuning(ana, file, replace=True) == report
    assert sorted(path.name for path in tmp_path.iterdir() if "jsonl" in path.name) == ["set.jsonl"]


TURN = st.one_of(
    st.tuples(st.just("user"), st.text("ab", min_size=1, max_size=3)),
    st.tuples(st.just("assistant"), st.text("ab", min_size=1, max_size=3)),
    st.tuples(st.just("approved"), st.text("ab", min_size=1, max_size=3)),
    st.tuples(st.just("call"), st.sampled_from(["1", "2", "12"])),
    st.tuples(st.just("approved call"), st.sampled_from(["1", "2"])),
    st.tuples(st.just("tool"), st.sampled_from(["1", "2"])),
    st.tuples(st.just("system"), st.text("ab", min_size=1, max_size=3)),
)


def message_of(kind: str, text: str) -> dict[str, Any]:
    tags = OK if kind.startswith("approved") else []
    if kind.endswith("call"):
        calls = [call(id) for id in text]
        return {"role": "assistant", "content": "", "tool_calls": calls, "tags": tags}
    if kind == "tool":
        return {"role": "tool", "content": "found", "tool_call_id": text}
    return {"role": "assistant" if kind == "approved" else kind, "content": text, "tags": tags}


@given(st.lists(TURN, max_size=14), st.integers(1, 6))
def test_every_line_of_any_conversation_is_one_that_the_api_takes(
    turns: list[tuple[str, str]], most: int
) -> None:
    with new_memory() as memory:
        ana = memory.user("ana")
        said = [message_of(*turn) for turn in turns]
        if said:
            ana.remember(said, session="s1")
        report = FinetuningReport()
        lines = [json.loads(line) for line in finetuning_lines(ana, report, turns=most)]
        for line in lines:
            check(line)
        approved = sum(kind.startswith("approved") for kind, _ in turns)
        assert (len(lines), report.conversations + report.left_out) == (
            report.conversations,
            approved,
        )
