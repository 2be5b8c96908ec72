"""What the latest runs have told and painted so far, for a page that has stopped its run before it was saved."""

from __future__ import annotations

import threading
from collections import OrderedDict

from comfy_execution.utils import get_executing_context

from ..m3adapter.conversation.conversation import Conversation

MOST = 4  # runs; a page asks for its own at once

_kept: OrderedDict[str, Conversation] = OrderedDict()  # by prompt
_lock = threading.Lock()  # nodes run in one thread, routes in another


def keep(conversation: Conversation | None) -> None:
    """Keep what the running prompt has told; None keeps what its earlier nodes have told."""
    context = get_executing_context()
    if conversation is None or context is None:
        return
    with _lock:
        _kept[context.prompt_id] = conversation
        while len(_kept) > MOST:
            _kept.popitem(last=False)


def told(prompt: str) -> Conversation | None:
    """Return what a prompt had told; None if nothing."""
    with _lock:
        return _kept.get(prompt)


def forget(prompt: str | None = None) -> None:
    """Forget a prompt, by default the running one, because it has been saved."""
    context = get_executing_context()
    with _lock:
        _kept.pop(prompt or str(getattr(context, "prompt_id", "")), None)
