"""Names of files and folders as people give them: what stands between percent signs, and what every system can keep."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from ..values import shown

MAX_BYTES = 200  # of a folder's name: file systems take 255, and a number comes behind it

_DATE = re.compile(r"d{1,2}|M{1,2}|h{1,2}|m{1,2}|s{1,2}|y{2,4}")
_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)


def dated(pattern: str, now: datetime) -> str:
    """A date by a pattern such as `yyyy-MM-dd` or `hh_mm_ss`; one letter leaves out leading zeros. The rest stays."""
    parts = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def part(found: re.Match[str]) -> str:
        letters = found[0]
        if letters[0] == "y":
            return {"yyyy": f"{now.year:04}", "yy": f"{now.year % 100:02}"}.get(letters, letters)
        return str(parts[letters[0]]).zfill(len(letters))

    return _DATE.sub(part, pattern)


def filled(prefix: str, now: datetime, widget: Callable[[str, str], Any]) -> str:
    """A prefix with its `%date:…%` and `%node.widget%` filled in, as ComfyUI's page does it for Save Image.

    `widget(node, name)` is a value, or None where there is no such widget: it then stays as it was written. So does
    what the engine itself fills in, `%year%` or `%width%`.
    """

    def fill(found: re.Match[str]) -> str:
        inside = found[1]
        if inside.startswith("date:"):
            return dated(inside[len("date:") :], now)
        if inside == "batch_num":
            return "0"  # a story is one
        node, dot, name = inside.partition(".")
        value = widget(node, name) if dot else None
        return found[0] if value is None else re.sub(r"[/\\]", "_", str(value))

    return re.sub("%([^%]+)%", fill, prefix)


def widget_of(prompt: Mapping[str, Any] | None, workflow: Mapping[str, Any] | None) -> Callable[[str, str], Any]:
    """What `filled` asks for a widget's value: by a node's name for search and replace, by its title, or by its type.

    Args:
        prompt: What was queued, node by node.
        workflow: What the page has drawn; None where there is no page.
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
    """A path below some folder, of names that every system can keep; what Windows cannot becomes an underscore.

    Raises ValueError, one sentence: it leads out of the folder, or a name is too long.
    """
    parts = [part if part in (".", "..") else _portable(part) for part in re.split(r"[/\\]", prefix)]
    path = posixpath.normpath("/".join(parts))
    if path.startswith(("/", "..")):
        raise ValueError(f"filename_prefix is {shown(prefix)}, which is outside the output folder: name one below it.")
    return "story" if path == "." else path


def _portable(name: str) -> str:
    name = _FORBIDDEN.sub("_", name).rstrip(" .")
    if len(name.encode("utf-8", "replace")) > MAX_BYTES:
        raise ValueError(f"filename_prefix has the name {shown(name)}, which is too long: {MAX_BYTES} bytes are most.")
    return f"_{name}" if _RESERVED.fullmatch(name) else name
