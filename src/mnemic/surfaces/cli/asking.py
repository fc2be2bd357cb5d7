"""Commands that ask: recall, list, show, history."""

from __future__ import annotations

import json
from itertools import islice
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from mnemic.errors import InputError
from mnemic.records import MemoryRecord, Recall
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


@app.command()
def recall(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="At most this many memories.")
    ] = 10,
    budget: Annotated[
        int | None, typer.Option(help="At most this many tokens of text (o200k).")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(help='When the question is asked; anchors "last May". Default: now.'),
    ] = None,
    since: Annotated[str | None, typer.Option(help="Only what was said from then on.")] = None,
    until: Annotated[str | None, typer.Option(help="Only what was said before then.")] = None,
    session: Annotated[str | None, typer.Option(help="Only what was said in this session.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only with this tag; repeatable.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Only with metadata key=text, or key:=json (page:=3); repeatable."),
    ] = None,
    diversity: Annotated[float, typer.Option(help="0 to 1: prefer hits that differ.")] = 0.0,
    min_relevance: Annotated[
        float | None,
        typer.Option(help="0 to 1: leave out what is less likely to answer; 0 shows all."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask for memories: the best first, with their scores and why.

    Example: mnemic recall "where does Ana live?" --user ana --limit 5
    """
    with scoped(db, user, scope) as handle:
        found = handle.recall(
            question,
            limit=limit,
            budget=budget,
            at=moment(at),
            since=moment(since),
            until=moment(until),
            in_session=session,
            tags=tag or (),
            where=_pairs(where or []),
            diversity=diversity,
            min_relevance=min_relevance,
        )
    if as_json:
        show_json(
            {
                "query": found.query,
                "hits": [
                    {
                        "score": hit.score,
                        "relevance": hit.relevance,
                        "channels": dict(hit.channels),
                        "memory": hit.memory,
                    }
                    for hit in found
                ],
                "tokens": found.tokens,
                "error": found.error,
                "time_phrases": found.time_phrases,
                "timings_ms": dict(found.timings_ms),
            }
        )
    elif not found:
        out.print(
            "Nothing here answers that. --min-relevance 0 shows the nearest there is; `mnemic stats`,"
            " whose memory holds what."
        )
    else:
        out.print(hit_table(found))
        spent = sum(found.timings_ms.values())
        steps = ", ".join(f"{name} {ms:.1f}" for name, ms in found.timings_ms.items())
        if found.error:
            err.print(found.error, style="yellow")
        noun = "memory" if len(found) == 1 else "memories"
        out.print(f"{len(found)} {noun} in {spent:.1f} ms ({steps})", style="dim")


def hit_table(found: Recall) -> Table:
    """Hits as a table: how likely each answers, when and who, what, why."""
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("match", justify="right", no_wrap=True)
    table.add_column("said", no_wrap=True)
    table.add_column("memory", ratio=3, overflow="fold")
    table.add_column("why", ratio=2, style="dim")
    for hit in found:
        memory = hit.memory
        table.add_row(
            f"{hit.relevance:.2f}",
            f"{memory.said_at:%Y-%m-%d}",
            Text.assemble(
                (f"{safe(memory.speaker or memory.source)}: ", "bold"),
                safe(memory.text),
                (f"\n{memory.id}", "dim"),
            ),
            safe(hit.why),
        )
    return table


@app.command("list")
def list_memories(
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many.")] = 50,
    as_json: Json = False,
) -> None:
    """List memories in the order in which they were recorded.

    Example: mnemic list --user ana --limit 20
    """
    with scoped(db, user, scope) as handle:
        records = list(islice(handle.iter_memories(), limit + 1))
    more, records = len(records) > limit, records[:limit]
    if as_json:
        show_json(records)
        return
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("id", no_wrap=True)
    table.add_column("said", no_wrap=True)
    table.add_column("memory", overflow="fold")
    for record in records:
        said_by = f"{safe(record.speaker or record.source)}: "
        text = Text.assemble((said_by, "bold"), safe(record.text))
        table.add_row(record.id, f"{record.said_at:%Y-%m-%d}", text)
    out.print(table if records else "No memories yet. `mnemic remember TEXT` makes one.")
    if more:
        err.print(f"more than {limit}; --limit shows more", style="dim")


@app.command()
def show(
    id: Annotated[str, typer.Argument(help="A memory's id, as `list` shows it.")],
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    as_json: Json = False,
) -> None:
    """Show one memory with everything that is known of it.

    Example: mnemic show 019a6f0c-... --user ana
    """
    with scoped(db, user, scope) as handle:
        record = handle.get(id)
        if record is None:
            raise InputError(f"{handle.scope} has no memory {id}; `mnemic list` shows the ids")
    if as_json:
        show_json(record)
        return
    for name in MemoryRecord.__slots__:
        value = getattr(record, name)
        if value not in (None, (), {}):
            out.print(Text.assemble((f"{name:>13}  ", "bold"), safe(str(value))))


@app.command()
def history(
    id: Annotated[str, typer.Argument(help="A memory's id; also of a forgotten one.")],
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    as_json: Json = False,
) -> None:
    """Show what happened to a memory, oldest first. It holds no text.

    Example: mnemic history 019a6f0c-... --user ana
    """
    with scoped(db, user, scope) as handle:
        changes = handle.history(id)
    if as_json:
        show_json(changes)
        return
    if not changes:
        out.print("No history: this memory was never here.")
    for change in changes:
        out.print(f"{change.at:%Y-%m-%d %H:%M:%S}Z  #{change.seq:<6} {change.action}")


def _pairs(texts: list[str]) -> dict[str, Any]:
    """`key=text`, or `key:=json` for what isn't text: `page:=3`, `done:=true`."""
    pairs: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.rstrip(":"):
            raise InputError(f"--where takes key=value, or key:=json, not {text!r}")
        if not key.endswith(":"):
            pairs[key] = value
            continue
        try:
            pairs[key[:-1]] = json.loads(value)
        except (ValueError, RecursionError):
            raise InputError(f"{value!r} in --where {text!r} is no JSON") from None
    return pairs
