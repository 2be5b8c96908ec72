"""The templates for the user's own models: SDXL and language models."""

from __future__ import annotations

from typing import Any

from . import chains, files
from .chains import LEFT, PARTS, TOP, Info, note, under
from .workflow import Graph, Inputs, Json, Node, Subgraph, Wire, saved

WHALE = "A lighthouse keeper finds a young whale stranded below the cliffs."
HERO = "a girl with red hair and a yellow raincoat"


def decoder(graph: Graph, at: tuple[float, float], width: float, title: str | None = None) -> Node:
    """Add the loader of an SDXL model, with the file that most people have."""
    return graph.add(
        "M2Chat_LoadDecoder", title, at=at, size=(width, 230), models=[files.listed(files.SDXL)],
        model=files.option(files.SDXL), scheduler="dpmpp_2m_karras",
    )  # fmt: skip


def writer(graph: Graph, at: tuple[float, float], width: float) -> tuple[Node, Node]:
    """Add the stock loader of a text encoder that can write, and the node that makes it a language model."""
    clip = graph.add(
        "CLIPLoader", "Load CLIP: a text encoder that writes", at=at, size=(width, 120), models=[files.QWEN],
        clip_name=files.QWEN["name"], type="lumina2", device="default",
    )  # fmt: skip
    return clip, graph.add("M2Chat_LanguageModelFromClip", at=(at[0], under(clip)), size=(width, 90), clip=clip[0])


def folder_writer(graph: Graph, at: tuple[float, float], width: float, name: str, *, off: bool = False) -> Node:
    """Add the loader of a language model from a folder or a GGUF file."""
    return graph.add("M2Chat_LoadLanguageModel", at=at, size=(width, 140), off=off, model=f"LLM/{name}")


def new_adapter(info: Info) -> Subgraph:
    """Add a new adapter between models that were not trained for each other."""
    sub = Subgraph(
        info,
        "A new M3-Adapter",
        "An untrained adapter, which paints plain captions, and what sees for it.",
    )
    language, paints = (sub.input(name, PARTS[name]) for name in ("language_model", "decoder"))
    load = sub.add("M2Chat_LoadStarter", "Only its vision encoder", at=(LEFT, TOP), size=(300, 120))
    adapter = sub.add(
        "M2Chat_NewAdapter", at=(380, TOP), size=(300, 180),
        language_model=language, decoder=paints, vision_encoder=load["vision_encoder"],
    )  # fmt: skip
    sub.output("vision_encoder", load["vision_encoder"])
    sub.output("adapter", adapter["adapter"])
    return sub


def trained_adapter(info: Info) -> Subgraph:
    """Add the loader of a trained adapter."""
    sub = Subgraph(info, "A trained M3-Adapter", "Loads a trained adapter and the vision encoder it was trained with.")
    load = sub.add(
        "CLIPVisionLoader", at=(LEFT, TOP), size=(340, 70), models=[files.CLIP_VISION],
        clip_name=files.CLIP_VISION["name"],
    )  # fmt: skip
    sees = sub.add("M2Chat_VisionFromClipVision", at=(420, TOP), size=(300, 60), clip_vision=load[0])
    adapter = sub.add(
        "M2Chat_LoadAdapter", at=(LEFT, under(load)), size=(340, 110), file="m2chat/my_adapter.safetensors"
    )
    sub.output("vision_encoder", sees[0])
    sub.output("adapter", adapter["adapter"])
    return sub


def character_by_ip_adapter(info: Info) -> Subgraph:
    """Return a chain that makes a decoder look at pictures."""
    sub = Subgraph(info, "A character by IP-Adapter", "Makes a decoder look at pictures of a character.")
    paints, picture = sub.input("decoder", PARTS["decoder"]), sub.input("picture", "IMAGE")
    gate = sub.input("gate", "FLOAT", 0.6)
    references = look_at(sub, picture)
    applied = sub.add(
        "M2Chat_DecoderIPAdapter", at=(800, TOP), size=(300, 220), decoder=paints, references=references, gate=gate
    )
    sub.output("decoder", applied["decoder"])
    return sub


def look_at(graph: Graph, picture: Wire) -> Wire:
    """Return a chain that loads the published IP-Adapter weights, their vision encoder and a picture to look at."""
    weights = graph.add(
        "M2Chat_LoadIPAdapter", at=(LEFT, TOP), size=(340, 110), models=[files.listed(files.IP_ADAPTER)],
        file=files.option(files.IP_ADAPTER),
    )  # fmt: skip
    sees = graph.add(
        "CLIPVisionLoader", at=(LEFT, under(weights)), size=(340, 70), models=[files.CLIP_VISION],
        clip_name=files.CLIP_VISION["name"],
    )  # fmt: skip
    reference = graph.add(
        "M2Chat_IPReference", at=(420, TOP), size=(300, 180),
        ip_adapter=weights["ip_adapter"], clip_vision=sees[0], image=picture,
    )  # fmt: skip
    return reference["references"]


def sdxl_story(info: Info) -> Json:
    """Return the template of a story by the user's language model and SDXL model."""
    graph = Graph(info)
    note(graph, "sdxl_story", (310, 500))
    clip, language = writer(graph, (375, TOP), 280)
    paints = decoder(graph, (375, under(language)), 280)
    fresh = new_adapter(info)
    adapter = graph.place(
        fresh, "A new M3-Adapter", at=(375, under(paints)), size=(280, 90),
        language_model=language[0], decoder=paints[0],
    )  # fmt: skip
    folder_writer(graph, (LEFT, 630), 310, "Qwen3-1.7B", off=True)
    story = graph.add(
        "M2Chat_Story", at=(680, TOP), size=(290, 600),
        language_model=language[0], vision_encoder=adapter["vision_encoder"], adapter=adapter["adapter"],
        decoder=paints[0], premise=WHALE, seed=7, steps=25, guidance=6.0,
    )  # fmt: skip
    show = graph.add(
        "M2Chat_ShowConversation", "The story", at=(995, TOP), size=(280, 310), conversation=story["conversation"]
    )
    export = graph.add(
        "M2Chat_ExportStory", at=(995, under(show)), size=(280, 160),
        conversation=show["conversation"], filename_prefix="M2Chat/sdxl_story",
    )  # fmt: skip
    kept = character_by_ip_adapter(info)
    graph.place(kept, "A character by IP-Adapter", at=(995, under(export)), size=(280, 110), off=True)
    return saved("sdxl_story", graph, [fresh, kept])


def hero(info: Info) -> Subgraph:
    """Return a chain that paints the portrait at which all pictures look."""
    sub = Subgraph(info, "A portrait by SDXL", "Paints the hero once with stock nodes.")
    model, clip, vae = sub.input("model", "MODEL"), sub.input("clip", "CLIP"), sub.input("vae", "VAE")
    who, seed = sub.input("who", "STRING", HERO), sub.input("seed", "INT", 7)
    said = sub.add("CLIPTextEncode", "Who it is", at=(LEFT, TOP), size=(300, 120), clip=clip, text=who)
    not_said = sub.add("CLIPTextEncode", "Negative prompt", at=(LEFT, 250), size=(300, 120), clip=clip, text=UNWANTED)
    sample = sub.add(
        "KSampler", at=(380, TOP), size=(300, 270), **sampling(sub, model, said, not_said, (LEFT, 420)), seed=seed
    )
    decode = sub.add("VAEDecode", at=(720, TOP), size=(240, 60), samples=sample[0], vae=vae)
    sub.output("picture", decode[0])
    return sub


UNWANTED = "blurry, text, watermark"


def sampling(graph: Graph, model: Wire, said: Node, not_said: Node, at: tuple[float, float]) -> dict[str, Any]:
    """Return the inputs of KSampler for a picture of SDXL's size."""
    empty = graph.add("EmptyLatentImage", at=at, size=(300, 120), width=1024, height=1024)
    wires = {"model": model, "positive": said[0], "negative": not_said[0], "latent_image": empty[0]}
    return {**wires, "steps": 25, "cfg": 6.0, "sampler_name": "dpmpp_2m", "scheduler": "karras"}


def pictures_of_hero(info: Info) -> Subgraph:
    """Return a chain that paints a picture of the same hero for each caption."""
    sub = Subgraph(
        info, "The same hero in every picture", "Paints each caption with stock SDXL, which looks at a portrait."
    )
    model, clip, vae = sub.input("model", "MODEL"), sub.input("clip", "CLIP"), sub.input("vae", "VAE")
    portrait, told = sub.input("portrait", "IMAGE"), sub.input("conversation", "M2CHAT_CONVERSATION")
    caption, seeds = sub.input("captions", "STRING", ""), sub.input("seeds", "INT", 0)
    who, strength = sub.input("who", "STRING", HERO), sub.input("gate", "FLOAT", 0.6)
    references = look_at(sub, portrait)
    gate = sub.add(
        "M2Chat_AdaptiveGate", at=(420, 320), size=(300, 380),
        reference_caption=who, caption=caption, gate=strength, rule="adaptive", rule__other=0.2, clip=clip,
    )  # fmt: skip
    looks = sub.add(
        "M2Chat_ApplyIPAdapter", at=(780, TOP), size=(300, 230),
        model=model, references=references, gate=gate["gate"], end_percent=0.9,
    )  # fmt: skip
    said = sub.add("CLIPTextEncode", "The caption", at=(780, under(looks)), size=(300, 120), clip=clip, text=caption)
    not_said = sub.add(
        "CLIPTextEncode", "Negative prompt", at=(780, under(said)), size=(300, 120), clip=clip, text=UNWANTED
    )
    sample = sub.add(
        "KSampler", "KSampler: once for each caption", at=(1120, TOP), size=(300, 270),
        **sampling(sub, looks[0], said, not_said, (1120, 420)), seed=seeds,
    )  # fmt: skip
    decode = sub.add("VAEDecode", at=(1460, TOP), size=(240, 60), samples=sample[0], vae=vae)
    place = sub.add(
        "M2Chat_PlacePictures", at=(1460, under(decode)), size=(240, 80), conversation=told, images=decode[0]
    )
    sub.output("conversation", place["conversation"])
    return sub


def sdxl_consistent_story(info: Info) -> Json:
    """Return the template of the same character in six pictures, without training."""
    graph = Graph(info)
    note(graph, "sdxl_consistent_story", (320, 490))
    load = graph.add(
        "CheckpointLoaderSimple", at=(385, TOP), size=(280, 110), models=[files.SDXL], ckpt_name=files.SDXL["name"]
    )
    _, language = writer(graph, (385, under(load)), 280)
    sdxl: Inputs = {"model": load[0], "clip": load[1], "vae": load[2]}
    face = hero(info)
    portrait = graph.place(face, "The hero's portrait", at=(385, under(language)), size=(280, 210), **sdxl)
    story = graph.add(
        "M2Chat_WriteStory", at=(690, TOP), size=(280, 450), language_model=language[0],
        premise="A girl with red hair and a yellow raincoat finds a young whale that is stranded below the lighthouse.",
        panels=6, seed=7, max_length=256,
    )  # fmt: skip
    pictures = pictures_of_hero(info)
    painted = graph.place(
        pictures, "The same hero in every picture", at=(995, TOP), size=(280, 310),
        **sdxl, portrait=portrait["picture"],
        conversation=story["conversation"], captions=story["captions"], seeds=story["seeds"],
    )  # fmt: skip
    show = graph.add(
        "M2Chat_ShowConversation", "The story", at=(995, under(painted)), size=(280, 300),
        conversation=painted["conversation"],
    )  # fmt: skip
    graph.add(
        "M2Chat_ExportStory", at=(690, under(story)), size=(280, 160),
        conversation=show["conversation"], filename_prefix="M2Chat/consistent_story",
    )  # fmt: skip
    graph.add("PreviewImage", "The portrait", at=(LEFT, 620), size=(320, 120), images=portrait["picture"])
    return saved("sdxl_consistent_story", graph, [face, pictures])


def vlm_dialogue(info: Info) -> Json:
    """Return the template of a dialogue with a vision-language model."""
    graph = Graph(info)
    note(graph, "vlm_dialogue", (290, 490))
    language = folder_writer(graph, (355, TOP), 280, "Qwen2.5-VL-3B-Instruct")
    paints = decoder(graph, (355, under(language)), 280)
    fresh = new_adapter(info)
    adapter = graph.place(
        fresh, "A new M3-Adapter", at=(355, under(paints)), size=(280, 90),
        language_model=language[0], decoder=paints[0],
    )  # fmt: skip
    start = graph.add("M2Chat_Conversation", at=(LEFT, 620), size=(290, 130))
    turn = chains.turn_in_one(info)
    models: Inputs = {"language_model": language[0], "vision_encoder": adapter["vision_encoder"]}
    models |= {"adapter": adapter["adapter"], "decoder": paints[0]}
    first = graph.place(
        turn, "First turn", at=(665, TOP), size=(270, 290), **models, conversation=start["conversation"],
        text="Invent a small robot gardener, and show me the robot at work in its garden.", seed=1,
    )  # fmt: skip
    second = graph.place(
        turn, "Second turn, with the picture", at=(665, under(first)), size=(270, 290), **models,
        conversation=first["conversation"], picture_shown=first["pictures"],
        text="This is the picture that you made. Say what you see in it, then show the same garden at night.", seed=2,
    )  # fmt: skip
    looked = graph.add(
        "M2Chat_DescribePictures", at=(965, 470), size=(310, 240),
        language_model=language[0], conversation=second["conversation"],
    )  # fmt: skip
    graph.add(
        "M2Chat_ShowConversation", "The dialogue", at=(965, TOP), size=(310, 340), conversation=looked["conversation"]
    )
    trained = trained_adapter(info)
    graph.place(trained, "A trained M3-Adapter", at=(355, under(adapter)), size=(280, 90), off=True)
    return saved("vlm_dialogue", graph, [fresh, turn, trained])


ALL = [sdxl_story, sdxl_consistent_story, vlm_dialogue]
