"""What ComfyUI's page can look like: its front ends, and the two ways in which each draws nodes.

A browser test that takes the fixture ``look`` runs in two of them, which have both front ends and both ways of drawing
between them, or in all four with ``M2CHAT_ALL_LOOKS=1``. It can name others::

    @pytest.mark.parametrize("look", looks.FRONT_ENDS, ids=str, indirect=True)
"""

from __future__ import annotations

import os
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
USUAL = ALL if os.environ.get("M2CHAT_ALL_LOOKS") else [Look(), Look(newest=True, nodes_2=True)]
