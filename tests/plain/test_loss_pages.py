"""Each loss has a page, a picture, a line in the table of losses, a place in the navigation; nothing else has."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "losses"
NAVIGATION = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
BASES = {"OverlapLoss", "PairwiseLoss"}  # described by `options.md`
WITHOUT_LOSS = {"index", "options"}


def page_of(loss):
    """Return the name of a loss in Keras, without `_loss`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", loss.removesuffix("Loss")).lower()


def public():
    """Return the losses that `multiloss.losses` exports, each with the functions of its line of `__all__`."""
    found = {}
    for node in ast.parse((ROOT / "multiloss" / "losses.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AugAssign) and node.target.id == "__all__":
            names = ast.literal_eval(node.value)
            losses = [name for name in names if name.endswith("Loss") and name not in BASES]
            functions = [name for name in names if name.islower()]
            for loss in losses:  # with two losses in a line, each has the function of its own name
                mine = [name for name in functions if name == page_of(loss)]
                found[loss] = mine if len(losses) > 1 else functions
    return found


LOSSES = public()


def test_the_losses_of_the_package_are_found():
    assert LOSSES["DiceLoss"] == ["dice"]
    assert LOSSES["DiceFocalLoss"] == ["dice_focal"]
    assert LOSSES["BatchDiceLoss"] == ["dice_coef", "dice_loss"]
    source = (ROOT / "multiloss" / "losses.py").read_text(encoding="utf-8").split("__all__", 1)[1]
    exported = set(re.findall(r'"([^"]+)"', source)) - {"Counts", "exact_labels"}
    exported = {name for name in exported if not name.endswith("Options")} - BASES
    assert exported == {name for loss, functions in LOSSES.items() for name in (loss, *functions)}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_has_a_page_a_picture_and_a_place_in_table_and_navigation(loss):
    page = page_of(loss)
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    names = {loss, *LOSSES[loss]}
    assert set(text.split("\n", 1)[0].removeprefix("# ").split(", ")) == names
    assert set(re.findall(r"^::: multiloss\.losses\.(\w+)$", text, flags=re.MULTILINE)) == names
    assert re.search(rf"!\[[^\]]+\]\({page}\.svg\)", text)
    assert 0 < (PAGES / f"{page}.svg").stat().st_size < 40_000
    rows = [line for line in (PAGES / "index.md").read_text(encoding="utf-8").splitlines() if f"`{loss}`]" in line]
    assert len(rows) == 1
    assert f"({page}.md)" in rows[0]
    assert all(f"`{name}`" in rows[0] for name in names)
    assert len(re.findall(rf"- {loss}: losses/{page}\.md$", NAVIGATION, flags=re.MULTILINE)) == 1


def test_there_is_no_page_or_picture_or_entry_without_a_loss():
    pages = {page_of(loss) for loss in LOSSES}
    assert {path.stem for path in PAGES.glob("*.md")} == pages | WITHOUT_LOSS
    assert {path.stem for path in PAGES.glob("*.svg")} == pages
    assert set(re.findall(r"losses/(\w+)\.md", NAVIGATION)) == pages | WITHOUT_LOSS
    table = (PAGES / "index.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\((\w+)\.md\) \|", table)) == pages


@pytest.mark.parametrize("page", sorted(path.name for path in PAGES.glob("*.md")))
def test_links_of_the_pages_exist(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (PAGES / page).read_text(encoding="utf-8")):
        assert (PAGES / target).exists(), target
