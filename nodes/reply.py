"""The assistant's reply: text, with pictures still to be painted."""

from __future__ import annotations

from typing import Any

import comfy.utils
from comfy_api.latest import io

from ..m3adapter.conversation.conversation import Conversation
from ..m3adapter.events import Event, TextChunk
from ..m3adapter.language.reply import PICTURES
from ..m3adapter.settings import TurnSettings
from ..m3adapter.stages import write_reply
from ..m3adapter.values import SEED_LIMIT
from . import inputs, wires
from .errors import names_node
from .memory import Handle, preparing
from .running import LiveText, ShowsText, interruptible, shown


def sampling_inputs() -> list[io.Input]:
    """Return the inputs for choosing words, with names, bounds and order of ComfyUI's own text generation."""
    choice = [
        io.Float.Input(
            "temperature", default=0.7, min=0.01, max=2.0, step=0.01,
            tooltip="Low values are sober, high values are wild.",
        ),
        io.Int.Input(
            "top_k", default=64, min=0, max=1000, tooltip="Choose among the k most likely words; 0 means all."
        ),
        io.Float.Input(
            "top_p", default=0.95, min=0.01, max=1.0, step=0.01,
            tooltip="Choose among the most likely words that together have this probability; 1 means all.",
        ),
        io.Float.Input(
            "min_p", default=0.05, min=0.0, max=1.0, step=0.01,
            tooltip="Leave out words below this share of the most likely word's probability; 0 leaves "
                    "out none.",
        ),
        io.Float.Input(
            "repetition_penalty", default=1.05, min=0.01, max=5.0, step=0.01,
            tooltip="Above 1, words already used become less likely; 1 is no penalty.",
        ),
        # No control_after_generate: the frontend loses track of it inside a widget that comes and goes.
        io.Int.Input("seed", default=0, min=0, max=SEED_LIMIT - 1, tooltip="The same seed gives the same reply."),
    ]  # fmt: skip
    return [
        io.Int.Input(
            "max_length",
            default=512,
            min=1,
            max=32768,
            tooltip="The maximum number of tokens of the reply; it may end earlier by itself.",
        ),
        io.DynamicCombo.Input(
            "sampling_mode",
            options=[io.DynamicCombo.Option("on", choice), io.DynamicCombo.Option("off", [])],
            tooltip="on chooses words at random, off always takes the most likely one.",
        ),
    ]


class Reply(ShowsText, io.ComfyNode):
    """Writes the assistant's next turn."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_Reply",
            display_name="Reply",
            category="M2Chat/conversation",
            description="Lets the language model reply. The pictures it asks for become slots for Encode Slot.",
            search_aliases=["LLM", "generate text", "answer", "chat completion"],
            inputs=[
                inputs.language_model(),
                inputs.conversation("A conversation whose last turn is the user's."),
                inputs.vision_encoder(
                    optional=True,
                    tooltip="Needed if the user shows pictures, unless the language model sees by itself.",
                ),
                *sampling_inputs(),
                io.Boolean.Input(
                    "always_picture",
                    default=True,
                    tooltip="Adds a picture to a reply without one, captioned with the reply's first sentence.",
                ),
                inputs.max_pictures(),
                *inputs.thinking(),
            ],
            outputs=[
                wires.Conversation.Output(
                    display_name="conversation", tooltip="The conversation with the reply; its pictures are still open."
                ),
                io.String.Output(
                    display_name="text", tooltip="The reply's text, without the captions of its pictures."
                ),
                io.String.Output(
                    display_name="thoughts", tooltip="What the model thought before and during its reply; often empty."
                ),
            ],
        )

    @classmethod
    @names_node
    def execute(
        cls,
        language_model: Handle,
        conversation: Conversation,
        max_length: int,
        sampling_mode: dict[str, Any],
        always_picture: bool,
        vision_encoder: Handle | None = None,
        max_pictures: int = PICTURES,
        thinking: str = "off",
        max_thinking: int = 4096,
    ) -> io.NodeOutput:
        """Write the reply."""
        choice = {name: value for name, value in sampling_mode.items() if name not in ("sampling_mode", "seed")}
        by_chance = sampling_mode["sampling_mode"] == "on"
        sampling = inputs.sampling(max_length, thinking, max_thinking, do_sample=by_chance, **choice)
        settings = TurnSettings(seed=sampling_mode.get("seed", 0), max_pictures=max_pictures, sampling=sampling)
        text, bar = LiveText(), comfy.utils.ProgressBar(max_length)

        def on_event(event: Event) -> None:
            text.hear(event)
            bar.update(isinstance(event, TextChunk))

        with interruptible() as should_stop:
            replied = write_reply(
                language_model.part,
                None if vision_encoder is None else vision_encoder.part,
                conversation,
                settings,
                premise=conversation.turns[-1].text if always_picture and conversation.turns else None,
                should_stop=should_stop,
                on_event=on_event,
                prepare=preparing(language_model=language_model, vision_encoder=vision_encoder),
            )
        bar.update_absolute(max_length)
        text.show()
        said = replied.turns[-1]
        return io.NodeOutput(replied, said.text, *text.replies(1), ui=shown(said.text) | text.ui)


NODES = [Reply]
