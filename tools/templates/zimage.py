"""The template of a story by Z-Image, whose text encoder writes the story as well."""

from __future__ import annotations

from . import files
from .chains import LEFT, TOP, Info, note, under
from .workflow import Graph, Json, Subgraph, saved


def pictures(info: Info) -> Subgraph:
    """Return a chain that paints each caption by stock nodes."""
    sub = Subgraph(info, "Z-Image paints each caption", "Paints each caption with Z-Image Turbo and stock nodes.")
    model, clip, vae = sub.input("model", "MODEL"), sub.input("clip", "CLIP"), sub.input("vae", "VAE")
    told, caption = sub.input("conversation", "M2CHAT_CONVERSATION"), sub.input("captions", "STRING", "")
    seeds = sub.input("seeds", "INT", 0)
    shifted = sub.add("ModelSamplingAuraFlow", at=(LEFT, TOP), size=(300, 70), model=model, shift=3.0)
    said = sub.add("CLIPTextEncode", "The caption", at=(LEFT, under(shifted)), size=(300, 120), clip=clip, text=caption)
    nothing = sub.add("ConditioningZeroOut", at=(LEFT, under(said)), size=(300, 40), conditioning=said[0])
    empty = sub.add(
        "EmptySD3LatentImage", at=(LEFT, under(nothing)), size=(300, 120), width=1024, height=1024, batch_size=1
    )
    sample = sub.add(
        "KSampler", "KSampler: once for each caption", at=(380, TOP), size=(300, 270),
        model=shifted[0], positive=said[0], negative=nothing[0], latent_image=empty[0], seed=seeds,
        steps=8, cfg=1.0, sampler_name="res_multistep", scheduler="simple",
    )  # fmt: skip
    decode = sub.add("VAEDecode", at=(720, TOP), size=(240, 60), samples=sample[0], vae=vae)
    place = sub.add(
        "M2Chat_PlacePictures", at=(720, under(decode)), size=(240, 80), conversation=told, images=decode[0]
    )
    sub.output("conversation", place["conversation"])
    return sub


def zimage_story(info: Info) -> Json:
    """Return the template of a story whose characters are kept by words alone."""
    graph = Graph(info)
    note(graph, "zimage_story", (320, 620))
    clip = graph.add(
        "CLIPLoader", "Load CLIP: writes and reads", at=(385, TOP), size=(280, 120), models=[files.QWEN],
        clip_name=files.QWEN["name"], type="lumina2", device="default",
    )  # fmt: skip
    language = graph.add("M2Chat_LanguageModelFromClip", at=(385, under(clip)), size=(280, 90), clip=clip[0])
    model = graph.add(
        "UNETLoader", at=(385, under(language)), size=(280, 90), models=[files.Z_IMAGE],
        unet_name=files.Z_IMAGE["name"], weight_dtype="default",
    )  # fmt: skip
    vae = graph.add(
        "VAELoader", at=(385, under(model)), size=(280, 70), models=[files.FLUX_VAE], vae_name=files.FLUX_VAE["name"]
    )
    premise = "Rosa, a young fox, and her friend Bruno, a badger, find a music box in the attic of an old mill."
    sheet = graph.add(
        "M2Chat_CharacterSheet", at=(690, TOP), size=(280, 290), language_model=language[0], premise=premise, seed=7
    )
    story = graph.add(
        "M2Chat_WriteStory", at=(690, under(sheet)), size=(280, 310), language_model=language[0],
        premise=premise, panels=4, seed=7, max_length=256, conversation=sheet["conversation"],
    )  # fmt: skip
    chain = pictures(info)
    painted = graph.place(
        chain, "Z-Image paints each caption", at=(995, TOP), size=(280, 210),
        model=model[0], clip=clip[0], vae=vae[0],
        conversation=story["conversation"], captions=story["captions"], seeds=story["seeds"],
    )  # fmt: skip
    show = graph.add(
        "M2Chat_ShowConversation", "The story", at=(995, under(painted)), size=(280, 230),
        conversation=painted["conversation"],
    )  # fmt: skip
    graph.add(
        "M2Chat_ExportStory", at=(995, under(show)), size=(280, 130),
        conversation=show["conversation"], filename_prefix="M2Chat/zimage_story",
    )  # fmt: skip
    return saved("zimage_story", graph, [chain])


ALL = [zimage_story]
