"""`mnemic demo`: the shipped conversation, a dozen questions, and the evidence that comes back."""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.text import Text

from mnemic.demo import Conversation, LabelledQuestion, load_conversation
from mnemic.records import Recall
from mnemic.surfaces.cli.app import Db, Json, app, opened, out, show_json

if TYPE_CHECKING:
    from mnemic.memory import ScopedMemory

LIMIT = 10


@app.command()
def demo(
    db: Db = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Show all labelled questions, not a dozen.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Load a year's conversation of two friends, ask it a dozen questions, show the evidence.

    Works in a temporary file unless --db names one. Example: mnemic demo
    """
    talk = load_conversation()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        opened(db or str(Path(folder) / "demo.db"), make=True) as memory,
    ):
        handle = memory.user(talk.user)
        loaded = _load(handle, talk)
        asked = [_ask(handle, question) for question in talk.questions]
    shown = [row for row in asked if everything or row[0].demo]
    if as_json:
        found = {"shown": _found(shown), "all": _found(asked)}
        show_json({"loaded": loaded, "found": found, "questions": [row[2] for row in shown]})
        return
    out.print(
        f"[bold]{escape(talk.title)}[/]: {loaded['messages']} messages in {len(talk.sessions)} sessions"
        f" remembered in {loaded['seconds']:.1f} s, each on disk before its vector was made.\n",
        markup=True,
    )
    for row in shown:
        _render(*row)
    _summary(shown, asked)


def _load(handle: ScopedMemory, talk: Conversation) -> dict[str, Any]:
    from mnemic.surfaces.cli.progress import counting

    start, done = perf_counter(), 0
    total = sum(len(messages) for messages in talk.sessions.values())
    with counting("remembering", total) as advance:
        for session, messages in talk.sessions.items():
            handle.remember(messages, session=session)
            done += len(messages)
            advance(done)
    return {"messages": done, "seconds": round(perf_counter() - start, 3)}


Asked = tuple[LabelledQuestion, Recall, dict[str, Any]]


def _ask(handle: ScopedMemory, question: LabelledQuestion) -> Asked:
    start = perf_counter()
    found = handle.recall(question.question, limit=LIMIT, at=question.at)
    spent = (perf_counter() - start) * 1000
    places = {
        message: rank for rank, hit in enumerate(found, 1) for message in hit.memory.message_ids
    }
    answer = {
        "question": question.question,
        "at": question.at,
        "category": question.category,
        "answer": question.answer,
        "evidence": list(question.evidence),
        "found_at": {message: places.get(message) for message in question.evidence},
        "ms": round(spent, 2),
    }
    return question, found, answer


def _render(question: LabelledQuestion, found: Recall, answer: dict[str, Any]) -> None:
    out.print(
        f"[bold cyan]{escape(question.question)}[/]  [dim]asked {question.at[:10]}[/]", markup=True
    )
    if question.evidence:
        out.print(f"  answer    {question.answer}")
    else:
        says = "[yellow]never told[/]: what follows is only the nearest there is"
        out.print(f"  answer    {says}", markup=True)
    for rank, hit in enumerate(found, 1):
        memory = hit.memory
        proof = any(message in question.evidence for message in memory.message_ids)
        if not proof and rank > (1 if question.evidence else 2):
            continue
        mark = "[green]evidence[/]" if proof else "[dim]nearest [/]"
        line = Text(f"{memory.said_at:%Y-%m-%d} {memory.speaker}: {memory.text}")
        why = f" [dim]{hit.score:.1f} = {hit.why}[/]"
        out.print(f"  {mark}  {rank}. ", line, why, sep="", markup=True)
    missing = [message for message, rank in answer["found_at"].items() if rank is None]
    if missing:
        out.print(
            f"  [red]missed[/]    {', '.join(missing)}, not among the first {LIMIT}", markup=True
        )
    out.print(f"  [dim]{answer['ms']:.1f} ms[/]\n", markup=True)


def _found(asked: list[Asked]) -> dict[str, int]:
    """How many pieces of evidence are among the first `LIMIT`, of how many."""
    ranks = [rank for *_, answer in asked for rank in answer["found_at"].values()]
    return {"found": sum(rank is not None for rank in ranks), "of": len(ranks)}


def _summary(shown: list[Asked], asked: list[Asked]) -> None:
    some, every = _found(shown), _found(asked)
    times = sorted(answer["ms"] for *_, answer in asked[1:])
    out.print(
        f"Evidence among the first {LIMIT}: {some['found']} of {some['of']} pieces here,"
        f" {every['found']} of {every['of']} over all {len(asked)} labelled questions (--all shows"
        f" them). Median {times[len(times) // 2]:.1f} ms a question, its embedding included."
        " No key, no server, no model call."
    )
    out.print(
        'Next: mnemic remember "I moved to Lisbon."  then  mnemic recall "where do I live?"',
        style="dim",
        markup=False,
    )
