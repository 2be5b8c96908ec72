"""What ComfyUI's page can look like: its front ends, and the two ways in which each draws nodes.

A browser test that takes the fixture ``look`` is written for all four of them, or for those that it names::

    @pytest.mark.parametrize("look", looks.FRONT_ENDS, ids=str, indirect=True)

``python run.py test --all`` runs it in each. Otherwise the tests of a file run in one, which differs between files, so
that both front ends and both ways of drawing are seen in every run; with ``@pytest.mark.both_looks`` they run in two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@dataclass(frozen=True)
class Look:
    """One way in which people see ComfyUI.

    Attributes:
        newest: the newest front end; otherwise the one that the engine asks for.
        nodes_2: nodes as Nodes 2.0 draws them; otherwise the classic canvas.
    """

    newest: bool = False
    nodes_2: bool = False

    def __str__(self) -> str:
        return f"{'newest' if self.newest else 'own'}-{'nodes2' if self.nodes_2 else 'classic'}"

    @property
    def headers(self) -> dict[str, str]:
        """What the page's requests say, so that it gets its front end: see front_ends.py."""
        return {"M2Chat-Newest-Front-End": "1"} if self.newest else {}

    def new_page(self, browser: Browser, url: str, width: int = 1280, height: int = 720) -> Page:
        """An empty page, in this look, of a browser that has never opened ComfyUI."""
        return chromium.new_page(browser, url, width, height, headers=self.headers)

    def open(self, browser: Browser, url: str, width: int = 1280, height: int = 720) -> Page:
        """Open ComfyUI's page in this look and return it when it is ready for use."""
        return chromium.open_page(browser, url, width, height, headers=self.headers, nodes_2=self.nodes_2)


ALL = [Look(newest, nodes_2) for newest in (False, True) for nodes_2 in (False, True)]
FRONT_ENDS = [Look(newest) for newest in (False, True)]
RENDERERS = [Look(nodes_2=nodes_2) for nodes_2 in (False, True)]
# As they come: Nodes 2.0 is what the newest front end begins with.
USUAL = [Look(), Look(newest=True, nodes_2=True)]


def chosen(file: str, among: Sequence[Look], both: bool = False) -> list[Look]:
    """The looks in which a file's tests run by default, of those that they are written for: one, or both usual ones."""
    among = list(dict.fromkeys(among))
    usual = [look for look in among if look in USUAL] if len(among) > len(USUAL) else among
    return usual if both else [usual[sum(file.encode()) % len(usual)]]
