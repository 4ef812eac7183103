"""The report by itself: no loss, no backend, cells written by hand."""

import itertools
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from multiloss.check.report import KINDS, STATUSES, Cell, Report, read_known

NAN_JAX = Cell(
    "gradient",
    "jax",
    "fail",
    "The gradient is NaN.\nSome framework adds more.",
    error=math.nan,
    tolerance=1e-5,
    case="duplicated rows",
    reproduce="multiloss check 'my:loss(\"a  b\")' --backends jax --seed 7",
    errors={"random": 0.25, "duplicated rows": math.nan},
    kind="nan",
    batch="y_true = np.array([1, 1], np.int32)\ny_pred = np.array([[0.0], [0.0]], np.float32)",
)
CELLS = (
    Cell("value", "tensorflow", "pass", error=2e-7, tolerance=1e-5, case="random", errors={"random": 0.02, "ties": 0}),
    Cell("value", "jax", "pass", error=0, tolerance=0),
    Cell("gradient", "tensorflow", "pass", error=1.234e-6, tolerance=1e-6, errors={"random": 1.234, "far": 1e9}),
    NAN_JAX,
    Cell("mask", "tensorflow", "not applicable", "The loss takes no mask."),
    Cell("mask", "jax", "not applicable", "The loss takes no mask."),
    Cell("rank", "tensorflow", "not applicable", "The loss takes no mask."),
    Cell("fit", "tensorflow", "pass", "undecided at 'ties'"),
    Cell("fit", "jax", "not checked", "Killed after 60 s."),
)
REPORT = Report(
    target="my:loss",
    oracle=None,
    inputs="masks",
    seed=7,
    compared="Backends were compared with each other.",
    versions={"tensorflow": "tensorflow 2.21.0, keras 3.15.1", "jax": "jax 0.10.0, keras 3.15.1"},
    cells=CELLS,
    unchecked={"torch": "not installed"},
    seconds=12.34,
    notes=("Smallest failing case:\ny_true = [0, 1]",),
)
TEXT = """\
FAILS: my:loss gives NaN or infinity on jax (gradient).

error / tolerance  tensorflow  jax
value              ok 0.02     ok 0
gradient           ok 1.2      FAIL nan
mask               -           -
rank               -           ?
fit                ok          ?

FAIL gradient (jax): NaN or infinity
  The gradient is NaN.
  error nan, tolerance 1e-05 (ratio nan), case 'duplicated rows', seed 7
  y_true = np.array([1, 1], np.int32)
  y_pred = np.array([[0.0], [0.0]], np.float32)
  multiloss check 'my:loss("a  b")' --backends jax --seed 7

Remarks on checks that pass
  fit (tensorflow): undecided at 'ties'

Not applicable (-)
  mask, rank (tensorflow): The loss takes no mask.

Not checked (?)
  fit (jax): Killed after 60 s.
  torch: not installed

Notes
  Smallest failing case:
  y_true = [0, 1]

target      my:loss
oracle      none
compared    Backends were compared with each other.
inputs      masks, seed 7
tensorflow  tensorflow 2.21.0, keras 3.15.1
jax         jax 0.10.0, keras 3.15.1
time        12.3 s"""
THREE = {"tensorflow": "1", "jax": "1", "torch": "1"}


def known(tmp_path, text):
    path = tmp_path / "known.txt"
    path.write_text(text)
    return read_known(path)


def statuses(report, check):
    return [cell.status for cell in report.cells if cell.check == check]


def fail(check, backend, kind="", detail="", error=None, **more):
    return Cell(check, backend, "fail", detail, error, None if error is None else 1.0, kind=kind, **more)


def report_with(*cells, **changes):
    """A report of these cells, which ran on tensorflow, jax and torch."""
    return replace(REPORT, **{"versions": THREE, "cells": cells, "unchecked": {}, "notes": (), **changes})


def shown(report, **arguments):
    """The failures that the text shows, each as its lines."""
    blocks = report.text(**arguments).split("\n\n")
    return [block.splitlines() for block in blocks if block.startswith(("FAIL ", "PASSES! "))]


def report_of(**rows):
    """A report with one check a keyword, its statuses on tensorflow, jax and torch."""
    cells = [
        Cell(check, backend, status)
        for check, row in rows.items()
        for backend, status in zip(("tensorflow", "jax", "torch"), row, strict=True)
    ]
    return replace(REPORT, versions={}, cells=tuple(cells))


def test_text():
    assert REPORT.text() == TEXT


def test_colour_is_all_that_colour_changes():
    coloured = REPORT.text(color=True)
    assert "\033[31mFAIL nan\033[0m" in coloured
    assert "\033[32mok 0.02\033[0m" in coloured
    assert "\033[2m-\033[0m" in coloured
    assert re.sub(r"\033\[\d*m", "", coloured) == TEXT


def test_width_wraps_sentences_but_no_command():
    command = "multiloss check " + "x" * 60 + " --seed 7"
    detail = "Words that are to be wrapped at forty, of which there are many."
    report = replace(REPORT, cells=(replace(NAN_JAX, detail=detail, reproduce=command),))
    text = report.text(width=40)
    assert "  Words that are to be wrapped at forty,\n  of which there are many.\n" in text
    batch = f"  {NAN_JAX.batch.splitlines()[1]}"
    assert [line for line in text.splitlines() if len(line) > 40] == [batch, f"  {command}"]
    assert re.sub(r"\033\[\d*m", "", report.text(width=40, color=True)) == text


@pytest.mark.parametrize(
    ("error", "tolerance", "mark"),
    [
        (0, 0, "ok 0"),
        (1e-30, 0, "ok inf"),
        (math.nan, 0, "ok nan"),
        (math.inf, 1e-5, "ok inf"),
        (1, 8, "ok 0.12"),
        (None, 1e-5, "ok"),
        (1, None, "ok"),
    ],
)
def test_mark_shows_the_error_as_a_share_of_its_tolerance(error, tolerance, mark):
    assert Cell("value", "jax", "pass", error=error, tolerance=tolerance).mark == mark


@pytest.mark.parametrize(
    ("row", "ok"),
    [
        (["pass"] * 3, True),
        (["pass", "known", "not applicable"], True),
        (["known", "not checked", "not applicable"], True),
        (["pass", "pass", "fail"], False),
        (["pass", "pass", "unexpected pass"], False),
        (["not applicable", "not checked", "not checked"], False),
    ],
)
def test_exit_code(row, ok):
    report = report_of(value=row)
    assert (report.ok, report.exit_code) == (ok, 0 if ok else 1)
    assert [cell.status for cell in report.failures] == [s for s in row if s in ("fail", "unexpected pass")]
    assert report.text(color=True).startswith(("\033[32m" if ok else "\033[31m") + report.verdict.partition(":")[0])


@pytest.mark.parametrize(
    ("cells", "verdict"),
    [
        (
            [Cell("value", b, "pass") for b in THREE] + [Cell("fit", "jax", "pass")],
            "OK: my:loss passes 2 checks on tensorflow, jax and torch.",
        ),
        (
            [
                Cell("value", "jax", "pass"),
                Cell("save", "torch", "pass"),
                Cell("mask", "jax", "known"),
                Cell("fit", "jax", "not checked"),
                fail("save", "jax", "setting"),
            ],
            "OK: my:loss passes 1 check on jax and torch. Failures that do not count: save. Known failures: mask. "
            "Not checked: fit.",
        ),
        (
            [
                fail("save", "torch", "setting"),
                fail("mask", "jax", "crash"),
                fail("gradient", "torch", "wrong"),
                fail("value", "tensorflow", "wrong"),
                Cell("fit", "jax", "not checked"),
            ],
            "FAILS: my:loss gives wrong numbers on tensorflow and torch (gradient, value), and crashes on jax (mask). "
            "Failures that do not count: save.",
        ),
        (
            [fail(check, b, "nan") for check in "abcde" for b in THREE] + [fail("f", "jax")],
            "FAILS: my:loss gives NaN or infinity on every backend (a, b, c and 2 more), and fails on jax (f).",
        ),
        (
            [
                fail("value", "torch", "wrong"),
                fail("fit", "jax", "crash"),
                Cell("mask", "jax", "unexpected pass"),
            ],
            "FAILS: my:loss gives wrong numbers on torch (value), crashes on jax (fit), "
            "and passes where a failure is known on jax (mask).",
        ),
        ([Cell("value", "jax", "not checked")], "NOTHING WAS CHECKED: my:loss. Not checked: value."),
    ],
)
def test_the_verdict_is_one_line(cells, verdict):
    report = report_with(*cells, fail_on=("wrong", "crash", "nan"))
    assert report.verdict == verdict
    assert report.text().startswith(f"{verdict}\n\n")
    assert report.ok == verdict.startswith("OK")


def test_the_verdict_names_a_backend_that_is_alone():
    report = report_with(fail("value", "jax", "wrong"), versions={"jax": "1"})
    assert report.verdict == "FAILS: my:loss gives wrong numbers on jax (value)."
    assert shown(report)[0][0] == "FAIL value (jax): wrong numbers"


def test_a_kind_that_is_not_in_fail_on_is_shown_and_does_not_count():
    report = report_with(fail("save", "jax", "setting", "margin is lost"))
    assert not report.ok
    lenient = replace(report, fail_on=("wrong", "crash"))
    assert (lenient.ok, lenient.exit_code) == (True, 0)
    assert lenient.failures == report.failures
    assert shown(lenient) == shown(report) == [["FAIL save (jax): a setting gets lost", "  margin is lost", "  seed 7"]]
    for cell in (fail("value", "torch", "wrong"), fail("runs", "torch"), Cell("mask", "torch", "unexpected pass")):
        worse = replace(lenient, cells=(*lenient.cells, cell))
        assert worse.exit_code == 1
        assert shown(worse)[0][0].split()[1] == cell.check  # what counts is shown first
    message = "^`fail_on` must be among wrong, crash, nan, setting. Received: 'slow'$"
    with pytest.raises(ValueError, match=message):
        replace(report, fail_on=("wrong", "slow"))


def test_the_worst_failures_are_shown_and_the_others_named():
    report = report_with(
        fail("save", "jax", "setting", "s", 1e9),
        fail("finite", "jax", "nan", "n"),
        fail("compiled", "torch", "wrong", "a bit", 2.0),
        fail("mask", "jax", "crash", "c"),
        fail("value", "jax", "wrong", "much", 1e3),
        fail("fit", "jax", "wrong", "no figure"),
        fail("rank", "jax", "wrong", "not a number", math.nan),
        fail("runs", "jax", "", "of no kind"),
    )
    order = ["rank", "value", "compiled", "fit", "mask", "finite", "save", "runs"]
    assert [lines[0].split()[1] for lines in shown(report, failures=None)] == order
    assert [lines[0].split()[1] for lines in shown(report)] == order[:3]
    more = "5 more failures: fit, mask, finite, save, runs (jax). --all-failures shows all."
    assert f"\n\n{more}\n\ntarget" in report.text()
    assert "1 more failure: runs (jax). --all" in report.text(failures=7)
    assert "more failure" not in report.text(failures=None)
    assert Tags(report.html()).text["h3"] == [" " + lines[0][5:] for lines in shown(report, failures=None)]


def test_a_failure_is_shown_once_for_all_backends():
    lines = {"reproduce": "on jax", "batch": "y_true = 1", "case": "ties"}
    cells = [fail("value", b, "wrong", f"differs on {b}", 10.0) for b in THREE]
    cells[1] = replace(cells[1], error=1234.0, **lines)
    assert shown(report_with(*cells)) == [
        [
            "FAIL value (every backend): wrong numbers",
            "  differs on each backend",
            "  jax: error 1.23e+03, tolerance 1 (ratio 1.2e+03), case 'ties', seed 7",
            "  y_true = 1",
            "  on jax",
        ]
    ]
    # Two messages: both, each with its backends.
    cells[2] = replace(cells[2], detail="shape (3,), expected ()")
    (lines,) = shown(report_with(*cells))
    assert lines[1:3] == ["  jax, tensorflow: differs on each backend", "  torch: shape (3,), expected ()"]
    # Other kinds and other checks are failures of their own.
    cells[2] = fail("value", "torch", "nan", "differs on torch")
    found = shown(report_with(*cells, fail("gradient", "jax", "wrong", "differs on jax")))
    assert [lines[0] for lines in found] == [
        "FAIL value (tensorflow, jax): wrong numbers",
        "FAIL gradient (jax): wrong numbers",
        "FAIL value (torch): NaN or infinity",
    ]


def test_the_same_exception_in_several_checks_is_one_failure():
    report = report_with(
        fail("value", "jax", "crash", "eager: TypeError: no max on jax"),
        fail("value", "torch", "crash", "eager: ValueError: empty"),
        fail("gradient", "torch", "crash", "eager: ValueError: empty"),
        fail("compiled", "jax", "crash", "jit: TypeError: no max on jax"),
        fail("mask", "jax", "crash", "eager: TypeError: no mask on jax"),
        fail("reduction", "jax", "wrong", "eager: TypeError: no max on jax"),
    )
    first, *both = shown(report)
    assert first[0] == "FAIL reduction (jax): wrong numbers"
    assert [lines[:-1] for lines in both] == [
        [
            "FAIL value (jax, torch), gradient (torch), compiled (jax): crash",
            "  jax: eager: TypeError: no max on jax",
            "  torch: eager: ValueError: empty",
        ],
        ["FAIL mask (jax): crash", "  eager: TypeError: no mask on jax"],
    ]


LONG = "word " * 60
MESSAGES = {
    "": [],
    "value differs": ["value differs"],
    "\n\n  ValueError: first\nsecond": ["ValueError: first"],
    "ValueError: must match. Received:\ny [3]\nx [4]": ["ValueError: must match. Received: y [3]"],
    "ValueError: Exception encountered when calling L.call().\n\n\x1b[1mthe cause\x1b[0m\n\nArguments": [
        "ValueError: the cause"
    ],
    'StagingError: in user code:\n\n  File "m.py", line 1, in f *\n    return a\n\n    ValueError: the cause\n': [
        "ValueError: the cause"
    ],
    'Traceback (most recent call last):\n  File "m.py"\n    x: int\nlast': ["last"],
    "in user code:\n  KeyError: first\n  During handling of it:\n  ValueError: the cause": ["ValueError: the cause"],
    "in user code:": ["in user code:"],
    LONG: [LONG[:194] + " …"],
    "x" * 300: ["x" * 198 + " …"],
}


@pytest.mark.parametrize("message", MESSAGES)
def test_of_a_long_message_the_line_that_says_what_is_wrong(message):
    report = report_with(fail("value", "jax", "crash", message))
    (lines,) = shown(report)
    assert [line.strip() for line in lines[1:-1]] == MESSAGES[message]
    assert report.as_dict()["cells"][0]["detail"] == message


@pytest.mark.parametrize("name", ["{}.Tensor", "{}-cpu", "my_{}", "lib.{}", "'{}'"])
def test_backends_within_other_names_stay_as_they_are(name):
    cells = [fail("value", b, "crash", f"no {name.format(b)} on {b}.") for b in THREE]
    (lines,) = shown(report_with(*cells))
    assert lines[1:4] == [f"  {b}: no {name.format(b)} on {b}." for b in THREE]


def test_a_long_batch_is_left_to_the_files():
    batch = "y_true = np.array([" + "0, " * 400 + "])"
    report = report_with(fail("value", "jax", "wrong", batch=batch))
    assert "\n  The batch is too long to be shown here: --json FILE and --html FILE write it.\n" in report.text()
    assert batch in report.html()
    assert report.as_dict()["cells"][0]["batch"] == batch


def test_checks_that_share_a_reason_share_a_line():
    function = "a plain function: Keras applies weights"
    cells = [Cell(check, b, "not applicable", function) for check in ("mask", "config") for b in THREE]
    cells += [Cell("unknown_batch", b, "not applicable", f"{b} traces with known sizes only") for b in ("jax", "torch")]
    cells += [Cell("rank", "jax", "not applicable", function), Cell("rank", "torch", "not applicable")]
    text = report_with(*cells).text()
    assert (
        "\n\nNot applicable (-)\n"
        f"  mask, config, rank (jax): {function}\n"
        "  unknown_batch (jax, torch): each backend traces with known sizes only\n"
        "  rank (torch)\n\n"
    ) in text


def test_a_missing_cell_is_shown_as_not_checked():
    text = replace(REPORT, cells=CELLS[1:3]).text()
    assert "value              ?           ok 0\ngradient           ok 1.2      ?\n" in text


def test_json():
    data = json.loads(REPORT.json(), parse_constant=pytest.fail)
    assert data == REPORT.as_dict()
    assert data.pop("cells")[3] == {
        "check": "gradient",
        "backend": "jax",
        "status": "fail",
        "detail": "The gradient is NaN.\nSome framework adds more.",
        "error": "nan",
        "tolerance": 1e-5,
        "case": "duplicated rows",
        "reproduce": "multiloss check 'my:loss(\"a  b\")' --backends jax --seed 7",
        "errors": {"random": 0.25, "duplicated rows": "nan"},
        "kind": "nan",
        "batch": "y_true = np.array([1, 1], np.int32)\ny_pred = np.array([[0.0], [0.0]], np.float32)",
    }
    assert data == {
        "schema": 1,
        "ok": False,
        "verdict": "FAILS: my:loss gives NaN or infinity on jax (gradient).",
        "target": "my:loss",
        "oracle": None,
        "inputs": "masks",
        "seed": 7,
        "compared": "Backends were compared with each other.",
        "versions": {"tensorflow": "tensorflow 2.21.0, keras 3.15.1", "jax": "jax 0.10.0, keras 3.15.1"},
        "unchecked": {"torch": "not installed"},
        "seconds": 12.34,
        "notes": ["Smallest failing case:\ny_true = [0, 1]"],
        "fail_on": ["wrong", "crash", "nan", "setting"],
        "recorded": "",
    }


def test_json_of_infinities():
    cell = Cell("value", "jax", "fail", error=math.inf, tolerance=1, errors={"a": -math.inf, "b": 1})
    (data,) = json.loads(replace(REPORT, cells=(cell,)).json())["cells"]
    assert (data["error"], data["errors"]) == ("inf", {"a": "-inf", "b": 1})


def test_schema_documents_every_key():
    documented = Report.as_dict.__doc__
    lines = re.findall(r"^ *- (.*)", re.sub(r" \([^)]*\)", "", documented), re.MULTILINE)
    keys = [key for line in lines for key in line.partition(":")[0].split(", ")]
    data = REPORT.as_dict()
    assert sorted(keys) == sorted((*data, *data["cells"][0]))
    assert [word for word in (*STATUSES, *KINDS) if f'"{word}"' not in documented] == []


class Tags(HTMLParser):
    """Collects text by tag, and fails on a tag that is not closed in its turn."""

    def __init__(self, page):
        super().__init__()
        self.open, self.text, self.attributes = [], {}, []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in self.open[-1:]:
            self.text.setdefault(tag, []).append(data)


def test_html():
    page = Tags(REPORT.html())
    assert page.text["title"][0] == "multiloss check: my:loss"
    assert [*page.text["b"][:1], page.text["p"][0]] == ["FAILS", ": my:loss gives NaN or infinity on jax (gradient)."]
    assert page.text["td"] == [
        *("error / tolerance", "ok 0.02", "ok 0", "ok 1.2", "FAIL nan", "-", "-", "-", "?", "ok", "?")
    ]
    assert page.text["th"] == ["tensorflow", "jax", "value", "gradient", "mask", "rank", "fit"]
    assert page.text["h2"] == [
        *("Failures", "Remarks on checks that pass", "Not applicable (-)", "Not checked (?)", "Notes"),
        *("Error by case", "Facts"),
    ]
    assert page.text["h3"] == [" gradient (jax): NaN or infinity"]
    assert page.text["code"] == [NAN_JAX.batch, NAN_JAX.reproduce]
    assert page.text["p"][1:3] == [
        "The gradient is NaN.",
        "\nerror nan, tolerance 1e-05 (ratio nan), case 'duplicated rows', seed 7",
    ]
    assert page.text["li"] == [
        "fit (tensorflow): undecided at 'ties'",
        "mask, rank (tensorflow): The loss takes no mask.",
        "fit (jax): Killed after 60 s.",
        "torch: not installed",
        "Smallest failing case:\ny_true = [0, 1]",
    ]
    assert page.text["dt"] == ["target", "oracle", "compared", "inputs", "tensorflow", "jax", "time"]
    # One page by itself: nothing is fetched, nothing is run.
    assert not {name for name, _ in page.attributes} & {"src", "href"}
    assert "script" not in page.text
    assert "url(" not in REPORT.html()
    assert "@import" not in REPORT.html()


def test_html_without_failures_or_errors():
    page = Tags(report_of(value=["pass"] * 3).html())
    assert page.text["h2"] == ["Not checked (?)", "Notes", "Facts"]
    assert "svg" not in page.text


def test_html_escapes_what_users_wrote():
    evil = "<script>alert(\"1\" & '2')</script>\x1b\x00"
    cells = (
        Cell(evil, evil, "fail", evil, 1, 1, evil, evil, {evil: 1}, "wrong", evil),
        Cell("mask", evil, "not applicable", evil),
        Cell("fit", evil, "pass", evil),
    )
    page = Report(evil, evil, evil, 0, evil, {evil: evil}, cells, {evil: evil}, 1.0, (evil,)).html()
    assert "<script" not in page
    assert not {"\x1b", "\x00"} & set(page)
    parsed = Tags(page)  # an attribute that a quote broke off would leave more of them
    assert {name for name, value in parsed.attributes if "script" in value} == {"title", "aria-label"}
    ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])


def panels(report):
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", report.html(), re.DOTALL)]


def points(svg):
    """Title -> (x, y) of every point; a cross by its middle."""
    found = {c.find("title").text: (float(c.get("cx")), float(c.get("cy"))) for c in svg.iter("circle")}
    for path in svg.iter("path"):
        x, y = re.match(r"M(\S+) (\S+)l8 8m0 -8l-8 8$", path.get("d")).groups()
        found[path.find("title").text] = (float(x) + 4, float(y) + 4)
    return found


def test_plot():
    value, gradient = panels(REPORT)
    dashed = [float(line.get("y1")) for line in gradient.iter("line") if line.get("class") == "tolerance"]
    shown = points(gradient)
    assert dashed == [48]  # two of six decades below the top, at 8 of 8 to 128
    title = "gradient, {}, {}: {} times the tolerance"
    assert {t: y for t, (_, y) in shown.items()} == {
        title.format("random", "tensorflow", "1.2"): pytest.approx(
            48 - 20 * math.log10(1.234), abs=0.05
        ),  # places have one digit
        title.format("far", "tensorflow", "1e+09"): 8,
        title.format("random", "jax", "0.25"): pytest.approx(48 + 20 * math.log10(4), abs=0.05),  # as above
        title.format("duplicated rows", "jax", "nan"): 8,
    }
    assert len(list(gradient.iter("path"))) == 1  # only what is not finite is a cross
    assert points(value)["value, ties, tensorflow: 0 times the tolerance"][1] == 128
    # Cases from left to right, backends side by side within a case.
    xs = [shown[title.format(*key)][0] for key in (("random", "tensorflow", "1.2"), ("random", "jax", "0.25"))]
    xs += [
        shown[title.format("far", "tensorflow", "1e+09")][0],
        shown[title.format("duplicated rows", "jax", "nan")][0],
    ]
    assert xs == sorted(set(xs))
    labels = [text.text for text in gradient.iter("text") if text.find("title") is not None]
    assert labels == ["random", "far", "duplicated rows"]


def test_plot_of_many_long_cases_stays_in_its_frame():
    errors = {f"a case with a rather long name {i}": 10.0**i for i in range(-100, 100)}
    cells = tuple(Cell("value", backend, "fail", errors=errors) for backend in "abcdef")
    (svg,) = panels(replace(REPORT, cells=cells, versions={}))
    _, _, width, height = map(float, svg.get("viewBox").split())
    assert len(points(svg)) == 1200
    assert all(62 <= x <= width and 8 <= y <= 128 for x, y in points(svg).values())
    labels = [text for text in svg.iter("text") if text.find("title") is not None]
    xs = [float(re.match(r"translate\((\S+)", text.get("transform")).group(1)) for text in labels]
    assert min(b - a for a, b in itertools.pairwise(xs)) >= 12  # pixels between lines of 10
    assert {len(text.text) for text in labels} == {22}
    assert height < 300


def test_known_failures(tmp_path):
    report = report_of(
        listed=["pass", "fail", "pass"],
        everywhere=["pass", "fail", "not applicable"],
        **{"two words": ["fail", "pass", "pass"]},
        healed=["pass", "not checked", "pass"],
        idle=["not applicable", "not checked", "not applicable"],
        other=["pass", "fail", "pass"],
    )
    text = """
        # what fails, and why
        listed jax
        listed torch      # wrong: passes
        everywhere
        two  words tensorflow
        healed
        idle
        idle torch
        other numpy       # no column here
    """
    marked = report.with_known(known(tmp_path, text))
    assert statuses(marked, "listed") == ["pass", "known", "unexpected pass"]
    assert statuses(marked, "everywhere") == ["pass", "known", "not applicable"]
    assert statuses(marked, "two words") == ["known", "pass", "pass"]
    assert statuses(marked, "healed") == ["unexpected pass", "not checked", "unexpected pass"]
    assert statuses(marked, "idle") == statuses(report, "idle")
    assert statuses(marked, "other") == ["pass", "fail", "pass"]
    assert statuses(report, "listed") == ["pass", "fail", "pass"]  # a new report, the old one as it was
    assert [(cell.check, cell.backend) for cell in marked.failures] == [
        ("listed", "torch"),
        ("healed", "tensorflow"),
        ("healed", "torch"),
        ("other", "jax"),
    ]
    assert marked.failures[0].detail == (
        f"Passes, but is listed as a known failure in {tmp_path}/known.txt:4: remove the line."
    )
    assert "PASSES! listed (torch): listed as a known failure\n  Passes" in marked.text()
    assert "Known failures\n  listed, everywhere (jax), two words (tensorflow)\n" in marked.text()


def test_known_failures_make_it_ok_and_can_be_marked_twice(tmp_path):
    listed = known(tmp_path, "gradient\n")
    marked = REPORT.with_known(listed)
    assert marked.ok
    # By their text: an error of NaN equals no other, itself included from Python 3.13 on.
    assert repr(marked.cells[3]) == repr(replace(NAN_JAX, status="known"))
    assert repr(marked.with_known(listed)) == repr(marked)


def test_known_names_a_backend_of_ones_own(tmp_path):
    report = replace(REPORT, versions={}, cells=(Cell("value", "mine", "fail"),))
    assert report.with_known(known(tmp_path, "value mine")).ok


@pytest.mark.parametrize("entry", ["gradeint", "gradeint jax", "gradient jxa", "gradient numpy jax"])
def test_known_failure_of_no_check(tmp_path, entry):
    message = f"{tmp_path}/known.txt:2: expected `CHECK [BACKEND]`, a check of: value, gradient, mask, rank, fit. "
    with pytest.raises(ValueError, match=f"^{re.escape(message)}Received: '{entry}'$"):
        REPORT.with_known(known(tmp_path, f"\n{entry}\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("value\n jax # which?\n", "known.txt:2: expected `CHECK [BACKEND]`. Received no check: 'jax'"),
        ("value jax\n\nvalue  jax\n", "known.txt:3: 'value jax' is already listed in {}/known.txt:1"),
    ],
)
def test_known_lines_that_say_nothing(tmp_path, text, message):
    with pytest.raises(ValueError, match=f"^{re.escape(f'{tmp_path}/' + message.format(tmp_path))}$"):
        known(tmp_path, text)


def test_known_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_known(tmp_path / "absent.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"binary: expected text in UTF-8. Received: invalid start byte$"):
        read_known(tmp_path / "binary")
    assert known(tmp_path, "") == {}


def test_a_cell_has_a_status_and_a_place_of_its_own():
    with pytest.raises(ValueError, match=r"^`status` must be one of \('pass', .*\)\. Received: 'ok'$"):
        Cell("value", "jax", "ok")
    with pytest.raises(ValueError, match=r"^`kind` must be one of \('wrong', .*\), or ''\. Received: 'slow'$"):
        fail("value", "jax", "slow")
    message = r"^`cells` must have one cell per check and backend\. Received twice: gradient, jax$"
    with pytest.raises(ValueError, match=message):
        replace(REPORT, cells=(*CELLS, replace(NAN_JAX, status="pass")))
