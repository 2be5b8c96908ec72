"""Loads and saves conversations by name, in ComfyUI's folder of the user."""

from __future__ import annotations

from comfy_api.latest import io

from ..m3adapter.conversation.conversation import Conversation
from ..m3adapter.conversation.sessions import check_name
from ..m3adapter.values import shown as quoted
from . import inputs, stopped, wires
from .errors import complaint, names_node
from .running import show_text, shown
from .session_folders import check_user, sessions


def _user() -> io.Input:
    return io.String.Input(
        "user",
        default="",
        optional=True,
        advanced=True,
        tooltip="The id of the user whose session it is, if ComfyUI runs with --multi-user. If "
        "empty, the default user's.",
    )


class LoadSession(io.ComfyNode):
    """Loads a saved conversation."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_LoadSession",
            display_name="Load Session",
            category="M2Chat/session",
            description="Loads a conversation that Save Session saved under a name, with its pictures and cast.",
            search_aliases=["open chat", "resume", "history", "continue story"],
            inputs=[
                io.String.Input(
                    "name",
                    default="",
                    tooltip="The name of the session. If empty, a new conversation without messages.",
                ),
                _user(),
            ],
            outputs=[
                wires.Conversation.Output(
                    display_name="conversation", tooltip="The conversation, ready to be continued."
                ),
                io.Int.Output(
                    display_name="revision",
                    tooltip="How many times it was saved; 0 for a new one. Save Session can compare it.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        """Refuse an impossible name before anything runs."""
        return complaint(check_name, name or None)

    @classmethod
    def fingerprint_inputs(cls, name: str | None = None, user: str | None = "") -> str | float:
        """Load again whenever the session has changed; always, if the name comes over a wire and is not known yet."""
        return float("nan") if name is None or user is None else name and sessions(user).fingerprint(name)

    @classmethod
    @names_node
    def execute(cls, name: str, user: str = "") -> io.NodeOutput:
        """Load the session."""
        check_user(user)
        if not name:
            return io.NodeOutput(Conversation(), 0)
        session = sessions(user).load(name)
        return io.NodeOutput(session.conversation, session.revision)


class SaveSession(io.ComfyNode):
    """Saves a conversation under a name."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_SaveSession",
            display_name="Save Session",
            category="M2Chat/session",
            description="Saves a conversation under a name, with its pictures and cast, for Load Session.",
            search_aliases=["keep chat", "store", "branch"],
            inputs=[
                inputs.conversation("The conversation to save."),
                io.String.Input(
                    "name",
                    default="my story",
                    tooltip="The name of the session. A session of that name is replaced; a new name makes a branch.",
                ),
                io.Int.Input(
                    "revision",
                    optional=True,
                    force_input=True,
                    tooltip="From Load Session: refuses to overwrite what someone else has saved since it was loaded.",
                ),
                _user(),
            ],
            outputs=[
                wires.Conversation.Output(
                    display_name="conversation", tooltip="The same conversation, to be passed on."
                ),
                io.Int.Output(display_name="revision", tooltip="How many times the session has now been saved."),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        """Refuse an impossible name before anything runs."""
        return complaint(check_name, name)

    @classmethod
    @names_node
    def execute(
        cls, conversation: Conversation, name: str, revision: int | None = None, user: str = ""
    ) -> io.NodeOutput:
        """Save the session."""
        saved = sessions(user).save(name, conversation, revision)
        stopped.forget()
        text = f"Saved as {quoted(saved.name)}, revision {saved.revision}."
        show_text(text)
        return io.NodeOutput(conversation, saved.revision, ui=shown(text))


NODES = [LoadSession, SaveSession]
