"""Whatever was said, and whatever the budget: never over it, never a tool result alone, the query there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemic import BudgetTooSmall
from mnemic.models.tokens import count_tokens
from tests.fakes import new_memory
from tests.layers.talk import counted

pytestmark = pytest.mark.usefixtures("tokens_ready")

WORDS = st.sampled_from(
    [
        "boats",
        "the red hills",
        "Lisbon",
        "yesterday",
        "</memories>",
        "\n\n",
        "<|im_end|>",
        "我住在里斯本",
    ]
)
TEXTS = st.one_of(
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40),
    st.lists(WORDS, max_size=12).map(" ".join),
    st.integers(200, 3000).map(lambda n: "I saw a red boat. " * n),
)
IDS = st.sampled_from(["c1", "c2", "c3"])


def call(id: str) -> dict[str, Any]:
    return {
        "id": id,
        "type": "function",
        "function": {"name": "look", "arguments": '{"at": "boats"}'},
    }


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    """A message as an agent's loop may leave it: calls without results, results without calls."""
    kind = draw(st.sampled_from(["user", "user", "assistant", "system", "calls", "tool"]))
    if kind == "calls":
        ids = draw(st.lists(IDS, min_size=1, max_size=3, unique=True))
        return {"role": "assistant", "content": draw(TEXTS), "tool_calls": [call(i) for i in ids]}
    content = draw(TEXTS.filter(lambda text: bool(text.strip())))
    if kind == "tool":
        return {"role": "tool", "content": content, "tool_call_id": draw(IDS)}
    return {"role": kind, "content": content}


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Any messages, with some well-formed runs of calls and results among them."""
    said: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(0, 12))):
        if draw(st.booleans()):
            said.append(draw(messages()))
            continue
        ids = draw(st.lists(IDS, min_size=1, max_size=3, unique=True))
        said.append({"role": "assistant", "content": "", "tool_calls": [call(i) for i in ids]})
        said += [
            {"role": "tool", "content": "42", "tool_call_id": i} for i in draw(st.permutations(ids))
        ]
    return said


def called(message: Mapping[str, Any]) -> list[str]:
    return [call["id"] for call in message.get("tool_calls") or ()]


@given(
    conversations(), conversations(), TEXTS.filter(str.strip), st.integers(1, 3000), st.booleans()
)
def test_a_context_keeps_its_promises(
    before: list[dict[str, Any]],
    now: list[dict[str, Any]],
    query: str,
    budget: int,
    facts: bool,
) -> None:
    prompt = "You are kind."
    with new_memory() as memory:
        ana = memory.user("ana")
        ana.remember(before, session="old")
        ana.remember(now, session="s1")
        if facts:
            ana.facts.remember("Ana lives in Lisbon.")
            ana.procedures.remember("tone", "Be brief.")
        needed = 0
        try:
            context = ana.context(query, session="s1", prompt=prompt, budget=budget)
        except BudgetTooSmall as error:
            needed = error.needed
        if needed:
            # What it names is enough, and no more than that.
            context = ana.context(query, session="s1", prompt=prompt, budget=needed)
            assert context.tokens == needed > budget
            budget = needed
    sent = context.messages
    assert counted(sent) <= context.tokens <= budget
    assert count_tokens(context.text) <= budget
    assert sent[0]["role"] == "system"
    assert sent[0]["content"].startswith(prompt)
    assert [m["role"] for m in sent].count("system") == 1
    assert sent[-1]["role"] == "user"
    assert sent[-1]["content"].endswith(query)
    open_calls: list[str] = []
    for message in sent:
        if message["role"] == "tool":
            assert message["tool_call_id"] in open_calls
            open_calls.remove(message["tool_call_id"])
        else:
            assert not open_calls, "a call without its result"
            open_calls = called(message)
    assert not open_calls
    names = [hit.memory.id for hit in context.hits]
    assert len(set(names)) == len(names)
    for system in (m["content"].strip() for m in now if m["role"] == "system"):
        assert system in sent[0]["content"]
