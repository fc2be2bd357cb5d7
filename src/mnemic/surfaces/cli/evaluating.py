"""`mnemic eval`: run the measures on labelled data, and show what they say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer
from rich.table import Table

from mnemic.errors import InputError
from mnemic.settings import cache_folder
from mnemic.surfaces.cli.app import Json, app, err, out, safe, show_json

evaluate = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
)
app.add_typer(evaluate, name="eval")


@evaluate.callback()
def run_all(
    context: typer.Context,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data", metavar="FORMAT=PATH", help="Labelled data of your own; repeatable."
        ),
    ] = None,
    everything: Annotated[
        Path | None,
        typer.Option("--all", metavar="FOLDER", help="A folder of benchmarks, each in its own."),
    ] = None,
    folder: Annotated[
        Path, typer.Option("--out", help="Where rows and report go; a run there is gone on with.")
    ] = Path("mnemic-eval"),
    most: Annotated[
        int | None, typer.Option("--conversations", min=1, help="Only so many of each data set.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes. Default: one a core.")
    ] = None,
    contexts: Annotated[
        bool, typer.Option(help="Assemble contexts too: coverage by tokens; most of the time.")
    ] = True,
    reader: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A model that answers with memory and without: openai:gpt-4.1-mini, or its name at"
            " --reader-url.",
        ),
    ] = None,
    reader_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="An OpenAI-compatible server. Else MNEMIC_MODEL_URL."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A model that says which answers are right. Default: the right words are looked for.",
        ),
    ] = None,
    judge_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where the judge is served. Else MNEMIC_MODEL_URL."),
    ] = None,
    read_most: Annotated[
        int, typer.Option(min=1, metavar="N", help="At most so many questions go to the reader.")
    ] = 100,
    as_json: Json = False,
) -> None:
    """Ask labelled questions of filled stores, by Mnemic and by simpler ways, and compare.

    The six measures of the guide, and retrieval beside baselines. Without data it runs on the
    conversations that ship. Formats: jsonl, locomo, longmemeval, beam,
    precisionmembench, factconsolidation. What was done is kept, so a run that broke off goes on.
    No model is asked unless a --reader is named; its key is read from MNEMIC_MODEL_KEY, or the
    provider's own variable.
    Example: mnemic eval --data locomo=locomo10.json && mnemic eval report
    """
    if context.invoked_subcommand is not None:
        return
    from mnemic.evaluation import freshness, reading, run, summary

    sets = [run.data_of(text) for text in data or ()]
    if everything is not None:
        sets += run.find_data(everything)
    if not sets or everything is not None:
        sets.insert(0, run.Data(run.SHIPPED))
    plan = run.Plan(
        tuple(sets),
        folder,
        cache_folder(),
        most=most,
        contexts=contexts,
        models=reading.choose_models(reader, reader_url, judge, judge_url),
        read_most=read_most,
    )
    if workers is not None:
        plan = replace(plan, workers=workers)
    rows = _with_progress(plan)
    report = summary.summarise(rows, freshness.measure())
    path = folder / "report.json"
    path.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", "utf-8")
    if as_json:
        show_json(report)
        return
    show(report)
    out.print(f"\n{path} holds all figures; for a page with plots: mnemic eval report {path}")


def _with_progress(plan: Any) -> list[dict[str, Any]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from mnemic.evaluation import run

    if not err.is_terminal:
        return run.run(plan, _lines())
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=err) as bars:
        tasks: dict[str, Any] = {}

        def progress(name: str, done: int, of: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=of)
            bars.update(tasks[name], completed=done)

        return run.run(plan, progress)


def _lines() -> Callable[[str, int, int], None]:
    """Tell of each tenth that is done in a line, for a log."""
    start = perf_counter()

    def progress(name: str, done: int, of: int) -> None:
        if done * 10 // of > (done - 1) * 10 // of:
            seconds = perf_counter() - start
            err.print(safe(f"{name}: {done} of {of} ({seconds:,.0f} s)"), soft_wrap=True)

    return progress


def show(report: dict[str, Any]) -> None:
    """Print the tables."""
    from mnemic.evaluation import tables

    for table in tables.tables_of(report):
        shown = Table(title=table.title, title_justify="left", show_edge=False, pad_edge=False)
        for number, head in enumerate(table.head):
            shown.add_column(head, justify="right" if number and table.figures else "left")
        for row in table.rows:
            shown.add_row(*map(safe, row))
        out.print(shown)
        out.print()


@evaluate.command()
def report(
    file: Annotated[Path, typer.Argument(help="The report.json of a run.")] = Path(
        "mnemic-eval/report.json"
    ),
    folder: Annotated[
        Path | None, typer.Option("--out", help="Where to write. Default: beside the file.")
    ] = None,
) -> None:
    """Write a run's page (one HTML file that needs nothing else) and its plots (PNG).

    Example: mnemic eval report mnemic-eval/report.json
    """
    try:
        figures = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"can't read {file}: {error}; `mnemic eval` writes it") from None
    if not isinstance(figures, dict) or "data" not in figures:
        raise InputError(f"{file} is no report of `mnemic eval`")
    from mnemic.evaluation.report import write_report

    for path in write_report(figures, folder or file.parent):
        out.print(str(path))
