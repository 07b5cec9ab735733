"""The report as one HTML page that needs nothing else: no script, no font, no picture from anywhere.

Every text out of a run is escaped; a Content-Security-Policy forbids the page to load or run anything.
"""

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import zip_longest

from jaxhash.terminal.report_runs import Cell, Picture, Run, Table

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --quiet: #595959; --paper: #fff; --line: #d4d4d4; --band: #f3f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --quiet: #a8a8a8; --paper: #16181b; --line: #3c4147; --band: #202429; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; padding-top: .5rem; border-top: 2px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .3rem; }
a { color: inherit; }
p, figcaption, caption { color: var(--quiet); }
nav ul { columns: 16rem; }
figure { margin: 1rem 0; overflow-x: auto; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
pre { margin: .5rem 0; padding: .6rem .8rem; background: var(--band); border-radius: 4px; white-space: pre-wrap; }
.remark { color: inherit; border-left: 4px solid #c46a00; padding-left: .6rem; }
.table { overflow: auto; max-height: 30rem; border: 1px solid var(--line); border-radius: 4px; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .3rem .5rem; }
th, td { padding: .2rem .5rem; text-align: right; overflow-wrap: normal; }
th.text, td.text { text-align: left; }
thead th { position: sticky; top: 0; background: var(--band); vertical-align: bottom; max-width: 9rem; }
tbody tr:nth-child(even) { background: var(--band); }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .1rem 1rem; font-size: .875rem;
  margin: 0; }
dt { color: var(--quiet); }
dd { margin: 0; }
@media (max-width: 40rem) {
  body { padding: .6rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin: 0 0 .3rem; }
  /* Panels side by side would be too small to read: they keep a size, and are moved with a finger. */
  figure img { max-width: none; width: 46rem; }
}
@media print {
  :root { --ink: #000; --quiet: #444; --paper: #fff; --line: #bbb; --band: #f3f3f3; }
  body { max-width: none; padding: 0; }
  figure img { max-width: 100%; width: auto; }
  nav { display: none; }
  figure, pre, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .table { max-height: none; overflow: visible; border: 0; }
  table { font-size: .65rem; }
  thead th { position: static; }
}
"""


def page(runs: Sequence[Run], title: str) -> str:
    """The whole page."""
    entries = "".join(f'<li><a href="#run-{i}">{escape(run.name)}</a></li>' for i, run in enumerate(runs, 1))
    sections = "".join(_section(run, f"run-{i}") for i, run in enumerate(runs, 1))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1></header>\n"
        f'<nav aria-label="Runs"><ul>{entries}</ul></nav>\n<main>\n{sections}</main>\n</body>\n</html>\n'
    )


def number(value: Cell) -> str:
    """A table's cell as text: four significant digits, whole numbers whole."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or (math.isfinite(value) and value == int(value) and abs(value) < 1e6):
        return str(int(value))
    return f"{value:.4g}" if math.isfinite(value) else "–" if math.isnan(value) else str(value)


def _section(run: Run, anchor: str) -> str:
    parts = [f'<section id="{anchor}">\n<h2>{escape(run.name)}</h2>\n']
    parts += [f'<p class="remark">{escape(remark)}</p>\n' for remark in run.remarks]
    if run.commands:
        parts += ["<h3>Command</h3>\n", *(f"<pre><code>{escape(command)}</code></pre>\n" for command in run.commands)]
    else:
        parts.append("<p>No command is noted in this run.</p>\n")
    parts += [_figure(picture, run.name) for picture in run.pictures]
    for table in run.tables:
        parts += [f"<h3>{escape(table.name)}</h3>\n", _table(table)]
    if run.configuration:
        parts += ["<h3>Configuration</h3>\n", _list(run.configuration.items())]
    versions = list(run.versions.items()) or [("software", line) for line in run.software]
    if versions:
        parts += ["<h3>Versions</h3>\n", _list(versions)]
    return "".join(parts) + "</section>\n"


def _figure(picture: Picture, run: str) -> str:
    title, shown = picture.notes.get("Title", ""), picture.notes.get("Description", "")
    alt = ". ".join(filter(None, (title, shown))) or f"Picture {picture.name} of {run}"
    width, height = picture.size
    data = base64.b64encode(picture.content).decode()
    return (
        f'<figure tabindex="0"><img src="data:image/png;base64,{data}" width="{width}" height="{height}" '
        f'alt="{escape(alt)}">'
        f"<figcaption>{escape(picture.name)}.png</figcaption></figure>\n"
    )


def _table(table: Table) -> str:
    columns = (list(column) for column in zip_longest(table.header, *table.rows, fillvalue=""))
    text = (any(isinstance(cell, str) and cell for cell in cells) for _, *cells in columns)
    kinds = [' class="text"' if is_text else "" for is_text in text]
    headings = (escape(_breakable(name)) for name in table.header)
    head = "".join(f'<th scope="col"{kind}>{name}</th>' for name, kind in zip(headings, kinds, strict=False))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{escape(number(c))}</td>" for c, kind in zip(row, kinds, strict=False)) + "</tr>\n"
        for row in table.rows
    )
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    return (
        f'<div class="table" role="region" aria-label="{escape(table.name)}" tabindex="0"><table>{caption}'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )


def _breakable(name: str) -> str:
    """The name of a variable, so that a narrow column can break it."""
    return name.replace("_", " ")


def _list(items: Iterable[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in items) + "</dl>\n"
