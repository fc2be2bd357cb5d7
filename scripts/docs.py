"""Makes docs/cli.md and docs/errors.md from the code, and runs every Python example of the docs.

python3 dev.py docs            # write the pages, run the examples
python3 dev.py docs --check    # write nothing; exit 1 where a page is out of date
"""

from __future__ import annotations

import argparse
import inspect
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import typer

from mnemic import errors
from mnemic.surfaces.cli.app import app, load_commands

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    stale = [name for name, text in pages().items() if not up_to_date(name, text, args.check)]
    for name in stale:
        print(f"docs/{name} is out of date; run: python3 dev.py docs")
    failed = [page for page in example_pages() if not run_examples(page)]
    return int(bool(stale or failed))


class Pages(Mapping[str, str]):
    """The generated pages by name, each made when it is read: that of errors plays every bad input."""

    def __init__(self) -> None:
        self.makers: dict[str, Callable[[], str]] = {
            "cli.md": cli_page,
            "errors.md": errors_page,
        }

    def __getitem__(self, name: str) -> str:
        return self.makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self.makers)

    def __len__(self) -> int:
        return len(self.makers)


def pages() -> Mapping[str, str]:
    """The generated pages by name."""
    return Pages()


def up_to_date(name: str, text: str, check: bool) -> bool:
    """Whether a page says what it should; without `check` it is made to."""
    file = DOCS / name
    if file.exists() and file.read_text("utf-8") == text:
        return True
    if not check:
        file.write_text(text, "utf-8")
        print(f"wrote docs/{name}")
    return not check


def example_pages() -> Iterator[Path]:
    """Every page with Python examples."""
    for page in (ROOT / "README.md", *sorted(DOCS.glob("*.md"))):
        if _BLOCK.search(page.read_text("utf-8")):
            yield page


def run_examples(page: Path) -> bool:
    """Run a page's examples, one after another as one program, in an empty folder."""
    code = "\n".join(_BLOCK.findall(page.read_text("utf-8")))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        env = {key: value for key, value in os.environ.items() if not key.startswith("MNEMIC_")}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    print(f"{page.name}: {'runs' if done.returncode == 0 else 'FAILS'}")
    if done.returncode:
        print(done.stderr)
    return done.returncode == 0


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every command by its name, each group before its own."""
    for name, command in sorted(group.commands.items()):
        yield before + name, command
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")


def cli_page() -> str:
    """Every command with its help and options."""
    load_commands()
    lines = [
        "# The command",
        "",
        "Made by `python3 dev.py docs`. `mnemic COMMAND --help` says the same.",
        "",
    ]
    for name, command in commands(typer.main.get_command(app)):
        lines += [f"## mnemic {name}", "", inspect.cleandoc(command.help or ""), ""]
        if command.params:
            lines += ["| argument or option | meaning |", "| --- | --- |"]
        for parameter in command.params:
            names = ", ".join(f"`{option}`" for option in parameter.opts)
            if parameter.param_type_name == "argument":
                names = f"`{(parameter.name or '').upper()}`"
            lines.append(f"| {names} | {getattr(parameter, 'help', '') or ''} |")
        lines.append("")
    return "\n".join(lines)


@cache
def errors_page() -> str:
    """Every error class with its code, and every bad input with what comes of it."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from tests.bad_input import section

    lines = [
        "# Errors",
        "",
        "Made by `python3 dev.py docs`. Every error that Mnemic raises derives from `MnemicError`; its"
        " `code` is stable, `retryable` says whether the same call may work later, and its text says"
        " what to do next.",
        "",
        "```",
        *inspect.cleandoc((errors.__doc__ or "").split("\n\n")[1]).splitlines(),
        "```",
        "",
        "| class | code | retry | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for name in errors.__all__:
        kind = getattr(errors, name)
        retry = "yes" if kind.retryable else "no"
        lines.append(
            f"| `{name}` | `{kind.code}` | {retry} | {inspect.cleandoc(kind.__doc__ or '')} |"
        )
    return "\n".join([*lines, "", *section(), ""])


if __name__ == "__main__":
    sys.exit(main())
