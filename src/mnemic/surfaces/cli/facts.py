"""Commands for facts: mnemic facts remember, recall, list, profile, forget."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from mnemic.records import MemoryRecord
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
from mnemic.surfaces.cli.asking import hit_table
from mnemic.surfaces.cli.keeping import erasure_line, standard_input

facts = typer.Typer(
    name="facts",
    help="Facts: what is so, with confidence, times and the messages that say it.\n\n"
    'Example: mnemic facts remember "Ana lives in Lisbon." --confidence 0.9',
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(facts)


@facts.command()
def remember(
    text: Annotated[str, typer.Argument(help="A sentence or two; - reads it from standard input.")],
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    confidence: Annotated[float, typer.Option(help="How sure it is, from 0 to 1.")] = 1.0,
    importance: Annotated[
        float, typer.Option(help="What it weighs in a profile, from 0 to 1.")
    ] = 0.5,
    at: Annotated[str | None, typer.Option(help="When it was learned. Default: now.")] = None,
    valid_from: Annotated[str | None, typer.Option(help="Since when it holds.")] = None,
    valid_to: Annotated[str | None, typer.Option(help="Until when it holds.")] = None,
    message_id: Annotated[
        list[str] | None,
        typer.Option("--message-id", help="Your id of a message that says it; repeatable."),
    ] = None,
    session: Annotated[str | None, typer.Option(help="The session of those messages.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag; repeatable.")] = None,
    pin: Annotated[bool, typer.Option("--pin", help="Let it lead the profile.")] = False,
    as_json: Json = False,
) -> None:
    """Remember a fact; the same again makes no second one. It is on disk when this returns.

    Example: mnemic facts remember "Ana lives in Lisbon." --user ana --valid-from 2023-05-08
    """
    text = standard_input() if text == "-" else text
    given: dict[str, Any] = {
        "said_at": moment(at),
        "valid_from": moment(valid_from),
        "valid_to": moment(valid_to),
        "message_ids": message_id,
        "session": session,
        "tags": tag,
    }
    given = {name: value for name, value in given.items() if value is not None}
    with scoped(db, user, scope, make=True) as handle:
        fact = handle.facts.remember(
            text, confidence=confidence, importance=importance, pinned=pin, **given
        )
    if as_json:
        show_json(fact)
    else:
        out.print(fact.id)


@facts.command()
def recall(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many.")] = 10,
    as_json: Json = False,
) -> None:
    """Ask for facts: the best first, with their scores and why.

    Example: mnemic facts recall "where does Ana live?" --user ana
    """
    with scoped(db, user, scope) as handle:
        found = handle.facts.recall(question, limit=limit)
    if as_json:
        show_json([{"score": hit.score, "memory": hit.memory} for hit in found])
    elif found:
        out.print(hit_table(found))
    else:
        out.print(_NONE)
    if found.error and not as_json:
        err.print(found.error, style="yellow")


@facts.command("list")
def list_facts(
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many.")] = 50,
    as_json: Json = False,
) -> None:
    """List facts in the order in which they were recorded, those that no longer hold too.

    Example: mnemic facts list --user ana --limit 20
    """
    with scoped(db, user, scope) as handle:
        records = list(islice(handle.facts.iter_facts(), limit + 1))
    _show(records[:limit], as_json)
    if len(records) > limit and not as_json:
        err.print(f"more than {limit}; --limit shows more", style="dim")


@facts.command()
def profile(
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many.")] = 20,
    as_json: Json = False,
) -> None:
    """Show the facts that hold now, the most important first, as a prompt is given them.

    Example: mnemic facts profile --user ana
    """
    with scoped(db, user, scope) as handle:
        records = handle.facts.profile(limit)
    _show(records, as_json)


@facts.command()
def forget(
    id: Annotated[str, typer.Argument(help="A fact's id, as `list` shows it.")],
    keep_messages: Annotated[
        bool, typer.Option("--keep-messages", help="Not the messages that say it.")
    ] = False,
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    as_json: Json = False,
) -> None:
    """Forget a fact for good, with every message that says it. It can't be undone.

    Example: mnemic facts forget 019a6f0c-... --keep-messages --user ana
    """
    with scoped(db, user, scope) as handle:
        erasure = handle.facts.forget(id, keep_messages=keep_messages)
    if as_json:
        show_json(erasure)
    else:
        out.print(erasure_line(erasure))


_NONE = "No facts. `mnemic facts remember TEXT` makes one."


def _show(records: list[MemoryRecord], as_json: bool) -> None:
    if as_json:
        show_json(records)
        return
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("id", no_wrap=True)
    table.add_column("sure", justify="right", no_wrap=True)
    table.add_column("fact", overflow="fold")
    table.add_column("holds", style="dim")
    for record in records:
        pinned = "* " if record.pinned else ""
        words = Text(pinned + safe(record.text))
        table.add_row(record.id, f"{record.confidence:.2f}", words, record.holds)
    out.print(table if records else _NONE)
