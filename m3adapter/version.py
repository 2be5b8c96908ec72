"""The version of the library: the one that pyproject.toml states, where the Comfy registry reads it as well."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

DISTRIBUTION = "m2chat"


def read_version(root: Path) -> str:
    """Return the version that the pyproject.toml of a folder states, or else that of the installed wheel."""
    project = root / "pyproject.toml"
    if project.is_file():  # a checkout, or the pack in custom_nodes
        text = project.read_text("utf-8")
        if match := re.search(rf'^name = "{DISTRIBUTION}"\nversion = "([^"]+)"$', text, re.MULTILINE):
            return match[1]
    return importlib.metadata.version(DISTRIBUTION)


__version__ = read_version(Path(__file__).resolve().parent.parent)
