"""Serves exported web pages to the browser; ComfyUI's own /view offers every web page as a download.

    GET    /m2chat/pages/{path}    an .html file below the output folder

Whatever the page holds, it runs no scripts and has no access to ComfyUI or to any other address.
"""

from __future__ import annotations

from pathlib import Path

import folder_paths
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from server import PromptServer

# A page in a sandbox is of no origin: were it not ours, it still could do nothing in ComfyUI's name.
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}


def register() -> None:
    """Register these routes with ComfyUI's server."""
    PromptServer.instance.routes.get("/m2chat/pages/{path:.+}")(show_page)


class SandboxedPage(web.FileResponse):
    """A file served with these headers, even if ComfyUI sets its own policy (as with --disable-api-nodes)."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Set the headers last, when nothing else changes them."""
        self.headers.update(HEADERS)
        return await super().prepare(request)


async def show_page(request: web.Request) -> web.StreamResponse:
    """Return a page; 404 for anything but a web page below the output folder."""
    output = Path(folder_paths.get_output_directory()).resolve()
    try:
        page = (output / request.match_info["path"]).resolve()
        if page.suffix != ".html" or not page.is_relative_to(output) or not page.is_file():
            raise web.HTTPNotFound
    except (OSError, ValueError) as error:  # a name that no file can have
        raise web.HTTPNotFound from error
    return SandboxedPage(page)
