"""Conversations for the tests of working memory: any at all, and plain ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from mnemic.models.tokens import count_tokens

Said = dict[str, Any]

WORDS = st.sampled_from(
    ["boats", "the red hills.", "Lisbon", "yesterday!", "</summary>", "\n\n", "<|im_end|>", "我住"]
)
TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40),
    st.lists(WORDS, max_size=12).map(" ".join),
    st.integers(50, 1500).map(lambda n: "I saw a red boat. " * n),
)
SOME_TEXT = TEXTS.filter(lambda text: bool(text.strip()))
IDS = st.sampled_from(["c1", "c2", "c3"])


def call(id: str) -> Said:
    return {"id": id, "type": "function", "function": {"name": "look", "arguments": '{"at": "x"}'}}


@st.composite
def messages(draw: st.DrawFn) -> Said:
    """A message as an agent's loop may leave it: calls without results, results without calls."""
    kind = draw(st.sampled_from(["user", "user", "assistant", "system", "calls", "tool", "older"]))
    if kind == "calls":
        ids = draw(st.lists(IDS, min_size=1, max_size=3, unique=True))
        return {"role": "assistant", "content": draw(TEXTS), "tool_calls": [call(i) for i in ids]}
    if kind == "older":
        return {"role": "assistant", "function_call": {"name": "look", "arguments": "{}"}}
    said: Said = {"role": kind, "content": draw(SOME_TEXT)}
    if kind == "tool":
        said["tool_call_id"] = draw(IDS)
    elif draw(st.booleans()):
        said["name"] = draw(st.sampled_from(["Ana", "Bob: the boss", "安娜", "A b\nc"]))
    return said


@st.composite
def conversations(draw: st.DrawFn, most: int = 12) -> list[Said]:
    """Any messages, with some well-formed runs of calls and results among them."""
    said: list[Said] = []
    for _ in range(draw(st.integers(0, most))):
        if draw(st.booleans()):
            said.append(draw(messages()))
            continue
        ids = draw(st.lists(IDS, min_size=1, max_size=3, unique=True))
        said.append({"role": "assistant", "content": "", "tool_calls": [call(i) for i in ids]})
        for id in draw(st.permutations(ids)):
            content = draw(st.sampled_from(["42", "A long result. " * 300]))
            said.append({"role": "tool", "content": content, "tool_call_id": id})
    return said


def counted(sent: list[Said]) -> int:
    """OpenAI's recipe for the tokens of a chat, written down apart from ours."""
    total = 3
    for message in sent:
        total += 3
        for key, value in message.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            total += 0 if value is None else count_tokens(text)
            total += key == "name"
    return total


def check_accepted(sent: list[Any], *, may_end_open: bool = False) -> None:
    """Fail where an API would refuse: results follow their call at once, each once, none is missing."""
    wanted: list[Any] = []
    for message in sent:
        if message["role"] in ("tool", "function"):
            older = message["role"] == "function"
            id = f"function {message['name']}" if older else message.get("tool_call_id")
            assert id in wanted, "a result without its call"
            wanted.remove(id)
            continue
        assert not wanted, "a call without its result"
        wanted = [call.get("id") for call in message.get("tool_calls") or ()]
        if message.get("function_call"):
            wanted.append(f"function {message['function_call']['name']}")
    assert may_end_open or not wanted, "a call without its result"


def contents(sent: Sequence[Mapping[str, Any]]) -> list[Any]:
    return [message["content"] for message in sent]
