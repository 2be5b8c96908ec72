"""What was read of a data set, and what was left out and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MAX_LINE = 200  # characters of a place or a detail
SHOWN = 5  # places that are named of what was left out for the same reason


@dataclass
class LeftOut:
    """How much was left out for one reason, and where the first of it stands."""

    count: int = 0
    places: list[str] = field(default_factory=list)


@dataclass
class Report:
    """What was read of a data set, and what was left out.

    Attributes:
        path: The data set.
        kind: Its layout.
        split: The part of it that was read; "" for all of it.
        samples: The number of samples.
        conversations: The number of conversations (or single pictures) that they stand in.
        pictures: The number of picture files that were looked at.
        left_out: What was left out, by the reason as a phrase after "left out, because".
    """

    path: str = ""
    kind: str = ""
    split: str = ""
    samples: int = 0
    conversations: int = 0
    pictures: int = 0
    left_out: dict[str, LeftOut] = field(default_factory=dict)

    def leave_out(self, reason: str, place: str, detail: str = "", *, count: int = 1) -> None:
        """Count something that is left out; `place` and `detail` name it if it is among the first."""
        found = self.left_out.setdefault(reason, LeftOut())
        found.count += count
        if len(found.places) < SHOWN:
            place, detail = _line(place), _line(detail).rstrip(".")
            found.places.append(place if not detail or place.endswith(detail) else f"{place} ({detail})")

    @property
    def count(self) -> int:
        """How much was left out in all."""
        return sum(found.count for found in self.left_out.values())

    def lines(self) -> list[str]:
        """Return the report as lines for people, the most frequent reason first."""
        part = f", {self.split}" if self.split else ""
        lines = [f"{self.path} ({self.kind}{part}): {self.samples} samples in {self.conversations} conversations"]
        for reason, found in sorted(self.left_out.items(), key=lambda item: -item[1].count):
            more = ", …" if found.count > len(found.places) else ""
            lines.append(f"  left out {found.count}, because {reason}: {'; '.join(found.places)}{more}")
        return lines

    def __str__(self) -> str:
        """The lines as one text."""
        return "\n".join(self.lines())

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        left_out = {reason: {"count": f.count, "places": list(f.places)} for reason, f in self.left_out.items()}
        counts = {"samples": self.samples, "conversations": self.conversations, "pictures": self.pictures}
        return {"path": self.path, "kind": self.kind, "split": self.split, **counts, "left_out": left_out}


def _line(text: str) -> str:
    """Return a text on one line that any terminal and file takes: names of files may hold anything."""
    text = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= MAX_LINE else f"{text[: MAX_LINE - 1]}…"
