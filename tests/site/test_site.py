"""The site: built without a warning, whole by itself, every link and anchor there."""

import ast
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
SITE = ROOT / "site"


class Page(HTMLParser):
    """The anchors of a page, what it links to, and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.loaded = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if given.get("src"):
            self.loaded.append(given["src"])
        if tag == "link" and given.get("href") and given.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(given["href"])


@pytest.fixture(scope="module")
def pages():
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    said = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)
    assert done.returncode == 0, said
    assert not re.search(r"(?i)warning|griffe", said), said
    return {path: Page(path.read_text(encoding="utf-8")) for path in sorted(SITE.rglob("*.html"))}


def test_every_page_of_the_sources_is_there(pages):
    sources = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in ROOT.glob("docs/**/*.md")}
    assert sources == {path.relative_to(SITE) for path in pages} - {Path("404.html")}


def test_links_and_their_anchors_exist(pages):
    broken = []
    for path, page in pages.items():
        for target in [*page.links, *page.loaded]:
            place = urlsplit(target)
            if place.scheme or place.netloc or path.name == "404.html":  # it is shown for any address
                continue
            there = (path.parent / unquote(place.path)).resolve() if place.path else path
            there = there / "index.html" if there.is_dir() else there
            anchors = pages[there].anchors if there in pages else set()
            if not there.is_file() or (place.fragment and unquote(place.fragment) not in anchors):
                broken.append((str(path.relative_to(SITE)), target))
    assert not broken


def test_nothing_is_loaded_from_elsewhere(pages):
    elsewhere = {target for page in pages.values() for target in page.loaded if urlsplit(target).netloc}
    assert not elsewhere
    styles = "".join(path.read_text(encoding="utf-8") for path in SITE.rglob("*.css"))
    assert not re.findall(r"url\([\"']?(?:https?:)?//[^)]*", styles)


def test_the_search_knows_every_page(pages):
    text = (SITE / "search.json").read_text(encoding="utf-8")
    for path in pages:
        name = path.relative_to(SITE).as_posix()
        assert name == "404.html" or f'"{name}' in text, name
    for word in ("semi-hard", "clDice", "straight-through", "encode_ids"):
        assert word in text, word


def public(module):
    """The names in `__all__` of a module, which is read and not imported."""
    tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
    lists = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AugAssign)
        and "__all__" in ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
    ]
    return [name for one in lists if isinstance(one, ast.List) for name in ast.literal_eval(one)]


@pytest.mark.parametrize(
    ("home", "modules"),
    [
        ("losses", ["losses.py"]),
        ("metrics", ["metrics.py"]),
        ("oracles", ["oracles/overlap.py", "oracles/pairwise.py"]),
        ("check", ["check/__init__.py"]),
    ],
)
def test_every_public_name_is_described(home, modules, pages):
    names = [name for module in modules for name in public(f"multiloss/{module}")]
    assert len(names) > 5
    anchors = set().union(*(page.anchors for page in pages.values()))
    assert not [name for name in names if f"multiloss.{home}.{name}" not in anchors]
    assert "multiloss.encode_ids" in anchors
