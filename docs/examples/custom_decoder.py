"""Paint with a diffusers pipeline of your own: another scheduler here, but LoRAs or a fine-tuned UNet work likewise."""

from dataclasses import replace
from pathlib import Path

from diffusers import DPMSolverMultistepScheduler, StableDiffusionXLPipeline

from m3adapter import DiffusionDecoder, M2Chat, export_story
from m3adapter.weights.starter import STARTER


def main(folder: Path, steps: int = 12) -> None:
    """Tell a story that this decoder paints."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(STARTER / "decoder", add_watermarker=False)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config, use_karras_sigmas=True)

    # The starter's adapter was trained for this UNet. For SDXL, `m3adapter.adapter.new_adapter` makes a new one.
    chat = replace(M2Chat.from_starter(), decoder=DiffusionDecoder(pipeline))
    story = chat.story("An owl and a drum in the forest.", 2, seed=3, steps=steps)
    export_story(story, folder)


if __name__ == "__main__":
    main(Path("owl"))
