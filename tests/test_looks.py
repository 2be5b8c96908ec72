"""The tests see the page that they ask for: each front end, and each way of drawing nodes."""

from __future__ import annotations

from playwright.sync_api import Page

import looks
from tools import environment


def pinned() -> str:
    """The version in front_end.txt."""
    line = environment.FRONT_END_PIN.read_text("utf-8").splitlines()[-1]
    return line.split()[0].partition("==")[2]


def test_a_page_has_the_front_end_and_the_nodes_that_were_asked_for(look_page: Page, look: looks.Look) -> None:
    page = look_page
    version = page.evaluate("window.__COMFYUI_FRONTEND_VERSION__")
    assert (version == pinned()) == look.newest and version
    page.evaluate("app.graph.clear(); void app.graph.add(LiteGraph.createNode('M2Chat_LoadStarter'))")
    page.wait_for_timeout(500)
    assert page.locator("[data-node-id]").count() == look.nodes_2
    # The pack's own scripts come from the server, whatever the front end.
    assert page.evaluate("app.extensions.filter(each => each.name.startsWith('M2Chat')).length") >= 2
