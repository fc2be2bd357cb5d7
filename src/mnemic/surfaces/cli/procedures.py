"""Commands for instructions: mnemic procedures list, show, remember, revise and so on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from mnemic.errors import InputError
from mnemic.records import Procedure, ProcedureMode
from mnemic.surfaces.cli.app import (
    Db,
    InScope,
    Json,
    User,
    app,
    err,
    out,
    plain,
    safe,
    scoped,
    show_json,
)
from mnemic.surfaces.cli.keeping import erasure_line, standard_input

procedures = typer.Typer(
    name="procedures",
    help="Instructions: versioned, put in force, taken out, learned from feedback.\n\n"
    "Example: mnemic procedures list --scope agent:support",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(procedures)


class Mode(StrEnum):
    """When an instruction is shown."""

    always = "always"
    relevant = "relevant"


Name = Annotated[str, typer.Argument(help="The instruction's name.")]
Words = Annotated[str, typer.Argument(help="What to do; - reads it from standard input.")]
Proposal = Annotated[
    str, typer.Argument(help="A proposal's id, or the name of an instruction that has one.")
]


@procedures.command("list")
def list_procedures(
    question: Annotated[
        str | None,
        typer.Option("--for", help="Only what a prompt for this question should hold, in order."),
    ] = None,
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    as_json: Json = False,
) -> None:
    """List the instructions that are in force or disabled.

    Example: mnemic procedures list --scope agent:support --for "where is my parcel?"
    """
    with scoped(db, user, scope) as handle:
        rules = handle.procedures
        found = list(rules.iter_procedures()) if question is None else rules.active(question)
    if as_json:
        show_json(found)
    elif not found:
        out.print("No instructions. `mnemic procedures remember NAME TEXT` makes one.")
    else:
        out.print(_table(found))


@procedures.command()
def show(
    name: Name,
    version: Annotated[
        int | None, typer.Option(help="This version; the one in force unless given.")
    ] = None,
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    as_json: Json = False,
) -> None:
    """Show an instruction with its words, and all its versions with their reasons.

    Example: mnemic procedures show tone --version 2
    """
    with scoped(db, user, scope) as handle:
        history = handle.procedures.history(name)
        found = handle.procedures.get(name, version)
        if not history or (version is not None and found is None):
            what = f"instruction {name!r}" if not history else f"version {version} of {name!r}"
            raise InputError(f"{handle.scope} has no {what}; `mnemic procedures list` names them")
    if as_json:
        show_json({"procedure": found, "history": history})
        return
    if found is not None:
        _print_whole(found)
        out.print()
    for each in history:
        reason = f"  {safe(each.reason)}" if each.reason else ""
        out.print(
            f"{each.recorded_at:%Y-%m-%d %H:%M}Z  version {each.version}  {each.status}"
            f"  by {each.author}{reason}"
        )


@procedures.command()
def remember(
    name: Name,
    text: Words,
    mode: Annotated[Mode, typer.Option(help="When it is shown.")] = Mode.always,
    reason: Annotated[str | None, typer.Option(help="Why.")] = None,
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    as_json: Json = False,
) -> None:
    """Put a new instruction in force.

    Example: mnemic procedures remember tone "Be brief and kind." --scope agent:support
    """
    with scoped(db, user, scope, make=True) as handle:
        made = handle.procedures.remember(name, _words(text), mode=_mode(mode), reason=reason)
    _print(made, as_json)


@procedures.command()
def revise(
    name: Name,
    text: Words,
    reason: Annotated[str, typer.Option(help="Why.")],
    mode: Annotated[Mode | None, typer.Option(help="When it is shown; as before.")] = None,
    expected: Annotated[
        int | None, typer.Option(help="Only where this version is in force.")
    ] = None,
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    as_json: Json = False,
) -> None:
    """Put other words in force, as a new version.

    Example: mnemic procedures revise tone "Be kind." --reason "it was curt"
    """
    with scoped(db, user, scope) as handle:
        made = handle.procedures.revise(
            name,
            _words(text),
            reason=reason,
            mode=None if mode is None else _mode(mode),
            expected=expected,
        )
    _print(made, as_json)


@procedures.command("roll-back")
def roll_back(
    name: Name,
    to: Annotated[int, typer.Option(help="The version whose words are to be in force again.")],
    reason: Annotated[str | None, typer.Option(help="Why.")] = None,
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    as_json: Json = False,
) -> None:
    """Put the words of an older version in force again, as a new version.

    Example: mnemic procedures roll-back tone --to 1
    """
    with scoped(db, user, scope) as handle:
        made = handle.procedures.roll_back(name, to, reason=reason)
    _print(made, as_json)


@procedures.command()
def enable(
    name: Name, db: Db = None, user: User = None, scope: InScope = None, as_json: Json = False
) -> None:
    """Put a disabled instruction in force again.

    Example: mnemic procedures enable tone
    """
    with scoped(db, user, scope) as handle:
        made = handle.procedures.enable(name)
    _print(made, as_json)


@procedures.command()
def disable(
    name: Name, db: Db = None, user: User = None, scope: InScope = None, as_json: Json = False
) -> None:
    """Take an instruction out of force until it is enabled again.

    Example: mnemic procedures disable tone
    """
    with scoped(db, user, scope) as handle:
        made = handle.procedures.disable(name)
    _print(made, as_json)


@procedures.command()
def load(
    file: Annotated[Path, typer.Argument(help="Markdown with an instruction a ## heading.")],
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    as_json: Json = False,
) -> None:
    """Take over the instructions of a file. Run it again: only what changed is a new version.

    Example: mnemic procedures load AGENTS.md --scope agent:support
    """
    with scoped(db, user, scope, make=True) as handle:
        loaded = handle.procedures.load(file)
    if as_json:
        show_json(loaded)
        return
    counts = f"{len(loaded.made)} new, {len(loaded.revised)} revised"
    out.print(f"{counts}, {len(loaded.unchanged)} as they were")


@procedures.command()
def learn(
    feedback: Annotated[str, typer.Argument(help="What to do differently; - reads it.")],
    name: Annotated[str, typer.Option(help="The instruction that it concerns.")] = "learned",
    model: Annotated[
        str | None,
        typer.Option(help="A model that rewrites the instruction, such as openai:gpt-4.1-mini."),
    ] = None,
    approve: Annotated[
        bool, typer.Option("--approve", help="Put it in force at once, without waiting.")
    ] = False,
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    as_json: Json = False,
) -> None:
    """Propose a revision that does what some feedback asks for. It waits for approval.

    Example: mnemic procedures learn "Never use emoji." --name tone
    """
    with scoped(db, user, scope, make=True) as handle:
        words = _words(feedback)
        made = handle.procedures.learn(words, name=name, model=model, approve=approve)
    _print(made, as_json)
    if model is not None and made.author != "model":
        err.print("the model gave nothing usable; the words were added as they are", style="yellow")


@procedures.command()
def proposals(
    db: Db = None, user: User = None, scope: InScope = None, as_json: Json = False
) -> None:
    """List the revisions that wait for approval, oldest first.

    Example: mnemic procedures proposals
    """
    with scoped(db, user, scope) as handle:
        found = handle.procedures.proposals()
    if as_json:
        show_json(found)
        return
    if not found:
        out.print("Nothing waits for approval.")
    for each in found:
        _print_whole(each)
        out.print()


@procedures.command()
def approve(
    proposal: Proposal,
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    as_json: Json = False,
) -> None:
    """Put a proposal in force.

    Example: mnemic procedures approve tone
    """
    with scoped(db, user, scope) as handle:
        made = handle.procedures.approve(proposal)
    _print(made, as_json)


@procedures.command()
def reject(
    proposal: Proposal,
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    as_json: Json = False,
) -> None:
    """Turn a proposal down.

    Example: mnemic procedures reject tone
    """
    with scoped(db, user, scope) as handle:
        made = handle.procedures.reject(proposal)
    _print(made, as_json)


@procedures.command()
def forget(
    name: Name, db: Db = None, user: User = None, scope: InScope = None, as_json: Json = False
) -> None:
    """Erase every version of an instruction, from the files too. It can't be undone.

    Example: mnemic procedures forget tone
    """
    with scoped(db, user, scope) as handle:
        erasure = handle.procedures.forget(name)
    if as_json:
        show_json(erasure)
    else:
        out.print(erasure_line(erasure))


@procedures.command("export")
def export_command(
    file: Annotated[Path, typer.Argument(help="Where to: JSON lines in OpenAI's chat format.")],
    turns: Annotated[
        int, typer.Option(min=1, help="At most this many messages before each reply.")
    ] = 20,
    replace: Annotated[bool, typer.Option("--replace", help="An older file may be there.")] = False,
    db: Db = None,
    user: User = None,
    scope: InScope = None,
    as_json: Json = False,
) -> None:
    """Export approved behaviour for fine-tuning: examples, and replies tagged "approved".

    Example: mnemic procedures export approved.jsonl --scope agent:support
    """
    from mnemic.transfer.finetuning import export_finetuning

    with scoped(db, user, scope) as handle:
        report = export_finetuning(handle, file, turns=turns, replace=replace)
    if as_json:
        show_json({"file": str(file), **plain(report)})
        return
    out.print(f"{report.examples} examples, {report.conversations} conversations are in {file}")
    if report.left_out:
        err.print(f"{report.left_out} approved replies broke off or answer nobody", style="yellow")


def _words(text: str) -> str:
    return standard_input() if text == "-" else text


def _mode(mode: Mode) -> ProcedureMode:
    return "always" if mode is Mode.always else "relevant"


def _table(found: list[Procedure]) -> Table:
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for column in ("name", "version", "shown", "state"):
        table.add_column(column, no_wrap=True)
    table.add_column("instruction", overflow="fold")
    for each in found:
        state = "in force" if each.status == "current" else "disabled"
        first, *more = each.text.split("\n")
        words = safe(first) + (" ..." if more else "")
        table.add_row(safe(each.name), str(each.version), each.mode, state, words)
    return table


def _print(made: Procedure, as_json: bool) -> None:
    if as_json:
        show_json(made)
        return
    states = {"current": "in force", "retired": "disabled", "proposed": "waits for approval"}
    state = states.get(made.status, made.status)
    out.print(f"{safe(made.name)}, version {made.version}: {state}")
    out.print(made.id, style="dim")


def _print_whole(version: Procedure) -> None:
    for field in ("name", "version", "id", "status", "mode", "author", "reason", "base"):
        value = getattr(version, field)
        if value is not None:
            out.print(Text.assemble((f"{field:>8}  ", "bold"), safe(str(value))))
    for number, example in enumerate(version.examples, 1):
        pair = f"{safe(example.asked)} -> {safe(example.answered)}"
        out.print(Text.assemble((f"{f'e.g. {number}':>8}  ", "bold"), pair))
    out.print()
    out.print(safe(version.text), soft_wrap=True)
