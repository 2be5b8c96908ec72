"""Where the sessions of ComfyUI's users are."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from server import PromptServer

from ..m3adapter.conversation.sessions import Sessions
from ..m3adapter.values import shown

FOLDER = "m2chat/sessions"  # below the folder of a user
DEFAULT_USER = "default"


def check_user(user: str) -> None:
    """Raise ValueError unless `user` is empty or the id of a user known to ComfyUI."""
    if user and user not in PromptServer.instance.user_manager.users:
        raise ValueError(f"user is {shown(user)}, but this ComfyUI has no such user: leave it empty.")


def sessions(user: str = "") -> Sessions:
    """Return the sessions of a user by id, or the default user's: nodes are not told who runs them."""
    check_user(user)
    return Sessions(Path(folder_paths.get_user_directory(), user or DEFAULT_USER, FOLDER))
