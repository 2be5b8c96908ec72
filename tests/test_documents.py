"""The documents and help pages: the files that they name and link exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import environment

DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "web/docs/*.md", "workflows/*.md", "tools/templates/**/*.md")
    for path in environment.REPO.glob(pattern)
)
NAMED = re.compile(r"`((?:docs|locales|m3adapter|nodes|subgraphs|tests|tools|web|workflows)/[\w./-]+)`")
LINKED = re.compile(r"\]\((?!\w+:)([^)#\s]+)")


def name(path: Path) -> str:
    """The id of a document."""
    return path.relative_to(environment.REPO).as_posix()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_named_and_linked_files_exist(document: Path) -> None:
    text = document.read_text("utf-8")
    missing = [path for path in NAMED.findall(text) if not (environment.REPO / path).exists()]
    missing += [path for path in LINKED.findall(text) if not (document.parent / path).exists()]
    assert not missing
