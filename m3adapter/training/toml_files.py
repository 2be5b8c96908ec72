"""Texts in TOML: read in whatever encoding an editor writes, parsed, and single values written."""

from __future__ import annotations

import codecs
import datetime
import json
import math
import re
from pathlib import Path
from typing import Any

from ..arguments import UserError


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, or in UTF-16, which `>` writes in Windows' own PowerShell.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is in another encoding.
    """
    with path.open("rb") as file:
        start = file.read(2)
    return path.read_text("utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig")


def parsed(text: str) -> dict[str, Any]:
    """Return the tables of a text.

    Raises:
        UserError: This Python needs a package for it.
        ValueError: It is no TOML.
    """
    try:
        import tomllib  # type: ignore[import-not-found,unused-ignore]
    except ModuleNotFoundError:  # before Python 3.11
        try:
            import tomli as tomllib  # type: ignore[no-redef,import-not-found]
        except ModuleNotFoundError as error:
            raise UserError(
                "Recipes need Python 3.11, or the package tomli: install it with `pip install tomli`."
            ) from error
    return tomllib.loads(text)


def written(value: Any) -> str:
    """Return a value as `parsed` reads it, on one line."""
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(key)} = {written(entry)}" for key, entry in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, (datetime.date, datetime.time)):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # which JSON has in texts and TOML has not


def _key(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else written(text)
