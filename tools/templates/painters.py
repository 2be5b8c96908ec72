"""The templates of painters: the same story by whatever model ComfyUI paints with."""

from __future__ import annotations

from . import files
from .chains import LEFT, PARTS, TOP, Info, note, under
from .sdxl import UNWANTED, WHALE, writer
from .workflow import Graph, Json, Subgraph, saved

LOADER = "M2Chat_LoadStarter"
BEGINNING = "A fox walks along the beach. <image> There it finds a red kite. <image>"


def text_of_your_own(info: Info) -> Subgraph:
    """Return a chain that makes a conversation of a text, and paints what it leaves open."""
    sub = Subgraph(
        info, "A beginning of your own", "Makes a conversation of a text with placeholders, and paints its pictures."
    )
    language, painter = sub.input("language_model", PARTS["language_model"]), sub.input("painter", PARTS["decoder"])
    text, seed = sub.input("text", "STRING", BEGINNING), sub.input("seed", "INT", 7)
    made = sub.add("M2Chat_FromTextAndPictures", at=(LEFT, TOP), size=(320, 240), text=text)
    turn = sub.add(
        "M2Chat_Turn", "Its pictures", at=(400, TOP), size=(360, 480),
        language_model=language, decoder=painter, conversation=made["conversation"], seed=seed,
    )  # fmt: skip
    sub.output("conversation", turn["conversation"])
    return sub


def panel_by_stock_nodes(info: Info, side: int, steps: int, cfg: float) -> Subgraph:
    """Return a chain of one more panel, whose picture stock nodes paint."""
    sub = Subgraph(
        info, "One more panel, in blocks", "Says something, lets the language model reply, and paints with stock nodes."
    )
    language, told = (
        sub.input("language_model", PARTS["language_model"]),
        sub.input("conversation", "M2CHAT_CONVERSATION"),
    )
    model, clip, vae = sub.input("model", "MODEL"), sub.input("clip", "CLIP"), sub.input("vae", "VAE")
    text, seed = sub.input("text", "STRING", "What happens next?"), sub.input("seed", "INT", 7)
    user = sub.add("M2Chat_UserMessage", at=(LEFT, TOP), size=(320, 160), conversation=told, text=text)
    reply = sub.add(
        "M2Chat_Reply", at=(LEFT, under(user)), size=(320, 360),
        language_model=language, conversation=user["conversation"], sampling_mode__seed=seed,
    )  # fmt: skip
    picture = sub.add(
        "M2Chat_NextPicture", at=(400, TOP), size=(320, 300), conversation=reply["conversation"], seed=seed
    )
    said = sub.add("CLIPTextEncode", "The caption", at=(760, TOP), size=(300, 120), clip=clip, text=picture["caption"])
    not_said = sub.add(
        "CLIPTextEncode", "The negative", at=(760, under(said)), size=(300, 120), clip=clip, text=picture["negative"]
    )
    empty = sub.add("EmptyLatentImage", at=(760, under(not_said)), size=(300, 120), width=side, height=side)
    sample = sub.add(
        "KSampler", at=(1100, TOP), size=(300, 270), model=model, positive=said[0], negative=not_said[0],
        latent_image=empty[0], seed=picture["seed"], steps=steps, cfg=cfg, sampler_name="euler",
        scheduler="sgm_uniform",
    )  # fmt: skip
    decode = sub.add("VAEDecode", at=(1440, TOP), size=(240, 60), samples=sample[0], vae=vae)
    place = sub.add(
        "M2Chat_PlacePicture", at=(1440, under(decode)), size=(300, 140),
        conversation=reply["conversation"], slot=picture["slot"], image=decode[0], seed=picture["seed"],
    )  # fmt: skip
    sub.output("conversation", place["conversation"])
    sub.output("picture", decode[0])
    return sub


def text_encoder_that_writes(info: Info) -> Subgraph:
    """Return a chain that makes a language model of a stock text encoder."""
    sub = Subgraph(info, "A text encoder that writes", "Loads a text encoder that can write, as a language model.")
    _, language = writer(sub, (LEFT, TOP), 320)
    sub.output("language_model", language[0])
    return sub


def any_painter_story(info: Info) -> Json:
    """Return the template of a story by any stock model: as it is, by the starter's."""
    graph = Graph(info)
    note(graph, "any_painter_story", (256, 370))
    load = graph.add(LOADER, "Load M2Chat Starter: it writes", at=(LEFT, 500), size=(256, 120))
    stock = graph.add("M2Chat_LoadStarterStock", at=(LEFT, under(load)), size=(256, 100))
    paints = graph.add(
        "M2Chat_StockPainter", at=(311, TOP), size=(256, 620), model=stock["model"], clip=stock["clip"],
        vae=stock["vae"], steps=20, cfg=3.0, scheduler="sgm_uniform", width=128, height=128,
    )  # fmt: skip
    own, more = text_of_your_own(info), panel_by_stock_nodes(info, 128, 20, 3.0)
    begin = graph.place(
        own, "A beginning of your own", at=(582, TOP), size=(256, 180),
        language_model=load["language_model"], painter=paints["painter"],
    )  # fmt: skip
    last = graph.place(
        more, "One more panel, in blocks", at=(582, under(begin)), size=(256, 220),
        language_model=load["language_model"], model=stock["model"], clip=stock["clip"], vae=stock["vae"],
        conversation=begin["conversation"],
    )  # fmt: skip
    story = graph.add(
        "M2Chat_Story", "The rest of the story", at=(853, TOP), size=(256, 620),
        language_model=load["language_model"], decoder=paints["painter"], conversation=last["conversation"],
        premise="The fox goes home.", panels=2, seed=7,
    )  # fmt: skip
    graph.add(
        "M2Chat_ShowConversation", "The story", at=(1124, TOP), size=(256, 620), conversation=story["conversation"]
    )
    return saved("any_painter_story", graph, [own, more])


def sdxl_lora_story(info: Info) -> Json:
    """Return the template of a story by an SDXL model with a LoRA."""
    graph = Graph(info)
    note(graph, "sdxl_lora_story", (256, 440))
    load = graph.add(
        "CheckpointLoaderSimple", at=(311, TOP), size=(256, 110), models=[files.SDXL], ckpt_name=files.SDXL["name"]
    )
    lora = graph.add(
        "LoraLoader", at=(311, under(load)), size=(256, 190), models=[files.LORA],
        model=load[0], clip=load[1], lora_name=files.LORA["name"], strength_model=0.6, strength_clip=0.6,
    )  # fmt: skip
    writes = text_encoder_that_writes(info)
    language = graph.place(writes, "A text encoder that writes", at=(311, under(lora)), size=(256, 90))
    paints = graph.add(
        "M2Chat_StockPainter", at=(582, TOP), size=(256, 620), model=lora[0], clip=lora[1], vae=load[2],
        steps=25, cfg=6.0, sampler_name="dpmpp_2m", scheduler="karras", negative=UNWANTED,
    )  # fmt: skip
    story = graph.add(
        "M2Chat_Story", at=(853, TOP), size=(256, 620), language_model=language[0], decoder=paints["painter"],
        premise=WHALE, seed=7,
    )  # fmt: skip
    show = graph.add(
        "M2Chat_ShowConversation", "The story", at=(1124, TOP), size=(256, 370), conversation=story["conversation"]
    )
    graph.add(
        "M2Chat_ExportStory", at=(1124, under(show)), size=(256, 160),
        conversation=show["conversation"], filename_prefix="M2Chat/sdxl_lora_story",
    )  # fmt: skip
    return saved("sdxl_lora_story", graph, [writes])


ALL = [any_painter_story, sdxl_lora_story]
