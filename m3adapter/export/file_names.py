"""Names of exported files and folders: filling in placeholders, and keeping to what every file system accepts."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from ..values import shown

MAX_BYTES = 200  # of a folder's name: file systems allow 255, and a number is appended

_DATE = re.compile(r"d{1,2}|M{1,2}|h{1,2}|m{1,2}|s{1,2}|y{2,4}")
_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)


def dated(pattern: str, now: datetime) -> str:
    """Format a date by a pattern such as `yyyy-MM-dd` or `hh_mm_ss`.

    A single letter omits leading zeros; everything else in the pattern is kept.
    """
    parts = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def part(match: re.Match[str]) -> str:
        letters = match[0]
        if letters[0] == "y":
            return {"yyyy": f"{now.year:04}", "yy": f"{now.year % 100:02}"}.get(letters, letters)
        return str(parts[letters[0]]).zfill(len(letters))

    return _DATE.sub(part, pattern)


def filled(prefix: str, now: datetime, widget: Callable[[str, str], Any]) -> str:
    """Fill in the `%date:…%` and `%node.widget%` of a prefix, as ComfyUI's page does for Save Image.

    Placeholders that the engine fills in, such as `%year%` or `%width%`, are kept.

    Args:
        prefix: A file name with placeholders.
        now: The date and time.
        widget: Returns the value of a node's widget by their names, or None if there is no such widget; its
            placeholder is then kept.
    """

    def fill(match: re.Match[str]) -> str:
        inside = match[1]
        if inside.startswith("date:"):
            return dated(inside[len("date:") :], now)
        if inside == "batch_num":
            return "0"  # a story is a single batch
        node, dot, name = inside.partition(".")
        value = widget(node, name) if dot else None
        return match[0] if value is None else re.sub(r"[/\\]", "_", str(value))

    return re.sub("%([^%]+)%", fill, prefix)


def widget_of(prompt: Mapping[str, Any] | None, workflow: Mapping[str, Any] | None) -> Callable[[str, str], Any]:
    """Return the function by which `filled` looks up the value of a widget.

    A node is found by its name for search and replace, by its title, or by its type.

    Args:
        prompt: The queued graph in API format.
        workflow: The workflow as the page saves it; None if the graph was not queued by a page.
    """
    prompt = prompt or {}
    drawn = [node for node in (workflow or {}).get("nodes") or () if isinstance(node, Mapping)]

    def called(name: str) -> list[str]:
        searched = [node for node in drawn if (node.get("properties") or {}).get("Node name for S&R") == name]
        titled = [node for node in drawn if node.get("title") == name]
        queued = [key for key, node in prompt.items() if (node.get("_meta") or {}).get("title") == name]
        typed = [key for key, node in prompt.items() if node.get("class_type") == name]
        return [*(str(node.get("id")) for node in (*searched, *titled)), *queued, *typed]

    def widget(name: str, field: str) -> Any:
        for key in called(name):
            value = prompt.get(key, {}).get("inputs", {}).get(field)
            if isinstance(value, (str, int, float)):
                return value
        return None

    return widget


def portable(prefix: str) -> str:
    """Make a relative path valid on every system; what Windows does not accept becomes an underscore.

    Raises:
        ValueError: The path leads out of its folder, or a name is too long.
    """
    parts = [part if part in (".", "..") else _portable(part) for part in re.split(r"[/\\]", prefix)]
    path = posixpath.normpath("/".join(parts))
    if path.startswith(("/", "..")):
        raise ValueError(
            f"filename_prefix is {shown(prefix)}, which is outside the output folder: choose one inside it."
        )
    return "story" if path == "." else path


def _portable(name: str) -> str:
    name = _FORBIDDEN.sub("_", name).rstrip(" .")
    if len(name.encode("utf-8", "replace")) > MAX_BYTES:
        raise ValueError(
            f"filename_prefix has the name {shown(name)}, which is too long: use at most {MAX_BYTES} bytes."
        )
    return f"_{name}" if _RESERVED.fullmatch(name) else name
