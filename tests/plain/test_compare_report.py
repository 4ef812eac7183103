"""The report of a comparison by itself: no model, no backend, cells written by hand."""

import json
import math
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from multiloss.check import Cell, Comparison
from multiloss.check.models.report import STAGES

BACKENDS = ("tensorflow", "jax", "torch")
LINE = "multiloss compare m:build --data m:batches --steps 3"


def row(stage, error=1e-7, case="hidden", **off):
    """The cells of a stage; those of `off` fail with these details."""
    good = {"hidden": 0.1, "late": error / 1e-6}
    bad = (1e-2, 1e-6, "late", LINE, {"hidden": 0.1, "late": 1e4}, "wrong", "x = np.ones(1)")
    return [
        Cell(stage, b, "fail", off[b], *bad) if b in off else Cell(stage, b, "pass", "", error, 1e-6, case, errors=good)
        for b in BACKENDS
    ]


def comparison(*cells, **options):
    runs = [Cell("runs", b, "pass") for b in BACKENDS if b not in [c.backend for c in cells if c.check == "runs"]]
    made = Comparison(
        build="m:build",
        data="m:batches",
        seed=7,
        steps=3,
        versions={b: f"{b} 1.0, keras 3.15.1" for b in BACKENDS},
        cells=(*runs, *cells),
        curves={b: [1.0, 0.5, 0.25] for b in BACKENDS},
        notes=("`drop` (Dropout) draws random numbers.",),
        seconds=12.34,
    )
    return replace(made, **options)


NONE = [Cell("metrics", b, "not applicable", "there is none") for b in BACKENDS]
AGREES = comparison(*row("forward", 3e-7, "late"), *NONE, *row("curve"))
PARTS = comparison(
    *row("forward", torch="`late` (Dense, [4, 8] -> [4, 1]) is the first layer that differs"),
    *row("loss", torch="follows from `forward`"),
    *row("curve", torch="follows from `forward`"),
)
TEXT = """\
PARTS: m:build: torch at `forward`, late.

error / tolerance  tensorflow  jax     torch
runs               ok          ok      ok
forward            ok 0.1      ok 0.1  FAIL 1e+04
loss               ok 0.1      ok 0.1  FAIL 1e+04
curve              ok 0.1      ok 0.1  FAIL 1e+04

FAIL forward (torch): wrong numbers
  `late` (Dense, [4, 8] -> [4, 1]) is the first layer that differs
  error 0.01, tolerance 1e-06 (ratio 1e+04), case 'late', seed 7
  x = np.ones(1)
  multiloss compare m:build --data m:batches --steps 3

Notes
  `drop` (Dropout) draws random numbers.

model       m:build
data        m:batches, seed 7
steps       3
rounding    6e-08 (float32)
tensorflow  tensorflow 1.0, keras 3.15.1
jax         jax 1.0, keras 3.15.1
torch       torch 1.0, keras 3.15.1
time        12.3 s
"""


def test_the_text_is_verdict_table_and_what_parts_first():
    assert PARTS.text() == TEXT.removesuffix("\n")


def test_what_agrees_is_said_with_the_worst():
    assert AGREES.ok
    assert AGREES.exit_code == 0
    assert AGREES.verdict == (
        "AGREES: m:build: 3 steps on tensorflow, jax, torch differ by rounding: at most 0.3 of what it explains, at "
        "`forward` (late)."
    )
    assert not AGREES.failures
    assert "there is none" in AGREES.text()


def test_stages_that_follow_are_in_the_table_and_not_below_it():
    assert not PARTS.ok
    assert PARTS.exit_code == 1
    assert [cell.check for cell in PARTS.failures] == ["forward", "loss", "curve"]
    assert {backend: cell.check for backend, cell in PARTS.first.items()} == {"torch": "forward"}
    assert "follows from" not in PARTS.text()


def test_the_first_stage_is_first_whatever_the_order_of_cells():
    shuffled = replace(PARTS, cells=PARTS.cells[::-1])
    assert shuffled.first["torch"].check == "forward"
    assert list(shuffled._contents().rows) == ["runs", "forward", "loss", "curve"]
    assert STAGES.index("deterministic") < STAGES.index("forward") < STAGES.index("gradient") < STAGES.index("step")


VERDICTS = {
    "two at one": (row("loss", jax="a", torch="b"), "PARTS: m:build: jax and torch at `loss`, late."),
    "two at two": (
        [*row("loss", torch="a"), *row("step", jax="b", torch="follows")],
        "PARTS: m:build: torch at `loss`, late; jax at `step`, late.",
    ),
    "did not run": ([Cell("runs", "torch", "fail", "killed", kind="crash")], "FAILS: m:build: torch did not run."),
    "one of each": (
        [Cell("runs", "torch", "fail", "killed", kind="crash"), *row("step", jax="b")[:2]],
        "PARTS: m:build: torch did not run; jax at `step`, late.",
    ),
    "without a case": ([Cell("data", "jax", "fail", "other rows")], "PARTS: m:build: jax at `data`."),
    "no comparison": (row("curve")[:1], "NOTHING WAS COMPARED: m:build."),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_the_verdict_is_one_line(name):
    cells, verdict = VERDICTS[name]
    report = comparison(*cells)
    assert report.verdict == verdict
    assert not report.ok
    assert report.text().splitlines()[0] == report.verdict


def test_names_may_hold_anything():
    report = replace(PARTS, build="m:build('a\nb\x1b[31m<b>&')")
    assert "\n" not in report.verdict
    assert "\x1b" not in report.text()
    assert "<b>&" not in report.html().replace('<b class="', "")
    assert "&lt;b&gt;&amp;" in report.html()


def test_a_backend_that_is_not_there_is_told():
    report = replace(AGREES, unchecked={"openvino": "not installed: pip install openvino"})
    assert "openvino: not installed" in report.text()
    assert report.as_dict()["unchecked"] == {"openvino": "not installed: pip install openvino"}


# --- JSON ------------------------------------------------------------------------------------------------------------


def strict(text):
    return json.loads(text, parse_constant=pytest.fail)


def test_json_has_every_attribute():
    report = strict(PARTS.json())
    assert set(report) == {
        *("schema", "ok", "verdict", "build", "data", "seed", "steps", "versions", "cells", "curves", "notes"),
        *("unchecked", "seconds", "recorded", "rounding"),
    }
    assert report["schema"] == 1
    assert report["ok"] is False
    assert report["verdict"] == PARTS.verdict
    assert report["curves"]["jax"] == [1.0, 0.5, 0.25]
    assert report["seconds"] == 12.34
    cell = next(cell for cell in report["cells"] if cell["status"] == "fail")
    assert Cell(**cell) == PARTS.first["torch"]


def test_json_has_no_infinities_and_no_nan():
    bad = Cell("curve", "jax", "fail", "NaN", math.nan, 1e-6, "loss", errors={"loss": math.inf}, kind="nan")
    report = strict(replace(PARTS, cells=(bad,), curves={"jax": [1.0, math.nan, -math.inf]}).json())
    assert report["cells"][0]["error"] == "nan"
    assert report["cells"][0]["errors"] == {"loss": "inf"}
    assert report["curves"] == {"jax": [1.0, "nan", "-inf"]}


# --- HTML and the picture --------------------------------------------------------------------------------------------


def drawings(report):
    """The drawings of the page, as XML."""
    return [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", report.html(), flags=re.DOTALL)]


def lines(report):
    (drawing,) = [one for one in drawings(report) if one.get("aria-label") == "loss of each step"]
    return {
        line.find("title").text: [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        for line in drawing.findall("polyline")
    }


class Words(HTMLParser):
    """The text of a page."""

    def __init__(self, page):
        super().__init__()
        self.words = []
        self.feed(page)

    def handle_data(self, data):
        self.words.append(data)


def test_html_has_what_the_text_has():
    words = " ".join(" ".join(Words(PARTS.html()).words).split())
    for part in ("multiloss compare: m:build", "torch at `forward`, late.", "FAIL 1e+04", "x = np.ones(1)", LINE):
        assert part in words
    assert "`drop` (Dropout) draws random numbers." in words
    assert "keras 3.15.1" in words
    assert "<script" not in PARTS.html()
    assert not re.search(r"(src|href)=", PARTS.html())


def test_html_has_the_curve_of_each_backend():
    curves = lines(replace(PARTS, curves={"jax": [3.0, 2.0, 1.0], "torch": [3.0, 3.0, 1.0]}))
    assert list(curves) == ["jax", "torch"]
    (left, top), (middle, half), (right, bottom) = curves["jax"]
    assert left < middle < right
    assert top < half < bottom  # downwards
    assert curves["torch"][1] == (middle, top)


@pytest.mark.parametrize("curve", [[1.0, math.nan, 2.0], [math.inf] * 3, [math.nan], [0.5], []])
def test_a_curve_may_have_any_numbers(curve):
    finite = [value for value in curve if math.isfinite(value)]
    assert len(lines(replace(PARTS, curves={"jax": curve}))["jax"]) == len(finite)


def test_without_curves_none_is_drawn():
    assert "Loss of each step" not in replace(PARTS, curves={}).html()


def test_the_picture_says_what_it_needs(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'the picture needs matplotlib: pip install "multiloss\[picture\]"'):
        PARTS.picture(tmp_path / "x.png")
