"""What the latest runs have told and painted so far, for a page that has stopped its run before it was saved."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from weakref import ref

from comfy_execution.utils import get_executing_context

from ..m3adapter.conversation.conversation import Conversation

MOST = 2  # runs; a page asks for its own at once

_kept: OrderedDict[str, Callable[[], Conversation | None]] = OrderedDict()  # by prompt
_lock = threading.Lock()  # nodes run in one thread, routes in another


def keep(conversation: Conversation | None, *, done: bool) -> None:
    """Keep what the running prompt has told; None keeps what its earlier nodes have told.

    The conversation of a node that is done is held weakly, since ComfyUI holds it among the node's outputs.
    """
    context = get_executing_context()
    if conversation is None or context is None:
        return
    with _lock:
        _kept[context.prompt_id] = ref(conversation) if done else lambda: conversation
        while len(_kept) > MOST:
            _kept.popitem(last=False)


def told(prompt: str) -> Conversation | None:
    """Return what a prompt had told; None if nothing."""
    with _lock:
        return _kept.get(prompt, lambda: None)()


def forget(prompt: str | None = None) -> None:
    """Forget a prompt, by default the running one, because it has been saved."""
    context = get_executing_context()
    with _lock:
        _kept.pop(prompt or str(getattr(context, "prompt_id", "")), None)
