"""Commands that move memories: import, export."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TextIO

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
    file: Annotated[Path, typer.Argument(help="The file; gzipped is fine.")],
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
    from mnemic.transfer.importing import ImportReport, import_file

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
        f" {report.memories:,} memories, {report.repeats:,} repeats;"
        f" {report.there_already:,} messages were there already"
    )


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
    as_json: Json = False,
) -> None:
    """Export a memory. The jsonl format keeps everything, and imports to the same.

    Example: mnemic export ana.jsonl --user ana
    """
    from mnemic.transfer.exporting import export_lines, export_openai

    if as_json and file is None:
        raise InputError("--json reports on a file; name one")
    write = export_lines if format is ExportFormat.jsonl else export_openai
    with scoped(db, user, scope) as handle:
        target: TextIO = sys.stdout if file is None else _create(file)
        try:
            number = sum(1 for line in write(handle) if target.write(line + "\n"))
        finally:
            if file is not None:
                target.close()
    if as_json:
        show_json({"file": str(file), "lines": number})
    else:
        err.print(f"{number:,} lines" + (f" to {file}" if file else ""), style="dim", markup=False)


def _create(file: Path) -> TextIO:
    try:
        return file.open("w", encoding="utf-8")
    except OSError as error:
        raise InputError(f"can't write {file}: {error.strerror or error}") from None
