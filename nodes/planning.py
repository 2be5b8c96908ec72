"""Plans a story: its outline, and the seeds of its panels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import comfy.utils
from comfy_api.latest import io

from ..m3adapter.conversation.outline import beats
from ..m3adapter.conversation.seeds import reroll_seed, turn_seed
from ..m3adapter.events import Event, TextChunk
from ..m3adapter.settings import TurnSettings
from ..m3adapter.story_writing import write_outline
from ..m3adapter.values import check_premise
from . import inputs
from .errors import complaint, names_node
from .memory import Handle, make_ready
from .running import LiveText, ShowsText, interruptible, show_text, shown

if TYPE_CHECKING:
    from ..m3adapter.language.sampling import Sampling


class Outline(ShowsText, io.ComfyNode):
    """Writes one line for each panel of a story."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_Outline",
            display_name="Outline",
            category="M2Chat/story",
            description="Plans a story, one line for each panel: written by the language model, or typed by hand.",
            search_aliases=["plot", "beats", "plan", "scenes", "storyboard"],
            inputs=[
                inputs.premise(),
                inputs.panels(tooltip="How many lines the language model should write."),
                inputs.seed("The same seed gives the same outline."),
                io.String.Input(
                    "lines",
                    multiline=True,
                    default="",
                    tooltip="The outline typed by hand, one line for each panel. If given, the language model "
                    "is not used.",
                ),
                inputs.language_model(
                    optional=True,
                    tooltip="Writes the outline if lines is empty. The starter cannot follow such instructions.",
                ),
                inputs.max_length("The maximum number of tokens of the outline, if the language model writes it."),
                *inputs.thinking(),
            ],
            outputs=[
                io.String.Output(display_name="outline", tooltip="For Tell Story: one line for each panel."),
                io.String.Output(display_name="messages", is_output_list=True, tooltip="The lines one by one."),
            ],
        )

    @classmethod
    def validate_inputs(cls, lines: str | None = None) -> bool | str:
        """Refuse too many lines before anything runs; the premise matters only if there are none."""
        return complaint(beats, lines)

    @classmethod
    @names_node
    def execute(
        cls,
        premise: str,
        panels: int,
        seed: int,
        lines: str,
        language_model: Handle | None = None,
        max_length: int = 256,
        thinking: str = "off",
        max_thinking: int = 4096,
    ) -> io.NodeOutput:
        """Write the outline, or take the typed one."""
        outline, live = beats(lines), LiveText()
        if not outline:
            check_premise(premise)
            if language_model is None:
                raise ValueError("Nothing can write the outline: connect language_model, or type its lines.")
            sampling = inputs.sampling(max_length, thinking, max_thinking)
            outline = cls._asked(language_model, premise, panels, seed, sampling, live)
        text = "\n".join(outline)
        show_text(text)
        return io.NodeOutput(text, list(outline), ui=shown(text) | live.ui)

    @classmethod
    def _asked(
        cls, language_model: Handle, premise: str, panels: int, seed: int, sampling: Sampling, live: LiveText
    ) -> tuple[str, ...]:
        bar = comfy.utils.ProgressBar(sampling.max_length)

        def on_event(event: Event) -> None:
            live.hear(event)
            bar.update(isinstance(event, TextChunk))

        settings = TurnSettings(seed=seed, sampling=sampling)
        make_ready(language_model)
        with interruptible() as should_stop:
            return write_outline(
                language_model.part, premise, panels, settings, should_stop=should_stop, on_event=on_event
            )


class TurnSeed(ShowsText, io.ComfyNode):
    """Works out the seed of one panel of a story."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="M2Chat_TurnSeed",
            display_name="Turn Seed",
            category="M2Chat/story",
            description="Gives the seed that Tell Story would use for a panel, or other seeds to re-roll it.",
            search_aliases=["re-roll", "reroll", "variation", "panel seed", "random"],
            inputs=[
                inputs.seed("The story's seed: the same for all its panels."),
                io.Int.Input(
                    "panel",
                    default=1,
                    min=1,
                    max=9999,
                    tooltip="Which panel: 1 is the first, and has the story's seed.",
                ),
                io.Int.Input(
                    "reroll",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    tooltip="0 is the panel as Tell Story tells it; any other number is another try.",
                ),
            ],
            outputs=[io.Int.Output(display_name="seed", tooltip="The panel's seed, for Reply or Paint Picture.")],
        )

    @classmethod
    @names_node
    def execute(cls, seed: int, panel: int, reroll: int) -> io.NodeOutput:
        """Work out the seed."""
        found = reroll_seed(turn_seed(seed, panel - 1), reroll)
        show_text(str(found))
        return io.NodeOutput(found, ui=shown(str(found)))


NODES = [Outline, TurnSeed]
