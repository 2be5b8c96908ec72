"""The templates of edit models, which look at reference pictures beside the one that they paint."""

from __future__ import annotations

from . import files
from .chains import LEFT, PARTS, TOP, Info, note, under
from .sdxl import WHALE, folder_writer, writer
from .workflow import Graph, Inputs, Json, Subgraph, Wire, saved

KLEIN = "FLUX.2 Klein"
QWEN_EDIT = "Qwen-Image-Edit"


def klein(graph: Graph, at: tuple[float, float], width: float) -> tuple[Wire, Wire, Wire]:
    """Add the stock loaders of FLUX.2 Klein, one below the other, and return MODEL, CLIP and VAE."""
    unet = graph.add(
        "UNETLoader", "Load FLUX.2 Klein", at=at, size=(width, 90), models=[files.KLEIN],
        unet_name=files.KLEIN["name"], weight_dtype="default",
    )  # fmt: skip
    clip = graph.add(
        "CLIPLoader", "Load its text encoder", at=(at[0], under(unet)), size=(width, 120), models=[files.QWEN],
        clip_name=files.QWEN["name"], type="flux2", device="default",
    )  # fmt: skip
    vae = graph.add(
        "VAELoader", "Load its VAE", at=(at[0], under(clip)), size=(width, 70), models=[files.FLUX2_VAE],
        vae_name=files.FLUX2_VAE["name"],
    )  # fmt: skip
    return unet[0], clip[0], vae[0]


def qwen_edit(graph: Graph, at: tuple[float, float], width: float) -> tuple[Wire, Wire, Wire]:
    """Add the stock loaders of Qwen-Image-Edit and of a LoRA for few steps, and return MODEL, CLIP and VAE."""
    unet = graph.add(
        "UNETLoader", "Load Qwen-Image-Edit", at=at, size=(width, 90), models=[files.QWEN_EDIT],
        unet_name=files.QWEN_EDIT["name"], weight_dtype="default",
    )  # fmt: skip
    fast = graph.add(
        "LoraLoaderModelOnly", "Four steps instead of forty", at=(at[0], under(unet)), size=(width, 90),
        models=[files.QWEN_EDIT_FAST], model=unet[0], lora_name=files.QWEN_EDIT_FAST["name"],
    )  # fmt: skip
    clip = graph.add(
        "CLIPLoader", "Load its text encoder", at=(at[0], under(fast)), size=(width, 120), models=[files.QWEN_VL],
        clip_name=files.QWEN_VL["name"], type="qwen_image", device="default",
    )  # fmt: skip
    vae = graph.add(
        "VAELoader", "Load its VAE", at=(at[0], under(clip)), size=(width, 70), models=[files.QWEN_VAE],
        vae_name=files.QWEN_VAE["name"],
    )  # fmt: skip
    return fast[0], clip[0], vae[0]


def painter(info: Info, name: str) -> Subgraph:
    """Return a chain that loads an edit model and makes it a painter that looks at earlier pictures."""
    sub = Subgraph(info, f"{name} as painter", "Loads the model, and paints while it looks at earlier pictures.")
    start, end = sub.input("start_percent", "FLOAT", 0.0), sub.input("end_percent", "FLOAT", 1.0)
    model, clip, vae = (klein if name == KLEIN else qwen_edit)(sub, (LEFT, TOP), 340)
    paints = sub.add(
        "M2Chat_StockPainter", at=(440, TOP), size=(340, 620), model=model, clip=clip, vae=vae,
        steps=4, cfg=1.0, references="reference latents", start_percent=start, end_percent=end,
    )  # fmt: skip
    sub.output("painter", paints["painter"])
    return sub


def story(info: Info, template: str, name: str, seed: int) -> Json:
    """Return the template of a story that an edit model paints."""
    graph = Graph(info)
    note(graph, template, (320, 620))
    made = painter(info, name)
    paints = graph.place(made, f"{name} as painter", at=(390, TOP), size=(270, 120))
    _, language = writer(graph, (390, under(paints)), 270)
    told = graph.add(
        "M2Chat_Story", at=(690, TOP), size=(280, 620), language_model=language[0], decoder=paints["painter"],
        premise=WHALE, panels=4, seed=seed,
    )  # fmt: skip
    show = graph.add(
        "M2Chat_ShowConversation", "The story", at=(1000, TOP), size=(275, 410), conversation=told["conversation"]
    )
    graph.add(
        "M2Chat_ExportStory", at=(1000, under(show)), size=(275, 160),
        conversation=show["conversation"], filename_prefix=f"M2Chat/{template}",
    )  # fmt: skip
    return saved(template, graph, [made])


def flux2_klein_story(info: Info) -> Json:
    """Return the template of a story by FLUX.2 Klein."""
    return story(info, "flux2_klein_story", KLEIN, 7)


def qwen_edit_story(info: Info) -> Json:
    """Return the template of a story by Qwen-Image-Edit."""
    return story(info, "qwen_edit_story", QWEN_EDIT, 7)


def change(info: Info) -> Subgraph:
    """Return a chain of one turn in which the user asks for a change and may show a picture."""
    sub = Subgraph(info, "Ask for a change", "Says something, shows a picture if there is one, and takes the turn.")
    language, paints = sub.input("language_model", PARTS["language_model"]), sub.input("painter", PARTS["decoder"])
    said, shown = sub.input("conversation", "M2CHAT_CONVERSATION"), sub.input("picture_shown", "IMAGE")
    text, gate = sub.input("text", "STRING", ""), sub.input("gate", "FLOAT", 1.0)
    seed = sub.input("seed", "INT", 1)
    user = sub.add(
        "M2Chat_UserMessage", at=(LEFT, TOP), size=(320, 200), conversation=said, text=text, pictures__picture_0=shown
    )
    memory = sub.add("M2Chat_Memory", "Look at the latest picture", at=(LEFT, 380), size=(320, 150), rule="last")
    turn = sub.add(
        "M2Chat_Turn", at=(400, TOP), size=(360, 560), language_model=language, decoder=paints,
        conversation=user["conversation"], gate=gate, seed=seed, memory=memory[0],
    )  # fmt: skip
    sub.output("conversation", turn["conversation"])
    return sub


def edit_dialogue(info: Info) -> Json:
    """Return the template of a dialogue about a picture that the user shows."""
    graph = Graph(info)
    note(graph, "edit_dialogue", (300, 330))
    made, turn = painter(info, KLEIN), change(info)
    paints = graph.place(made, "FLUX.2 Klein as painter", at=(365, TOP), size=(270, 120))
    language = folder_writer(graph, (365, under(paints)), 270, "Qwen2.5-VL-3B-Instruct")
    picture = graph.add("LoadImage", "The picture that you show", at=(LEFT, 460), size=(300, 240), image="example.png")
    start = graph.add("M2Chat_Conversation", at=(365, under(language)), size=(270, 110))
    models: Inputs = {"language_model": language[0], "painter": paints["painter"]}
    first = graph.place(
        turn, "First change", at=(665, TOP), size=(280, 290), **models, conversation=start["conversation"],
        picture_shown=picture[0], text="Show this again, in the snow.", seed=1,
    )  # fmt: skip
    second = graph.place(
        turn, "Second change", at=(665, under(first)), size=(280, 290), **models, conversation=first["conversation"],
        text="Now at night, under a full moon.", seed=2,
    )  # fmt: skip
    graph.add(
        "M2Chat_ShowConversation", "The dialogue", at=(975, TOP), size=(300, 620), conversation=second["conversation"]
    )
    return saved("edit_dialogue", graph, [made, turn])


def beside(info: Info) -> Subgraph:
    """Return a chain of stock nodes that paints a caption beside a reference."""
    sub = Subgraph(info, "Paint beside a reference", "Paints a caption by stock nodes, with a picture as reference.")
    model, clip, vae = sub.input("model", "MODEL"), sub.input("clip", "CLIP"), sub.input("vae", "VAE")
    picture = sub.input("picture", "IMAGE")
    text, seed = sub.input("text", "STRING", ""), sub.input("seed", "INT", 7)
    side = sub.add("ImageScaleToTotalPixels", at=(LEFT, TOP), size=(300, 110), image=picture, megapixels=1.0)
    latent = sub.add("VAEEncode", at=(LEFT, under(side)), size=(300, 60), pixels=side[0], vae=vae)
    said = sub.add("CLIPTextEncode", "The caption", at=(380, TOP), size=(300, 120), clip=clip, text=text)
    sees = sub.add("ReferenceLatent", at=(380, under(said)), size=(300, 60), conditioning=said[0], latent=latent[0])
    empty = sub.add("EmptyFlux2LatentImage", at=(380, under(sees)), size=(300, 120), width=1024, height=1024)
    sample = sub.add(
        "KSampler", at=(720, TOP), size=(300, 270), model=model, positive=sees[0], negative=sees[0],
        latent_image=empty[0], seed=seed, steps=4, cfg=1.0, sampler_name="euler", scheduler="simple",
    )  # fmt: skip
    decode = sub.add("VAEDecode", at=(1060, TOP), size=(240, 60), samples=sample[0], vae=vae)
    sub.output("picture", decode[0])
    return sub


def klein_parts(info: Info) -> Subgraph:
    """Return a chain of the stock loaders of FLUX.2 Klein."""
    sub = Subgraph(info, KLEIN, "Loads the model, its text encoder and its VAE.")
    for name, wire in zip(("model", "clip", "vae"), klein(sub, (LEFT, TOP), 340), strict=True):
        sub.output(name, wire)
    return sub


def reference_gate(info: Info) -> Json:
    """Return the template that shows what a gate, a mask and a window do to a reference."""
    graph = Graph(info)
    note(graph, "reference_gate", (320, 330))
    loads, chain = klein_parts(info), beside(info)
    load = graph.place(loads, KLEIN, at=(390, TOP), size=(270, 90))
    picture = graph.add("LoadImage", "The reference", at=(LEFT, 460), size=(320, 240), image="example.png")
    grey = graph.add(
        "M2Chat_ReferenceOnGrey", at=(390, under(load)), size=(270, 110), image=picture[0], mask=picture[1], crop=True
    )
    gate = graph.add(
        "M2Chat_GateReferences", "The gate", at=(390, under(grey)), size=(270, 240),
        properties={"live": True}, model=load["model"], mask=grey["mask"], gate=1.0, start_percent=0.1,
    )  # fmt: skip
    text = "the same character rides a bicycle through a green forest"
    parts: Inputs = {"clip": load["clip"], "vae": load["vae"], "text": text, "seed": 7}
    plain = graph.place(
        chain, "As it is", at=(690, TOP), size=(270, 250), model=load["model"], picture=picture[0], **parts
    )
    gated = graph.place(
        chain, "On grey, with the gate", at=(690, under(plain)), size=(270, 250),
        model=gate["model"], picture=grey["image"], **parts,
    )  # fmt: skip
    shown = graph.add("PreviewImage", "As it is", at=(990, TOP), size=(285, 290), images=plain["picture"])
    graph.add(
        "PreviewImage", "On grey, with the gate", at=(990, under(shown)), size=(285, 290), images=gated["picture"]
    )
    return saved("reference_gate", graph, [loads, chain])


ALL = [flux2_klein_story, qwen_edit_story, edit_dialogue, reference_gate]
