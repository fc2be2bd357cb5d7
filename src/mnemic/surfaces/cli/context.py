"""Commands around a prompt: context, sessions, timezone."""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from mnemic.surfaces.cli.app import (
    Db,
    InScope,
    Json,
    User,
    app,
    err,
    moment,
    out,
    safe,
    scoped,
    show_json,
)
from mnemic.surfaces.cli.keeping import standard_input

if TYPE_CHECKING:
    from mnemic.context.result import Context
    from mnemic.memory import ScopedMemory


class Form(Enum):
    """What the messages are printed as."""

    text = "text"
    openai = "openai"
    anthropic = "anthropic"


@app.command()
def context(
    query: Annotated[
        str, typer.Argument(help="What the user says now; - reads it from standard input.")
    ],
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    session: Annotated[
        str | None, typer.Option(help="The conversation that goes on: its summary and last turns.")
    ] = None,
    agent: Annotated[str | None, typer.Option(help="Whose instructions apply.")] = None,
    shared: Annotated[
        list[str] | None, typer.Option(help="A space whose instructions apply; repeatable.")
    ] = None,
    budget: Annotated[int, typer.Option(help="At most this many tokens (o200k).")] = 1500,
    prompt: Annotated[str, typer.Option(help="The system prompt.")] = "",
    at: Annotated[str | None, typer.Option(help="When the query is said. Default: now.")] = None,
    form: Annotated[
        Form, typer.Option("--format", help="A plain prompt, or JSON as these APIs take it.")
    ] = Form.text,
    as_json: Json = False,
) -> None:
    """Print what to send to a model: instructions, profile, session, what is remembered, the query.

    Example: mnemic context "plan my weekend" --user ana --budget 800 --format openai > messages.json
    """
    query = standard_input() if query == "-" else query
    with scoped(db, user, scope) as handle:
        made = handle.context(
            query,
            session=session,
            agent=agent,
            shared=shared or (),
            budget=budget,
            prompt=prompt,
            at=moment(at),
        )
    if as_json:
        show_json(_parts(made))
    elif form is Form.text:
        out.print(Text(safe(made.text)), soft_wrap=not out.is_terminal)
    else:
        show_json(made.messages if form is Form.openai else made.to_anthropic())
    if not as_json:
        _beside(made)


def _parts(made: Context) -> dict[str, Any]:
    names = ("query", "messages", "tokens", "budget", "dropped", "facts", "procedures", "summary")
    shown = {name: getattr(made, name) for name in names}
    hits = [{"score": hit.score, "memory": hit.memory} for hit in made.hits]
    timings = dict(made.timings_ms)
    return {**shown, "hits": hits, "turns": made.turns, "error": made.error, "timings_ms": timings}


def _beside(made: Context) -> None:
    """What it rests on, and what didn't fit, on the side."""
    parts = [
        (made.procedures, "instruction", "instructions"),
        (made.facts, "fact", "facts"),
        (made.turns, "turn", "turns"),
        (made.hits, "recalled memory", "recalled memories"),
    ]
    counts = [f"{len(some)} {one if len(some) == 1 else many}" for some, one, many in parts if some]
    if made.summary is not None:
        counts.append("a summary")
    held = ", ".join(counts) or "nothing remembered"
    err.print(f"{made.tokens} of {made.budget} tokens: {held}", style="dim")
    gone = Counter((dropped.part, dropped.reason) for dropped in made.dropped)
    for (part, reason), count in gone.most_common():
        err.print(safe(f"left out: {count} x {part}: {reason}"), style="dim")
    if made.error:
        err.print(safe(made.error), style="yellow")


@app.command()
def sessions(
    session: Annotated[
        str | None, typer.Argument(help="Show what was said last in this one.")
    ] = None,
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many.")] = 20,
    as_json: Json = False,
) -> None:
    """List conversations, the one last spoken in first; or show the end of one.

    Example: mnemic sessions s1 --user ana --limit 10
    """
    with scoped(db, user, scope) as handle:
        if session is None:
            _list(handle, limit, as_json)
        else:
            _end(handle, session, limit, as_json)


def _list(handle: ScopedMemory, limit: int, as_json: bool) -> None:
    found = handle.sessions(limit)
    if as_json:
        show_json(found)
        return
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("session", overflow="fold")
    table.add_column("begun", no_wrap=True)
    table.add_column("last spoken in", no_wrap=True)
    for each in found:
        begun, last = (f"{at:%Y-%m-%d %H:%M}Z" for at in (each.started_at, each.last_at))
        table.add_row(safe(each.name) or Text("(without a name)", "dim"), begun, last)
    out.print(table if found else "No sessions. `mnemic remember TEXT --session s1` makes one.")


def _end(handle: ScopedMemory, session: str, limit: int, as_json: bool) -> None:
    from mnemic.layers.episodic import EpisodicMemory

    said = EpisodicMemory(handle).recent(limit, in_session=session)
    if as_json:
        show_json(said)
        return
    for memory in said:
        who = f"{memory.said_at:%Y-%m-%d %H:%M}Z {safe(memory.speaker or memory.source)}: "
        out.print(Text.assemble((who, "bold"), safe(memory.text)))
    if not said:
        out.print(f"Nothing was said in {safe(session)}. `mnemic sessions` lists them.")


@app.command()
def timezone(
    name: Annotated[
        str | None, typer.Argument(help='A name such as "Europe/Lisbon", or "UTC".')
    ] = None,
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    as_json: Json = False,
) -> None:
    """Show in which time zone dates are meant, or set it: then "yesterday" is yesterday there.

    Example: mnemic timezone Europe/Lisbon --user ana
    """
    with scoped(db, user, scope, make=name is not None) as handle:
        if name is not None:
            handle.set_timezone(name)
        zone = handle.timezone()
    if as_json:
        show_json({"timezone": zone})
    else:
        out.print(safe(zone))
