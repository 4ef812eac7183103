"""What a package index shows: project URLs, and the README with links that work there.

Both follow from `home` in pyproject.toml, the address of the repository, which a publisher fills in. Without it there
are no URLs, and what would be a link or a picture in the README is plain text or left out.
"""

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface


class CustomMetadataHook(MetadataHookInterface):
    """Fills in `readme` and `urls`."""

    def update(self, metadata):
        """Add to the metadata."""
        home = self.config["home"].rstrip("/")
        text = described((Path(self.root) / "README.md").read_text(encoding="utf-8"), home)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = urls(home)


def urls(home):
    """Return the project URLs."""
    if not home:
        return {}
    pages = {"Documentation": "tree/main/docs", "Changelog": "blob/main/CHANGELOG.md", "Issues": "issues"}
    return {"Homepage": home, **{name: f"{home}/{page}" for name, page in pages.items()}}


def described(text, home):
    """Return the README with absolute links, or without relative ones if there is no address."""

    def link(match):
        image, words, target = match.groups()
        if target.startswith("https://"):
            return match[0]
        if not home:
            return "" if image else words
        return f"{image}[{words}]({home}/{'raw' if image else 'blob'}/main/{target})"

    return re.sub(r"(!?)\[([^\]]*)\]\(([^)]+)\)", link, text)
