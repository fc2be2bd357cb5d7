"""How `mnemic chat` shows answers, and what they rest on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from mnemic.surfaces.cli.app import err, out, safe

if TYPE_CHECKING:
    from mnemic.agent import Reply
    from mnemic.context.result import Context
    from mnemic.records import Hit, MemoryRecord

LONG = 400
# So much of a word that doesn't end is shown: some scripts have no spaces.
LONG_WORD = 24


def about(memory: MemoryRecord) -> str:
    """When a memory was said, by whom, and how sure it is."""
    sure = "" if memory.confidence == 1.0 else f", {memory.confidence:.0%} sure"
    return f"{memory.said_at:%Y-%m-%d}, {memory.speaker or memory.source}{sure}"


def evidence(hits: Sequence[Hit], nothing: str = "Nothing is remembered of that.") -> None:
    """Memories, best first: each with its day and who said it; below that why it was found, and its id."""
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for number, hit in enumerate(hits, 1):
        memory = hit.memory
        who = safe(f"{memory.said_at:%Y-%m-%d} {memory.speaker or memory.source}: ")
        why = f" = {hit.why}" if hit.why else ""  # the only one there is outdoes no other
        found = safe(f"{hit.score:.1f}{why}\n{memory.id}")
        words = Text.assemble((who, "bold"), safe(_short(memory.text)), ("\n" + found, "dim"))
        table.add_row(f"{number}.", words)
    if hits:
        out.print(table)
    else:
        out.print(nothing, style="dim")


def beside(reply: Reply) -> None:
    """What else the model had, and what it did to memory by itself."""
    handed = reply.context
    parts = [
        (len(handed.turns), "turns of this session"),
        (len(handed.facts), "facts"),
        (len(handed.procedures), "instructions"),
        (int(handed.summary is not None), "summary"),
    ]
    said = ", ".join(f"{count} {name}" for count, name in parts if count)
    if said:
        out.print(f"beside them: {said}", style="dim")
    _uses(reply)


def summary(reply: Reply) -> None:
    """A line below an answer: what it rests on, and what it cost."""
    handed, stats = reply.context, reply.stats
    memories = f"{len(handed.hits)} {'memory' if len(handed.hits) == 1 else 'memories'} recalled"
    parts = [memories, f"{handed.tokens} of {handed.budget} tokens"]
    if stats is not None:
        parts.append(f"{stats.duration_ms / 1000:.1f} s")
    _uses(reply)
    if not reply.text.strip():
        out.print("(the model said nothing)", style="yellow")
    out.print(" · ".join(parts), style="dim")
    for error in (handed.error, reply.error):
        if error:
            err.print(safe(error), style="yellow")


def context(handed: Context) -> None:
    """What was sent, message by message, and what didn't fit."""
    for message in handed.messages:
        content = message.get("content")
        text = content if isinstance(content, str) else str(content or "")
        calls = "".join(
            f" [calls {c['function']['name']}]" for c in message.get("tool_calls") or ()
        )
        out.print(Text.assemble((f"{message['role']}{calls}", "bold cyan")))
        out.print(Text(safe(text)), soft_wrap=not out.is_terminal)
    out.print(
        f"{handed.tokens} of {handed.budget} tokens; {len(handed.hits)} recalled memories,"
        f" {len(handed.turns)} turns, {len(handed.facts)} facts",
        style="dim",
    )
    gone = Counter((dropped.part, dropped.reason) for dropped in handed.dropped)
    for (part, reason), count in gone.most_common():
        out.print(safe(f"left out: {count} x {part}: {reason}"), style="dim")


def stream(pieces: Iterable[str], waiting: str) -> None:
    """Print an answer as it comes, in lines of whole words where a terminal shows it."""
    lines = _Lines(out.width if out.is_terminal else None)
    coming = iter(pieces)
    with out.status(waiting, spinner="dots"):
        first = next(coming, "")
    try:
        lines.put(first)
        for piece in coming:
            lines.put(piece)
    finally:
        lines.end()


class _Lines:
    """Breaks lines at spaces as text comes; a word is shown when it has ended."""

    def __init__(self, width: int | None) -> None:
        self._width = width
        self._column = 0
        self._word = ""

    def put(self, text: str) -> None:
        for character in safe(text):
            if character in " \n":
                self._flush()
                self._space(character)
            else:
                self._word += character
                if len(self._word) >= LONG_WORD:
                    self._flush()
        if self._width is None:
            self._flush()

    def end(self) -> None:
        self._flush()
        out.print()

    def _space(self, character: str) -> None:
        self._column = 0 if character == "\n" else self._column + 1
        self._write(character)

    def _flush(self) -> None:
        size = cell_len(self._word)
        if self._width is not None and self._column and self._column + size >= self._width:
            self._write("\n")
            self._column = 0
        self._write(self._word)
        self._column += size
        self._word = ""

    def _write(self, text: str) -> None:
        if text:
            out.file.write(text)
            out.file.flush()


def _uses(reply: Reply) -> None:
    verbs = {"remember": "noted", "recall": "looked up", "forget": "forgot"}
    for use in reply.tools:
        done = f"{verbs[use.name]}: {use.given}"
        out.print(safe(f"{done} (refused: {use.refused})" if use.refused else done), style="dim")


def _short(text: str) -> str:
    return text if len(text) <= LONG else f"{text[:LONG]} [...]"
