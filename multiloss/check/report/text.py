"""The report for a terminal."""

import textwrap

from multiloss.check.report.cells import MARKS
from multiloss.check.report.contents import Contents, Finding, places, plain

CORNER = "error / tolerance"  # what the numbers in the table are
_LONGEST_BATCH = 1000  # characters


def page(contents: Contents, color: bool, width: int | None, failures: int | None) -> str:
    """Return the report as lines; the arguments are those of `Report.text`."""

    def paint(mark: str, status: str) -> str:
        return f"\033[{MARKS[status][1]}m{mark}\033[0m" if color else mark

    def wrap(text: str, first: str = "  ") -> str:
        if width is None:
            return first + text
        rest = " " * len(first)
        return textwrap.fill(text, max(width, 40), initial_indent=first, subsequent_indent=rest)

    def entry(finding: Finding) -> list[str]:
        cell = finding.worst
        said = [wrap(text) for text in (*finding.messages(), finding.figures(contents.seed))]
        batch = [f"  {plain(line)}" for line in cell.batch.splitlines()]
        if sum(map(len, batch)) > _LONGEST_BATCH:
            batch = [wrap("The batch is too long to be shown here: --json FILE and --html FILE write it.")]
        command = [f"  {plain(cell.reproduce)}"] if cell.reproduce else []
        return ["", f"{paint(MARKS[cell.status][0], cell.status)} {finding.headline}", *said, *batch, *command]

    head, colon, rest = wrap(contents.verdict, "").partition(":")
    lines = [paint(head, "pass" if contents.ok else "fail") + colon + rest, ""]

    label = max(map(len, (CORNER, *contents.rows))) + 2
    widths = {b: 2 + max(map(len, [b, *(row[b].mark for row in contents.rows.values())])) for b in contents.backends}
    lines.append((CORNER.ljust(label) + "".join(b.ljust(widths[b]) for b in contents.backends)).rstrip())
    for check, row in contents.rows.items():
        marks = (paint(cell.mark, cell.status) + " " * (widths[b] - len(cell.mark)) for b, cell in row.items())
        lines.append((check.ljust(label) + "".join(marks)).rstrip())

    shown = contents.findings[:failures]
    for finding in shown:
        lines += entry(finding)
    if more := contents.findings[len(shown) :]:
        where = places([cell for finding in more for cell in finding.cells], contents.backends, every="every backend")
        count = f"{len(more)} more failure{'s' if more[1:] else ''}"
        lines += ["", wrap(f"{count}: {where}. --all-failures shows all.", "")]

    for title, entries in contents.sections:
        lines += ["", title, *(wrap(line) for entry in entries for line in entry.split("\n"))]
    names_end = max(len(name) for name, _ in contents.facts) + 2
    return "\n".join([*lines, "", *(wrap(value, name.ljust(names_end)) for name, value in contents.facts)])
