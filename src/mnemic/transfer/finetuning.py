"""Exporting approved behaviour as a fine-tuning set: JSON lines in OpenAI's chat format.

Each line is one conversation, and only its last message is to be learned: what the assistant said before
that carries the weight 0. Nothing goes in that nobody approved.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemic.errors import InputError
from mnemic.inputs import kind_of, read_json, read_name, read_path, shown
from mnemic.layers.procedural import render
from mnemic.layers.working.rendering import to_openai
from mnemic.layers.working.units import units
from mnemic.memory import ScopedMemory
from mnemic.records import Procedure, Turn
from mnemic.transfer.files import check_free, written

APPROVED = "approved"
MAX_TURNS = 1_000
MAX_TOOLS = 128
_PAGE = 500
_ALL = 1 << 31
_SYSTEM = ("system", "developer")

Line = dict[str, Any]


@dataclass(slots=True)
class FinetuningReport:
    """What an export wrote. `left_out` counts approved replies that broke off, or that answer nobody."""

    examples: int = 0
    conversations: int = 0
    left_out: int = 0


def export_finetuning(
    handle: ScopedMemory,
    path: str | os.PathLike[str],
    *,
    turns: int = 20,
    tag: str = APPROVED,
    tools: Sequence[Mapping[str, Any]] = (),
    replace: bool = False,
) -> FinetuningReport:
    """Write a fine-tuning set to a file, whole or not at all; `replace` allows an older one to be there.

    It has the examples of the instructions in force, and the assistant's replies that carry the tag, each
    with up to `turns` messages before it, or as many as the user's last is away. `tools` are the
    definitions that go with lines that call any.
    """
    file = Path(read_path(path, "a fine-tuning set"))
    report = FinetuningReport()
    lines = finetuning_lines(handle, report, turns=turns, tag=tag, tools=tools)
    check_free(file, replace)
    with written(file) as target:
        for line in lines:
            target.write(line + "\n")
    return report


def finetuning_lines(
    handle: ScopedMemory,
    report: FinetuningReport,
    *,
    turns: int = 20,
    tag: str = APPROVED,
    tools: Sequence[Mapping[str, Any]] = (),
) -> Iterator[str]:
    """The lines of a fine-tuning set, without line ends; `report` counts along."""
    if isinstance(turns, bool) or not isinstance(turns, int) or not 1 <= turns <= MAX_TURNS:
        raise InputError(f"turns is a whole number from 1 to {MAX_TURNS:,}, not {shown(turns)}")
    chosen, defined = read_name(tag, "tag"), _read_tools(tools)

    def lines() -> Iterator[Line]:
        yield from _examples(handle, report)
        for session in handle._core.session_rows.sessions(handle.scope, _ALL):
            yield from _conversations(handle, session.name, (turns, chosen), report)

    return (json.dumps(_with_tools(line, defined), ensure_ascii=False) for line in lines())


def _read_tools(tools: Any) -> list[dict[str, Any]]:
    if isinstance(tools, str | bytes | Mapping) or not isinstance(tools, Iterable):
        raise InputError(f"tools are a list of definitions, not {kind_of(tools)}")
    given = list(tools)
    if len(given) > MAX_TOOLS:
        raise InputError(f"at most {MAX_TOOLS} tools can be defined")
    return [read_json(tool, "a tool's definition") for tool in given]


def _with_tools(line: Line, tools: list[dict[str, Any]]) -> Line:
    calls = any("tool_calls" in message for message in line["messages"])
    return {**line, "tools": tools} if calls and tools else line


def _examples(handle: ScopedMemory, report: FinetuningReport) -> Iterator[Line]:
    """The examples of the instructions in force, each under what a prompt would hold with it."""
    rules = handle.procedures
    always = rules.active()
    for procedure in rules.iter_procedures():
        if procedure.status != "current":
            continue
        system = _system([], always if procedure.mode == "always" else [*always, procedure])
        for example in procedure.examples:
            report.examples += 1
            user = {"role": "user", "content": example.asked}
            answer = {"role": "assistant", "content": example.answered}
            yield {"messages": [*system, user, answer]}


def _conversations(
    handle: ScopedMemory, session: str, how: tuple[int, str], report: FinetuningReport
) -> Iterator[Line]:
    """The approved replies of one session, each with what was said before it."""
    turns, tag = how
    rows, scope = handle._core.session_rows, handle.scope
    said = [turn.message.content for turn in rows.system(scope, session)]
    recent: list[Turn] = []
    after = 0
    while page := rows.turns(scope, session, _PAGE, after=after):
        after = page[-1].seq
        for turn in page:
            if turn.message.role in _SYSTEM:
                continue
            recent = _bounded([*recent, turn], turns + 1)
            if turn.message.role == "assistant" and tag in turn.message.tags:
                messages = _messages(handle, said, recent)
                if messages is None:
                    report.left_out += 1
                else:
                    report.conversations += 1
                    yield {"messages": messages}


def _bounded(recent: list[Turn], most: int) -> list[Turn]:
    """The last messages, and what lies between them and the last that the user said, within MAX_TURNS."""
    if len(recent) <= most:
        return recent
    start = len(recent) - most
    asked = (at for at in reversed(range(len(recent))) if recent[at].message.role == "user")
    return recent[max(min(start, next(asked, start)), len(recent) - 1 - MAX_TURNS) :]


def _messages(handle: ScopedMemory, said: list[str], recent: list[Turn]) -> list[Line] | None:
    """A conversation that ends in an approved reply; None where it can't be learned from."""
    reply = recent[-1].message
    if reply.state != "complete" or not (reply.content or reply.extra.get("tool_calls")):
        return None
    kept = [turn for unit in units(recent) for turn in unit.turns]
    asked = [number for number, turn in enumerate(kept) if turn.message.role == "user"]
    if not asked or kept[-1] is not recent[-1]:
        return None
    rendered = [to_openai(turn.message) for turn in kept[asked[0] :]]
    earlier = [m | {"weight": 0} if m["role"] == "assistant" else m for m in rendered[:-1]]
    active = handle.procedures.active(kept[asked[-1]].message.content)
    return [*_system(said, active), *earlier, rendered[-1]]


def _system(said: list[str], procedures: list[Procedure]) -> list[Line]:
    """The one system message: the session's own prompt, then the instructions."""
    parts = [part for part in (*said, render(procedures)) if part]
    return [{"role": "system", "content": "\n\n".join(parts)}] if parts else []
