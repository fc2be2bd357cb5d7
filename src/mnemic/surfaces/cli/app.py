"""The command's frame: options that all commands share, how errors and results are shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mnemic.errors import InputError, MnemicError
from mnemic.records import DEFAULT_TENANT
from mnemic.settings import Settings, from_environment

if TYPE_CHECKING:
    from mnemic.memory import Memory, ScopedMemory

app = typer.Typer(
    name="mnemic",
    help="Memory for LLM applications: tell it something, ask for it back.",
    epilog='Try: mnemic demo   or: mnemic remember "I live in Lisbon." && mnemic recall "where am I?"',
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Db = Annotated[
    str | None,
    typer.Option(
        "--db", help="Database: a file, or a URL. Default: MNEMIC_DB, else your data folder."
    ),
]
User = Annotated[
    str | None,
    typer.Option("--user", "-u", help='Whose memory. Default: MNEMIC_USER, else "me".'),
]
InScope = Annotated[
    str | None,
    typer.Option("--scope", help="Instead of --user: agent:support, shared:team, acme/user:ana."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

DEFAULT_USER = "me"


@contextmanager
def opened(db: str | None) -> Iterator[Memory]:
    """The memory that the options name."""
    from mnemic.memory import Memory

    with Memory(db, settings=from_environment()) as memory:
        yield memory


@contextmanager
def scoped(db: str | None, user: str | None, scope: str | None) -> Iterator[ScopedMemory]:
    """The handle that the options name."""
    with opened(db) as memory:
        yield handle_of(memory, user, scope)


def handle_of(memory: Memory, user: str | None, scope: str | None) -> ScopedMemory:
    """The handle of `--user` or `--scope`."""
    if scope is None:
        settings: Settings = from_environment()
        return memory.user(user or settings.user or DEFAULT_USER)
    if user is not None:
        raise InputError("give --user or --scope, not both")
    tenant_name, slash, rest = scope.rpartition("/")
    kind, colon, name = rest.partition(":")
    tenant = memory.tenant(tenant_name if slash else DEFAULT_TENANT)
    makers: dict[str, Callable[[str], ScopedMemory]] = {
        "user": tenant.user,
        "agent": tenant.agent,
        "shared": tenant.shared,
    }
    if not colon or kind not in makers:
        raise InputError(
            f"{scope!r} is no scope; write agent:support, shared:team or acme/user:ana"
        )
    return makers[kind](name)


def show_json(value: Any) -> None:
    """Print a record, or a list of them, as JSON."""
    print(json.dumps(plain(value), ensure_ascii=False, indent=2))


def plain(value: Any) -> Any:
    """Records, times and paths as JSON has them."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value


def main() -> None:
    """Run the command; an error of ours is one line that says what to do, and exit code 1."""
    # Commands register themselves when their modules load.
    from mnemic.surfaces.cli import asking, demo, keeping, moving  # noqa: F401

    try:
        app()
    except MnemicError as error:
        if "--json" in sys.argv:
            print(json.dumps({"error": {"code": error.code, "message": str(error)}}))
        else:
            err.print(f"[bold red]error[/] ({error.code}): ", end="")
            err.print(str(error), markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        err.print("stopped; what was acknowledged is kept")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (`| head`); that is no error.
        sys.stderr.close()
        sys.exit(0)
