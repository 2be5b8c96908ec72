"""What later pictures should be consistent with: the cast of a story, and a choice of earlier pictures."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..m3adapter.conversation.conversation import Conversation, ReferencePolicy
from ..m3adapter.conversation.references import RULES, chosen_of, weights_of
from . import inputs, wires
from .errors import names_node

MOST = 8


class AddToCast(io.ComfyNode):
    """Adds a character with a name and pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_Cast",
            display_name="Add to Cast",
            category="M2Chat/story",
            description="Gives a story a character: any picture whose caption names the character refers "
            "to these pictures first.",
            search_aliases=["character", "reference", "consistent character", "ip-adapter", "actor"],
            inputs=[
                inputs.conversation("The conversation in which the character appears, new or already begun."),
                io.String.Input(
                    "name",
                    default="fox",
                    tooltip="The name used in captions, matched as a whole word in upper or lower case.",
                ),
                io.Image.Input(
                    "pictures",
                    optional=True,
                    tooltip="What the character looks like, the best picture first. Without any, only the name "
                    "is known.",
                ),
                io.String.Input(
                    "looks",
                    default="",
                    optional=True,
                    tooltip="What the character always looks like, in a few words, for painters without references. "
                    "If empty, what Character Sheet said stays.",
                ),
            ],
            outputs=[
                wires.Conversation.Output(
                    display_name="conversation", tooltip="The conversation with the character in its cast."
                )
            ],
        )

    @classmethod
    @names_node
    def execute(
        cls, conversation: Conversation, name: str, pictures: Tensor | None = None, looks: str = ""
    ) -> io.NodeOutput:
        """Add the character, in place of one of the same name."""
        given = () if pictures is None else pictures
        return io.NodeOutput(conversation.with_character(name, given, looks=looks if looks.strip() else None))


class MemoryOfPictures(io.ComfyNode):
    """Chooses which earlier pictures a new one refers to."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        count = io.Int.Input(
            "count",
            default=2,
            min=0,
            max=MOST,
            tooltip="How many at most, including those of the cast. An adapter takes about 4; the rest is ignored.",
        )
        chosen = io.String.Input(
            "pictures",
            default="1",
            tooltip="Numbers of earlier pictures, including yours, such as 1, 3. 1 is the first.",
        )
        return io.Schema(
            node_id="M2Chat_Memory",
            display_name="Memory of Pictures",
            category="M2Chat/story",
            description="Says which earlier pictures a new one should be consistent with, besides the cast "
            "members in its caption.",
            search_aliases=["references", "context", "consistency", "which pictures"],
            inputs=[
                io.DynamicCombo.Input(
                    "rule",
                    options=[io.DynamicCombo.Option(rule, [chosen if rule == "chosen" else count]) for rule in RULES],
                    tooltip="first and last, first, last: by age. character: those that show the same cast "
                    "members. chosen: by number.",
                ),
                io.String.Input(
                    "weights",
                    default="",
                    optional=True,
                    tooltip="How much each counts relative to the others, 0 to 10, such as 1, 0.5. If empty, 1 "
                    "for all.",
                ),
            ],
            outputs=[wires.Memory.Output(display_name="memory", tooltip="For Encode Slot, Take Turn and Tell Story.")],
        )

    @classmethod
    @names_node
    def execute(cls, rule: dict[str, Any], weights: str = "") -> io.NodeOutput:
        """Make the policy."""
        chosen = chosen_of(rule["pictures"]) if rule["rule"] == "chosen" else ()
        policy = ReferencePolicy(rule["rule"], rule.get("count", MOST), chosen, weights_of(weights))
        return io.NodeOutput(policy)


NODES = [AddToCast, MemoryOfPictures]
