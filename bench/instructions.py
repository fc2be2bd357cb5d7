"""Measure which instructions a question brings up: of those that are due, of those that are shown.

    python bench/instructions.py [FILE]

FILE (instructions.json, unless given) has instructions by scope, and questions with those that each
calls for. The rule was chosen on the first part; the second was written afterwards, and changed nothing.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from mnemic import Memory

LABELLED = Path(__file__).with_name("instructions.json")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", nargs="?", type=Path, default=LABELLED)
    parts: dict[str, Any] = json.loads(parser.parse_args().file.read_text("utf-8"))
    figures = {}
    with tempfile.TemporaryDirectory() as folder, Memory(Path(folder) / "bench.db") as memory:
        for part, scopes in parts.items():
            rows = [
                row for scope, labelled in scopes.items() for row in ask(memory, scope, labelled)
            ]
            figures[part] = measure(rows)
            print(part, figures[part])
    print(json.dumps({"bench": "instructions", **figures}))
    return 0


def ask(memory: Memory, scope: str, labelled: dict[str, Any]) -> list[tuple[set[str], set[str]]]:
    """What is due and what is shown, for each question of a scope."""
    procedures = memory.agent(scope).procedures
    for name, text in labelled["instructions"].items():
        procedures.remember(name, text, mode="relevant")
    rows = []
    for question in labelled["questions"]:
        shown = {each.name for each in procedures.active(question["asks"])}
        rows.append((set(question["calls_for"]), shown))
    return rows


def measure(rows: list[tuple[set[str], set[str]]]) -> dict[str, float]:
    """Shares over all questions; and of the questions that call for nothing, those shown nothing."""
    due = sum(len(wanted) for wanted, _ in rows)
    shown = sum(len(found) for _, found in rows)
    right = sum(len(wanted & found) for wanted, found in rows)
    idle = [found for wanted, found in rows if not wanted]
    return {
        "questions": len(rows),
        "due_shown": round(right / due, 3),
        "shown_due": round(right / max(shown, 1), 3),
        "shown_each": round(shown / len(rows), 2),
        "idle_left_alone": round(sum(not found for found in idle) / len(idle), 3),
    }


if __name__ == "__main__":
    raise SystemExit(main())
