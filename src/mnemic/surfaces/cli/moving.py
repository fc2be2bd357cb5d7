"""Commands that move memories: import, export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnemic.errors import InputError
from mnemic.surfaces.cli.app import (
    DEFAULT_USER,
    Db,
    InScope,
    Json,
    User,
    app,
    err,
    handle_of,
    opened,
    out,
    scoped,
    show_json,
)

if TYPE_CHECKING:
    from mnemic.transfer.importing import ImportReport


class ImportFormat(StrEnum):
    """What `import` reads."""

    jsonl = "jsonl"
    openai = "openai"
    locomo = "locomo"
    longmemeval = "longmemeval"


class ExportFormat(StrEnum):
    """What `export` writes."""

    jsonl = "jsonl"
    openai = "openai"


@app.command("import")
def import_command(
    file: Annotated[
        Path, typer.Argument(help="The file; gzipped is fine; - reads standard input.")
    ],
    format: Annotated[ImportFormat, typer.Option("--format", "-f", help="What it is.")] = (
        ImportFormat.jsonl
    ),
    db: Db = None,
    user: Annotated[
        str | None,
        typer.Option(
            "--user", "-u", help="Whose it becomes. Default: as the file says, else MNEMIC_USER."
        ),
    ] = None,
    scope: InScope = None,
    as_json: Json = False,
) -> None:
    """Import messages. Broken off, run it again: what is there is skipped.

    Example: mnemic import locomo10.json --format locomo
    """
    from mnemic.settings import from_environment
    from mnemic.surfaces.cli.progress import counting
    from mnemic.transfer.importing import import_file

    fallback = from_environment().user or DEFAULT_USER
    with opened(db, make=True) as memory, counting("messages", None) as advance:

        def progress(report: ImportReport) -> None:
            advance(report.messages + report.there_already)

        report = import_file(
            memory,
            file,
            format.value,
            user=user,
            fallback_user=fallback,
            into=None if scope is None else handle_of(memory, user, scope),
            progress=progress,
        )
    if as_json:
        show_json(report)
        return
    users = report.users if len(report.users) <= 8 else [*report.users[:8], "..."]
    out.print(
        f"{report.messages:,} messages for {', '.join(users) or 'nobody'}:"
        f" {report.memories:,} memories{_others(report)}, {report.repeats:,} repeats;"
        f" {report.there_already:,} were there already"
    )


def _others(report: ImportReport) -> str:
    """What was imported besides messages."""
    kinds = ((report.facts, "facts"), (report.procedures, "instructions"))
    said = " and ".join(f"{number:,} {kind}" for number, kind in kinds if number)
    return f" ({said} among them)" if said else ""


@app.command("export")
def export_command(
    file: Annotated[
        Path | None, typer.Argument(help="Where to; standard output unless given.")
    ] = None,
    format: Annotated[ExportFormat, typer.Option("--format", "-f", help="As what.")] = (
        ExportFormat.jsonl
    ),
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    replace: Annotated[bool, typer.Option("--replace", help="An older file may be there.")] = False,
    as_json: Json = False,
) -> None:
    """Export a memory. The jsonl format keeps everything, and imports to the same.

    Example: mnemic export ana.jsonl --user ana
    """
    from mnemic.transfer.exporting import export_lines, export_openai
    from mnemic.transfer.files import check_free, written

    if file is not None and str(file) == "-":
        file = None
    if as_json and file is None:
        raise InputError("--json reports on a file; name one")
    if file is not None:
        check_free(file, replace)
    write = export_lines if format is ExportFormat.jsonl else export_openai
    with scoped(db, user, scope) as handle, written(file) as target:
        number = sum(1 for line in write(handle) if target.write(line + "\n"))
    if as_json:
        show_json({"file": str(file), "lines": number})
    else:
        err.print(f"{number:,} lines" + (f" to {file}" if file else ""), style="dim")
