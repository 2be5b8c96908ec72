"""The character sheet of a story: what its characters always look like, a line for each, as text.

Painters that have no references keep a character by it: captions carry the looks of those whom they name, see
`cast.with_looks`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..values import shown
from .cast import MAX_LOOKS, MAX_NAME, Character, plain
from .outline import unmarked

MOST = 16  # characters
_LINE = re.compile(r"^[*_\"“]*(?P<name>[^:：]{1,80}?)[*_\"”]*\s*[:：]\s*[*_]*\s*(?P<looks>.+)$")


def looks_of(text: str) -> dict[str, str]:
    """Return the looks of characters by name from the lines of a sheet, such as `Rosa: a small red fox`.

    Blank lines, bullets, numbers and emphasis are dropped.

    Raises:
        ValueError: A line has no name, a name comes twice, or there are too many or too long lines.
    """
    looks: dict[str, str] = {}
    for line in filter(str.strip, text.splitlines()):
        match = _LINE.match(unmarked(line))
        if match is None:
            raise ValueError(f"The character sheet has the line {shown(line.strip())}: write it as name: looks.")
        name, said = match["name"].strip(" *_"), match["looks"].strip(" *_")
        if any(plain(name) == plain(other) for other in looks):
            raise ValueError(f"The character sheet describes {name} twice: join the two lines.")
        looks[Character(name, looks=said).name] = said  # which checks both
    if len(looks) > MOST:
        raise ValueError(f"The character sheet has {len(looks)} characters: describe at most {MOST}.")
    return looks


def sheet(cast: Sequence[Character]) -> str:
    """Return a line for each character: its name and its looks."""
    return "\n".join(f"{character.name}: {character.looks}".rstrip(" ") for character in cast)


def described_in(text: str) -> dict[str, str]:
    """Return the looks of characters in what a model wrote; lines that are no descriptions are left out."""
    looks: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.match(unmarked(line))
        if match is None:
            continue
        name, said = match["name"].strip(" *_"), " ".join(match["looks"].strip(" *_`").split())
        if name and len(name) <= MAX_NAME and said and not any(plain(name) == plain(other) for other in looks):
            looks[name] = said.rstrip(" .")
    return looks


def shortened(text: str) -> str:
    """Return as much of a description as fits, up to a comma if there is one."""
    cut = text[:MAX_LOOKS].rsplit(" ", 1)[0]
    return (cut.rsplit(",", 1)[0] if "," in cut else cut).rstrip(" ,.;")
