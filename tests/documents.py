"""README and the pages of the site, and the code in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md"))]
# What makes a block one for a process of its own.
NAMED = re.compile(r'os\.environ\["KERAS_BACKEND"\] = "(\w+)"')


def blocks(page, *languages):
    """The code of a page in some languages, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```$", text, flags=re.MULTILINE | re.DOTALL)
    return [re.sub(f"^{indent}", "", body, flags=re.MULTILINE) for indent, name, body in found if name in languages]
