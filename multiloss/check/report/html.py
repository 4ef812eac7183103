"""The report as one HTML page, which fetches nothing and runs nothing."""

import math
from collections.abc import Mapping, Sequence
from html import escape as escaped

from multiloss.check.report.cells import MARKS, Cell
from multiloss.check.report.contents import Contents, Finding, plain
from multiloss.check.report.text import CORNER


def page(contents: Contents, curves: Mapping[str, Sequence[float]] | None = None) -> str:
    """Return the page: verdict, table, failures, sections, plots, facts; with curves of losses if there are any."""
    title = f"multiloss {contents.command}: {escape(contents.target)}"
    head = "".join(f'<th scope="col">{escape(backend)}</th>' for backend in contents.backends)
    rows = ""
    for check, row in contents.rows.items():
        cells = "".join(
            f'<td class="{cell.status.replace(" ", "-")}" title="{escape(cell.detail)}">{cell.mark}</td>'
            for cell in row.values()
        )
        rows += f'<tr><th scope="row">{escape(check)}</th>{cells}</tr>\n'
    below = "<h2>Failures</h2>\n" if contents.findings else ""
    below += "".join(_failure(finding, contents.seed) for finding in contents.findings)
    for name, entries in contents.sections:
        items = "".join(f"<li>{escape(entry)}</li>\n" for entry in entries)
        below += f"<h2>{name}</h2>\n<ul>{items}</ul>\n"
    panels = "".join(_panel(check, row) for check, row in contents.rows.items())
    if panels:
        legend = " ".join(f'<b class="b{i % 5}">&#9679;</b> {escape(b)}' for i, b in enumerate(contents.backends))
        below += "<h2>Error by case</h2>\n<p>Error divided by tolerance; the dashed line is 1. A cross at the top "
        below += f'marks an error that is not finite.</p>\n<p>{legend}</p>\n<div class="panels">\n{panels}</div>\n'
    if curves:
        below += f"<h2>Loss of each step</h2>\n{_curves(curves)}"
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n" for name, value in contents.facts)
    word, colon, rest = contents.verdict.partition(":")
    verdict = f'<b class="{"pass" if contents.ok else "fail"}">{escape(word)}</b>{colon}{escape(rest)}'
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<p>{verdict}</p>\n"
        f'<div class="table" tabindex="0">\n<table>\n<thead><tr><td>{CORNER}</td>{head}</tr></thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table>\n</div>\n{below}<h2>Facts</h2>\n<dl>\n{facts}</dl>\n</body>\n</html>\n"
    )


def escape(text: str) -> str:
    """Return text for an element or a quoted attribute; line breaks stay."""
    return escaped("\n".join(map(plain, text.splitlines())))


def _failure(finding: Finding, seed: int) -> str:
    cell = finding.worst
    lines = "<br>\n".join(map(escape, (*finding.messages(), finding.figures(seed))))
    html = f'<h3><span class="fail">{MARKS[cell.status][0]}</span> {escape(finding.headline)}</h3>\n<p>{lines}</p>\n'
    for code in (cell.batch, cell.reproduce):
        html += f'<pre tabindex="0"><code>{escape(code)}</code></pre>\n' if code else ""
    return html


def _panel(check: str, row: Mapping[str, Cell]) -> str:
    """Return the plot of one check, error / tolerance by case, or "" if it has no errors."""
    cases = list(dict.fromkeys(case for cell in row.values() for case in cell.errors))
    if not cases:
        return ""
    left, right, top, height, longest = 62, 468, 8, 120, 22  # pixels, and characters of a label
    step = (right - left) / len(cases)

    def y(ratio: float) -> float:  # from 1e-4 at the bottom to 1e2 at the top
        return top + (height * (2 - math.log10(min(max(ratio, 1e-4), 1e2))) / 6 if math.isfinite(ratio) else 0)

    shapes = ""
    for decade in range(-4, 3):
        at, kind = y(10.0**decade), "tolerance" if decade == 0 else "grid"
        shapes += f'<line class="{kind}" x1="{left}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>\n'
        if decade % 2 == 0:
            shapes += f'<text x="{left - 5}" y="{at + 3:.1f}" text-anchor="end">{10.0**decade:g}</text>\n'
    for i in range(0, len(cases), math.ceil(12 / step)):  # as many labels as fit
        label = cases[i] if len(cases[i]) <= longest else cases[i][: longest - 1] + "…"
        place = f'transform="translate({left + (i + 0.5) * step + 3:.1f} {top + height + 12}) rotate(-60)"'
        shapes += f'<text {place} text-anchor="end">{escape(label)}<title>{escape(cases[i])}</title></text>\n'
    for i, (backend, cell) in enumerate(row.items()):
        shift = (i - (len(row) - 1) / 2) * min(7, step / (len(row) + 1))
        for case, ratio in cell.errors.items():
            at_x, at_y = left + (cases.index(case) + 0.5) * step + shift, y(ratio)
            title = f"<title>{escape(f'{check}, {case}, {backend}: {ratio:.2g} times the tolerance')}</title>"
            if math.isfinite(ratio):
                shapes += f'<circle class="b{i % 5}" cx="{at_x:.1f}" cy="{at_y:.1f}" r="3">{title}</circle>\n'
            else:
                cross = f"M{at_x - 4:.1f} {at_y - 4:.1f}l8 8m0 -8l-8 8"
                shapes += f'<path class="b{i % 5}" d="{cross}">{title}</path>\n'
    size = f"470 {top + height + 16 + 5 * min(longest, max(map(len, cases)))}"
    name = escape(check)
    svg = f'<svg role="img" aria-label="{name}: error by case" width="470" viewBox="0 0 {size}">\n{shapes}</svg>'
    return f"<figure><figcaption>{name}</figcaption>\n{svg}</figure>\n"


def _curves(curves: Mapping[str, Sequence[float]]) -> str:
    """Return the plot of the losses by step."""
    left, right, top, height = 62, 760, 8, 220  # pixels
    values = [value for curve in curves.values() for value in curve if math.isfinite(value)] or [0.0]
    low, high, steps = min(values), max(values), max(map(len, curves.values()))
    span = high - low or 1.0

    def place(step: int, value: float) -> str:
        x = left + (right - left) * (step / max(1, steps - 1))
        return f"{x:.1f},{top + height * (high - value) / span:.1f}"

    shapes = ""
    for value in (low, (low + high) / 2, high):
        y = top + height * (high - value) / span
        shapes += f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>\n'
        shapes += f'<text x="{left - 5}" y="{y + 3:.1f}" text-anchor="end">{value:.3g}</text>\n'
    for i, (backend, curve) in enumerate(curves.items()):
        points = " ".join(place(step, value) for step, value in enumerate(curve) if math.isfinite(value))
        dashes = ("", "7 4", "2 3", "9 3 2 3", "4 4")[i % 5]  # where curves lie on each other, all are seen
        style = f'fill="none" stroke="currentColor" stroke-width="2" stroke-dasharray="{dashes}"'
        shapes += f'<polyline class="b{i % 5}" {style} points="{points}"><title>{escape(backend)}</title></polyline>\n'
    legend = " ".join(f'<b class="b{i % 5}">&#9679;</b> {escape(backend)}' for i, backend in enumerate(curves))
    svg = f'<svg role="img" aria-label="loss of each step" width="770" viewBox="0 0 770 {top + height + 12}">'
    return f"<p>{legend}</p>\n{svg}\n{shapes}</svg>\n"


_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --paper: #fff; --line: #d5d9de; --dim: #646b73;
  --pass: #12703a; --fail: #c01b1b; --known: #8a5a00;
  --b0: #0072b2; --b1: #d55e00; --b2: #009e73; --b3: #b0468c; --b4: #77600a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6e9; --paper: #17191c; --line: #3a3f45; --dim: #9aa2ab;
  --pass: #5cc98a; --fail: #ff7b72; --known: #e3b341;
  --b0: #56b4e9; --b1: #ff9a52; --b2: #3ddbb0; --b3: #e39ccb; --b4: #f0e442; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1000px;
  margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; } h3 { font-size: 1rem; margin-bottom: 0; } p { margin-top: .3rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; } dt { color: var(--dim); } dd { margin: 0; }
.table { overflow-x: auto; } table { border-collapse: collapse; white-space: nowrap; } th { text-align: left; }
li { white-space: pre-wrap; }
th, td { border-bottom: 1px solid var(--line); padding: .15rem 1.2rem .15rem 0; }
.pass { color: var(--pass); } .fail, .unexpected-pass { color: var(--fail); font-weight: bold; }
.known { color: var(--known); } .not-applicable, .not-checked { color: var(--dim); }
pre { overflow-x: auto; border: 1px solid var(--line); padding: .4rem .6rem; margin: 0 0 .5rem; }
.panels { display: flex; flex-wrap: wrap; gap: .8rem 1.2rem; } figure { margin: 0; } figcaption { font-weight: bold; }
svg { max-width: 100%; height: auto; } svg text { font: 10px system-ui, sans-serif; fill: var(--dim); }
line { stroke: var(--line); } line.tolerance { stroke: var(--ink); stroke-dasharray: 5 3; }
circle { fill: currentColor; fill-opacity: .8; } path { stroke: currentColor; stroke-width: 2; fill: none; }
.b0 { color: var(--b0); } .b1 { color: var(--b1); } .b2 { color: var(--b2); } .b3 { color: var(--b3); }
.b4 { color: var(--b4); }
"""
