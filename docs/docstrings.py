"""What the site changes in docstrings before it renders them; they are written for `help()` too."""

import re
from typing import Any

import griffe

FORMULAS_AND_PROMPTS = re.compile(r"(?:(?<=\n\n)(?: {4}.*(?:\n|$))+|^ *(?:>>>|\.\.\.) .*$)", flags=re.MULTILINE)


class Docstrings(griffe.Extension):
    """Links the names of losses to their pages."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of a module, class, function or attribute."""
        if obj.docstring:
            code = FORMULAS_AND_PROMPTS.findall(obj.docstring.value)
            prose = [linked(part, obj.name) for part in FORMULAS_AND_PROMPTS.split(obj.docstring.value)]
            obj.docstring.value = "".join(a + b for a, b in zip(prose, [*code, ""], strict=True))


def linked(prose: str, here: str) -> str:
    """Return text in which the name of a loss is a link to where it is described, unless that is here."""
    return re.sub(rf"(`(?!{here}`)([A-Z]\w*Loss)`)", r"[\1][multiloss.losses.\2]", prose)
