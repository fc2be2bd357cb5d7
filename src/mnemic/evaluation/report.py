"""A run as a page: one HTML file that needs nothing else, with its plots inside and beside it."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from mnemic.evaluation import plots
from mnemic.evaluation.asking import OURS
from mnemic.evaluation.tables import Shown, tables_of


def write_report(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write `report.html` and its plots into a folder; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = plots.draw(report)
    written = [folder / "report.html"]
    for name, png in drawn.items():
        path = folder / f"{name}.png"
        path.write_bytes(png)
        written.append(path)
    written[0].write_text(page(report, drawn), "utf-8")
    return written


def page(report: Mapping[str, Any], drawn: Mapping[str, bytes]) -> str:
    """The page's text."""
    template = resources.files("mnemic.evaluation").joinpath("templates", "report.html")
    body = "\n".join(_body(report, drawn))
    return Template(template.read_text("utf-8")).substitute(body=body)


def _body(report: Mapping[str, Any], drawn: Mapping[str, bytes]) -> Iterator[str]:
    tables = list(tables_of(report))
    yield from (_table(table) for table in tables if not table.figures)
    for name, figures in report["data"].items():
        yield f"<h2>{escape(name)}</h2>"
        yield from (
            _table(table)
            for table in tables
            if table.figures and table.title.startswith(f"{name}:")
        )
        for plot, png in drawn.items():
            if plot.startswith(f"{name}-"):
                coded = base64.b64encode(png).decode()
                words = escape(plot.removeprefix(f"{name}-").replace("-", " "))
                yield f'<figure><img alt="{words}" src="data:image/png;base64,{coded}"></figure>'
        if figures.get("worst"):
            yield "<h3>Worst questions, and what was found instead</h3>"
            yield from (_worst(item) for item in figures["worst"])


def _table(table: Shown) -> str:
    kind = "figures" if table.figures else "words"
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.head)
    rows = "".join(
        f"<tr{' class=ours' if row[0] == OURS else ''}>{''.join(map(_cell, row))}</tr>"
        for row in table.rows
    )
    return (
        f'<div class="wide"><table class="{kind}"><caption>{escape(table.title)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    mark = f' class="{text}"' if text in ("met", "missed") else ""
    return f"<td{mark}>{escape(text)}</td>"


def _worst(item: Mapping[str, Any]) -> str:
    said = _list("said", item["missed"]) if "missed" in item else _list("wanted", item["wanted"])
    answer = f"<p>Answer: {escape(str(item['answer']))}</p>" if "answer" in item else ""
    kind = escape(str(item.get("category", item.get("id", ""))))
    return (
        f"<details><summary>{escape(item['question'])} <span class=kind>{kind}</span></summary>"
        f"{answer}{said}{_list('found', item['found'])}</details>"
    )


def _list(title: str, lines: Sequence[str]) -> str:
    return f"{title}<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
