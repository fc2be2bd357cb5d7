"""What the model may do to memory by itself, in one turn, and only to that of the user it talks with.

Text goes in and text comes out. No user, session or scope can be named, ids are made up for the turn, and
each tool may be used a few times. What memory told the model is never noted again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from mnemic.agent.reply import ToolName, ToolUse
from mnemic.context.fence import day_of, line_of
from mnemic.context.result import Context
from mnemic.context.unsaid import folded
from mnemic.errors import InputError, MnemicError
from mnemic.inputs import read_zone
from mnemic.layers.quoting import MEMORIES, fenced
from mnemic.memory import ScopedMemory
from mnemic.records import Hit, Message

if TYPE_CHECKING:
    from pydantic_ai.tools import ToolDefinition

TOOLS: tuple[ToolName, ...] = get_args(ToolName)
# Uses of a tool in a turn; memories that one recall shows, and their tokens; characters of a note.
MOST = {"remember": 5, "recall": 5, "forget": 3}
SHOWN, SHOWN_TOKENS = 8, 600
MOST_NOTE = 1_000
# How far a note of the model's is believed, where what a user states is 1.
TRUST = 0.7
_TAKES = {
    "remember": ("text", "What to note, in one sentence."),
    "recall": ("question", "What you want to know."),
    "forget": ("id", "The id of the memory, such as m1."),
}


class Tools:
    """The tools of one turn, on the memory of the user who said `asked`."""

    def __init__(
        self, names: Iterable[ToolName], handle: ScopedMemory, asked: Message, context: Context
    ) -> None:
        self.uses: list[ToolUse] = []
        self._names = tuple(names)
        self._handle = handle
        self._asked = asked
        self._counts: Counter[str] = Counter()
        self._ids: dict[str, str] = {}
        told = [m.memory.text for m in context.hits] + [f.text for f in context.facts]
        told += [turn.message.content for turn in context.turns]
        self._told = {folded(text) for text in [*told, asked.content]}

    def definitions(self) -> list[ToolDefinition]:
        """The tools as a model is told of them."""
        from pydantic_ai.tools import ToolDefinition

        made = []
        for name in self._names:
            field, meaning = _TAKES[name]
            schema = {
                "type": "object",
                "properties": {field: {"type": "string", "description": meaning}},
                "required": [field],
                "additionalProperties": False,
            }
            made.append(
                ToolDefinition(name=name, parameters_json_schema=schema, description=_prompt(name))
            )
        return made

    def use(self, name: str, arguments: str | Mapping[str, Any] | None) -> str:
        """Use a tool as the model asks for it; what can't be done is told to the model, never raised."""
        known = next((tool for tool in self._names if tool == name), None)
        if known is None:
            return f"There is no tool {name[:40]!r}; there is {', '.join(self._names)}."
        field, _ = _TAKES[known]
        given = _read(arguments).get(field)
        if not isinstance(given, str) or not given.strip():
            return f"{known} takes a JSON object with {field}, a text."
        self._counts[known] += 1
        if self._counts[known] > MOST[known]:
            return self._refuse(known, given, "that is enough of it for one turn; answer now")
        try:
            return {"remember": self._remember, "recall": self._recall, "forget": self._forget}[
                known
            ](given.strip())
        except InputError as error:
            return self._refuse(known, given, str(error))
        except MnemicError as error:
            # What a store or an embedder says is for who runs it.
            return self._refuse(known, given, f"it failed ({error.code})")

    def _remember(self, text: str) -> str:
        if len(text) > MOST_NOTE:
            return self._refuse("remember", text, f"a note has at most {MOST_NOTE} characters")
        if folded(text) in self._told:
            return self._refuse("remember", text, "that is remembered already")
        # It stands on what the user said: who forgets that forgets the note.
        fact = self._handle.facts.remember(
            text,
            confidence=TRUST,
            source="assistant",
            message_ids=[self._asked.id],
            session=self._asked.session,
            tags=["noted"],
        )
        self._told.add(folded(text))
        self.uses.append(ToolUse("remember", text, (fact.id,)))
        return "Noted."

    def _recall(self, question: str) -> str:
        found = self._handle.recall(question, limit=SHOWN + 1, budget=SHOWN_TOKENS)
        hits = [hit for hit in found if not self._is_asked(hit)][:SHOWN]
        self.uses.append(ToolUse("recall", question, tuple(hit.memory.id for hit in hits)))
        if not hits:
            return "Nothing is remembered of that."
        zone = read_zone(self._handle.timezone(), "the time zone")
        lines = []
        for hit in sorted(hits, key=lambda hit: (hit.memory.said_at, hit.memory.id)):
            self._told.add(folded(hit.memory.text))
            day, line = day_of(hit.memory, zone), line_of(hit.memory, zone)
            lines.append(f"{self._label(hit.memory.id)} {day} {line}")
        return fenced(MEMORIES, "\n".join(lines))

    def _forget(self, label: str) -> str:
        id = self._ids.get(label)
        if id is None:
            return self._refuse("forget", label, "recall didn't give this id in this turn")
        erasure = self._handle.forget(id)
        self.uses.append(ToolUse("forget", label, (id,)))
        return f"Forgotten: {erasure.messages} messages, {erasure.memories} memories."

    def _is_asked(self, hit: Hit) -> bool:
        """Whether a hit is what the user has just said."""
        memory = hit.memory
        said_in = (memory.kind, memory.session, memory.message_ids)
        return said_in == ("episodic", self._asked.session, (self._asked.id,))

    def _label(self, id: str) -> str:
        for label, known in self._ids.items():
            if known == id:
                return label
        label = f"m{len(self._ids) + 1}"
        self._ids[label] = id
        return label

    def _refuse(self, name: ToolName, given: str, why: str) -> str:
        self.uses.append(ToolUse(name, given, refused=why))
        return f"Not done: {why}."


def _read(arguments: str | Mapping[str, Any] | None) -> Mapping[str, Any]:
    """A call's arguments; empty where they are no JSON object."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return {}
    return arguments if isinstance(arguments, Mapping) else {}


@cache
def _prompt(name: str) -> str:
    return (Path(__file__).parent / "prompts" / f"{name}.md").read_text("utf-8").strip()
