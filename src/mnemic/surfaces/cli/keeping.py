"""Commands that change memory or look after the store, from remember to restore."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from mnemic.errors import InputError
from mnemic.records import Erasure, StoreStats
from mnemic.surfaces.cli.app import (
    Db,
    InScope,
    Json,
    User,
    app,
    err,
    moment,
    opened,
    out,
    safe,
    scoped,
    show_json,
)


@app.command()
def remember(
    text: Annotated[str, typer.Argument(help="What was said; - reads it from standard input.")],
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    session: Annotated[str | None, typer.Option(help="The session it was said in.")] = None,
    role: Annotated[str, typer.Option(help="user, assistant, system or tool.")] = "user",
    name: Annotated[str | None, typer.Option(help="Who said it.")] = None,
    at: Annotated[
        str | None,
        typer.Option(
            help="When it was said: 2023-05-08T13:56:00Z; without a zone, in the machine's own."
        ),
    ] = None,
    message_id: Annotated[
        str | None, typer.Option("--id", help="Your own id of the message, unique in its session.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag; repeatable.")] = None,
    as_json: Json = False,
) -> None:
    """Remember what was said. It is on disk when this returns.

    Example: mnemic remember "I moved to Lisbon." --user ana --name Ana
    """
    message: dict[str, Any] = {"role": role, "content": standard_input() if text == "-" else text}
    given = {"name": name, "said_at": moment(at), "id": message_id, "tags": tag}
    message |= {key: value for key, value in given.items() if value is not None}
    with scoped(db, user, scope, make=True) as handle:
        receipt = handle.remember(message, session=session)
    if as_json:
        show_json(receipt)
        return
    steps = ", ".join(f"{name} {ms:.1f} ms" for name, ms in receipt.timings_ms.items())
    out.print(f"{receipt.state}: {', '.join(receipt.memory_ids) or 'nothing new'}")
    for skipped in receipt.skipped:
        same = f" of {skipped.memory_id}" if skipped.memory_id else ""
        out.print(f"skipped: {skipped.reason}{same}", style="yellow")
    if receipt.error:
        err.print(receipt.error, style="yellow")
    out.print(steps, style="dim")


def standard_input() -> str:
    """All of standard input, as text."""
    if sys.stdin is None:
        raise InputError("standard input is closed; give the text as an argument")
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is not UTF-8 text: {error}") from None


@app.command()
def forget(
    id: Annotated[str | None, typer.Argument(help="A memory's id.")] = None,
    message_id: Annotated[
        str | None, typer.Option("--message-id", help="Your own id of a message.")
    ] = None,
    session: Annotated[
        str | None,
        typer.Option(help="A whole session; with --message-id, the session it is in."),
    ] = None,
    everything: Annotated[bool, typer.Option("--everything", help="All of this memory.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    as_json: Json = False,
) -> None:
    """Forget for good: text, vectors, terms, and the bytes in the files. It can't be undone.

    Example: mnemic forget --message-id D1:3 --user ana
    """
    asked = (id is not None, message_id is not None, everything)
    if sum(asked) > 1 or not (any(asked) or session is not None):
        raise InputError("name one thing to forget: an id, --message-id, --session or --everything")
    with scoped(db, user, scope) as handle:
        wide = everything or (session is not None and message_id is None and id is None)
        if wide and not yes and not _agreed(f"Forget {session or 'everything'} of {handle.scope}?"):
            err.print("nothing was forgotten")
            raise typer.Exit(1)
        if everything:
            erasure = handle.forget_everything()
        elif wide:
            erasure = handle.forget_session(session or "")
        else:
            erasure = handle.forget(id, message_id=message_id, session=session)
    if as_json:
        show_json(erasure)
        return
    out.print(erasure_line(erasure))


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise InputError(f"{question} Nobody is there to answer; add --yes")
    return typer.confirm(question)


def erasure_line(erasure: Erasure) -> str:
    """What an erasure did, for people."""
    if erasure.state == "absent":
        return "There was nothing to forget."
    counts = f"{erasure.messages} messages and {erasure.memories} memories are gone"
    if erasure.state == "clean":
        return f"clean: {counts}; no byte of them is left in the database's files."
    return (
        f"pending: {counts}; a reader holds the file, or a Redis is away; upkeep removes the bytes."
    )


@app.command()
def stats(db: Db = None, as_json: Json = False) -> None:
    """Count what the store holds: ids, states and numbers, never text.

    Example: mnemic stats --json
    """
    with opened(db) as memory:
        counted = memory.operator.stats()
    if as_json:
        show_json({**_plain(counted)})
        return
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("scope")
    for column in ("messages", "memories", "without vector", "version"):
        table.add_column(column, justify="right")
    for row in counted.scopes:
        numbers = (row.messages, row.memories, row.without_vector, row.version)
        table.add_row(safe(str(row.scope)), *(f"{number:,}" for number in numbers))
    if counted.scopes:
        out.print(table)
    out.print(f"{counted.messages:,} messages, {counted.memories:,} memories", style="bold")
    jobs = ", ".join(f"{kind} {number}" for kind, number in counted.jobs.items()) or "none"
    size = counted.bytes_on_disk / 1e6
    out.print(f"{counted.url}  {size:.1f} MB  schema {counted.schema}")
    out.print(f"embedder {counted.embedder or 'not chosen yet'}; jobs waiting: {jobs}")


def _plain(counted: StoreStats) -> dict[str, Any]:
    return {
        "url": counted.url,
        "schema": counted.schema,
        "embedder": counted.embedder,
        "bytes_on_disk": counted.bytes_on_disk,
        "messages": counted.messages,
        "memories": counted.memories,
        "jobs": dict(counted.jobs),
        "scopes": [{**vars_of(row), "scope": str(row.scope)} for row in counted.scopes],
    }


def vars_of(row: Any) -> dict[str, Any]:
    """The fields of a record with slots."""
    return {name: getattr(row, name) for name in row.__slots__}


@app.command()
def doctor(
    db: Db = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Also mend what can be, and finish what was left undone."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Check the store, the model and what is left undone; exit code 1 where something is wrong.

    Example: mnemic doctor --repair
    """
    from mnemic.surfaces.cli.progress import counting

    done: list[str] = []
    with opened(db) as memory:
        if repair:
            with counting("mended", None) as advance:
                done = memory.operator.repair(advance)
        findings = memory.operator.check()
    if as_json:
        show_json([{"check": f.check, "ok": f.ok, "says": f.says} for f in findings])
    for line in () if as_json else done:
        out.print(f"mended: {line}", soft_wrap=True)
    for finding in () if as_json else findings:
        mark = ("ok   ", "green") if finding.ok else ("wrong", "red")
        says = Text.assemble(mark, f"  {finding.check:<12}{safe(finding.says)}")
        out.print(says, soft_wrap=True)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command()
def reembed(db: Db = None, as_json: Json = False) -> None:
    """Move the store to the embedder that the settings name; interrupted, run it again.

    Example: MNEMIC_EMBEDDER_URL=http://localhost:8080/v1 MNEMIC_EMBEDDER_MODEL=bge mnemic reembed
    """
    from mnemic.surfaces.cli.progress import counting

    with opened(db) as memory:
        total = memory.operator.stats().memories
        with counting("vectors", total) as advance:
            made = memory.operator.reembed(advance)
        name = memory.operator.stats().embedder
    if as_json:
        show_json({"vectors_made": made, "embedder": name})
    else:
        out.print(f"{made:,} vectors made; the store's embedder is {name}")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="Where the copy goes; nothing may be there.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="An older backup may be there.")
    ] = False,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Copy the whole store to a file, while others go on writing. The copy is a store like any other.

    Example: mnemic backup monday.db
    """
    from mnemic.surfaces.cli.progress import counting

    with opened(db) as memory, counting("bytes", None) as advance:
        made = memory.operator.backup(file, lambda size, _of: advance(size), replace=replace)
    if as_json:
        show_json(made)
    else:
        out.print(f"{made.bytes / 1e6:.1f} MB are in {made.path}", soft_wrap=True)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A backup.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="What is there now is replaced by the backup.")
    ] = False,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Put a backup in place. Whoever has the store open goes on with what was restored.

    What was forgotten after the backup was taken is back: forget it again.

    Example: mnemic restore monday.db --replace
    """
    from mnemic.memory import Memory

    done = Memory.restore(file, db, replace=replace)
    if as_json:
        show_json(done)
        return
    counts = f"{done.messages:,} messages and {done.memories:,} memories"
    out.print(f"{counts} are in {done.path}", soft_wrap=True)
    if done.set_aside is not None:
        err.print(f"what was there can't be read, and is now {done.set_aside}")
