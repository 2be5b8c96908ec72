"""For those who wire everything themselves: what the next picture of a conversation is painted from."""

from __future__ import annotations

from collections.abc import Sequence

import comfy.utils
import torch
from comfy_api.latest import io
from torch import Tensor

from ..m3adapter.conversation.conversation import Conversation, ReferencePolicy
from ..m3adapter.conversation.seeds import story_seeds
from ..m3adapter.diffusion.prompt_syntax import escaped
from ..m3adapter.painter import PaintRequest
from ..m3adapter.settings import TurnSettings
from . import inputs
from .conversation import open_slot
from .errors import names_node
from .running import ShowsText, shown

NOTHING = (64, 0.5)  # side in pixels and grey of the picture that stands for no reference


class NextPicture(ShowsText, io.ComfyNode):
    """Says what an open slot is painted from."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_NextPicture",
            display_name="Next Picture",
            category="M2Chat/conversation",
            description="Gives what the next picture of a conversation is painted from, for any nodes that paint: its "
            "caption, its seed and the pictures it should be consistent with. Place Picture puts the result back.",
            search_aliases=["slot", "caption", "prompt", "loop", "panel", "reference pictures", "any model"],
            inputs=[
                inputs.conversation("A conversation with a picture still to be painted."),
                inputs.slot(),
                inputs.seed("The story's seed, from which the picture's own follows as in Tell Story."),
                io.String.Input(
                    "style", default="", optional=True, tooltip="How pictures should look, added to every caption."
                ),
                io.String.Input("negative", default="", optional=True, tooltip="What pictures should not show."),
                inputs.memory(),
            ],
            outputs=[
                io.String.Output(
                    display_name="caption", tooltip="A prompt for CLIP Text Encode, with brackets escaped."
                ),
                io.String.Output(display_name="negative", tooltip="The negative as such a prompt."),
                io.Int.Output(display_name="seed", tooltip="The picture's seed, for KSampler."),
                io.Image.Output(
                    display_name="references",
                    tooltip="The pictures to be consistent with, as a batch of the first one's size. Without any, a "
                    "grey one of weight 0.",
                ),
                io.Image.Output(
                    display_name="pictures", is_output_list=True, tooltip="The same one by one, of their own sizes."
                ),
                io.Float.Output(
                    display_name="weights", is_output_list=True, tooltip="How much each of them counts: 1 is as one."
                ),
                io.String.Output(display_name="weights_text", tooltip="The weights in one line, for Gate References."),
                io.Int.Output(display_name="slot", tooltip="For Place Picture."),
                io.Boolean.Output(
                    display_name="left", tooltip="Whether another picture is still to be painted after this one."
                ),
                io.Int.Output(display_name="open", tooltip="How many are to be painted, with this one."),
            ],
        )

    @classmethod
    @names_node
    def execute(
        cls,
        conversation: Conversation,
        slot: int,
        seed: int,
        style: str = "",
        negative: str = "",
        memory: ReferencePolicy | None = None,
    ) -> io.NodeOutput:
        """Look at the slot."""
        place = open_slot(conversation, slot)
        settings = TurnSettings(style=style, references=memory or ReferencePolicy())
        request = PaintRequest(conversation, place, settings)
        number = conversation.slots().index(place)
        pictures = [picture.pixels[None] for picture, _ in request.references]
        weights = [weight for _, weight in request.references]
        if not pictures:
            side, grey = NOTHING
            pictures, weights = [torch.full((1, side, side, 3), grey)], [0.0]
        count = len(conversation.open_slots())
        return io.NodeOutput(
            escaped(request.prompt),
            escaped(negative),
            story_seeds(conversation, seed)[number],
            _batch(pictures),
            pictures,
            weights,
            ", ".join(f"{weight:g}" for weight in weights),
            slot,
            count > 1,
            count,
            ui=shown(request.prompt),
        )


def _batch(pictures: Sequence[Tensor]) -> Tensor:
    """Return pictures [1, H, W, 3] as a batch [N, H, W, 3] of the first one's size."""
    height, width = pictures[0].shape[1:3]
    fitting = [
        picture
        if picture.shape[1:3] == (height, width)
        else comfy.utils.common_upscale(picture.movedim(-1, 1), width, height, "lanczos", "center").movedim(1, -1)
        for picture in pictures
    ]
    return torch.cat(fitting)


NODES = [NextPicture]
