"""A custom node of the tests' ComfyUI that serves front ends as a browser can keep them, and the newest one on request.

ComfyUI forbids browsers to keep its scripts, so that each page reads and compiles 20 MB of them; most of what opening
one costs. What lies below /assets has its contents' hash in its name, and never changes.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web
from server import PromptServer

# Set to anything by a page that is to have the newest front end: see chromium.py.
HEADER = "M2Chat-Newest-Front-End"
NEWEST = Path(os.environ.get("M2CHAT_HOME", Path(__file__).resolve().parents[1] / ".run"), "front-end")
FOR_EVER = "public, max-age=31536000, immutable"
# The engine would answer to these, and would do so even if the newest front end had none.
ENTRIES = ("/", "/index.html")

NODE_CLASS_MAPPINGS: dict[str, type] = {}


@web.middleware
async def front_ends(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer with a file of the newest front end where that is asked for, and let browsers keep what never changes."""
    newest = HEADER in request.headers and request.method == "GET"
    path = NEWEST / ("index.html" if request.path in ENTRIES else request.path.lstrip("/"))
    # The packs' own files lie beside those of the front end, below /extensions.
    response = web.FileResponse(path) if newest and path.is_file() else await handler(request)
    if request.path.startswith("/assets/") and response.status == 200:
        response.headers["Cache-Control"] = FOR_EVER
    return response


PromptServer.instance.app.middlewares.append(front_ends)
