"""The template of a story by Z-Image, whose text encoder writes the story as well."""

from __future__ import annotations

from . import files
from .chains import LEFT, TOP, Info, note, under
from .workflow import Graph, Json, Subgraph, saved


def painter(info: Info) -> Subgraph:
    """Return a chain that loads Z-Image, but for its text encoder, and makes it a painter."""
    sub = Subgraph(info, "Z-Image as painter", "Loads Z-Image Turbo, and paints what captions and looks say.")
    clip = sub.input("clip", "CLIP")
    model = sub.add(
        "UNETLoader", at=(LEFT, TOP), size=(340, 90), models=[files.Z_IMAGE],
        unet_name=files.Z_IMAGE["name"], weight_dtype="default",
    )  # fmt: skip
    shifted = sub.add("ModelSamplingAuraFlow", at=(LEFT, under(model)), size=(340, 70), model=model[0], shift=3.0)
    vae = sub.add(
        "VAELoader", at=(LEFT, under(shifted)), size=(340, 70), models=[files.FLUX_VAE], vae_name=files.FLUX_VAE["name"]
    )
    paints = sub.add(
        "M2Chat_StockPainter", at=(440, TOP), size=(340, 620), model=shifted[0], clip=clip, vae=vae[0],
        steps=8, cfg=1.0, sampler_name="res_multistep", scheduler="simple", width=1024, height=1024,
    )  # fmt: skip
    sub.output("painter", paints["painter"])
    return sub


def zimage_story(info: Info) -> Json:
    """Return the template of a story whose characters are kept by words alone."""
    graph = Graph(info)
    note(graph, "zimage_story", (256, 620))
    clip = graph.add(
        "CLIPLoader", "Load CLIP: writes and reads", at=(311, TOP), size=(256, 120), models=[files.QWEN],
        clip_name=files.QWEN["name"], type="lumina2", device="default",
    )  # fmt: skip
    language = graph.add("M2Chat_LanguageModelFromClip", at=(311, under(clip)), size=(256, 90), clip=clip[0])
    loads = painter(info)
    paints = graph.place(loads, "Z-Image as painter", at=(311, under(language)), size=(256, 70), clip=clip[0])
    premise = "Rosa, a young fox, and her friend Bruno, a badger, find a music box in the attic of an old mill."
    sheet = graph.add(
        "M2Chat_CharacterSheet", at=(582, TOP), size=(256, 290), language_model=language[0], premise=premise, seed=7
    )
    told = graph.add(
        "M2Chat_Story", at=(853, TOP), size=(256, 620), language_model=language[0], decoder=paints["painter"],
        premise=premise, panels=4, seed=7, max_length=256, conversation=sheet["conversation"],
    )  # fmt: skip
    show = graph.add(
        "M2Chat_ShowConversation", "The story", at=(1124, TOP), size=(256, 370),
        conversation=told["conversation"],
    )  # fmt: skip
    graph.add(
        "M2Chat_ExportStory", at=(1124, under(show)), size=(256, 160),
        conversation=show["conversation"], filename_prefix="M2Chat/zimage_story",
    )  # fmt: skip
    return saved("zimage_story", graph, [loads])


ALL = [zimage_story]
