"""The subgraphs of the templates: chains of nodes that appear as one node."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .workflow import Graph, Inputs, Node, Subgraph

Info = dict[str, Any]

# A template that fits into 1280 by 700 can be read at first sight: a page of 1280 by 720 pixels shows it at three
# quarters of its size. All nodes are in columns that begin here.
LEFT, TOP = 40, 80
TITLE, GAP = 30, 20

PARTS = {
    "language_model": "M2CHAT_LANGUAGE_MODEL",
    "vision_encoder": "M2CHAT_VISION_ENCODER",
    "adapter": "M2CHAT_ADAPTER",
    "decoder": "M2CHAT_DECODER",
}
READS = ("language_model", "vision_encoder")
PAINTS = ("language_model", "decoder")
NOTES = Path(__file__).parent / "notes"


def note(graph: Graph, name: str, size: tuple[float, float]) -> None:
    """Put the note of a template at the upper left."""
    text = (NOTES / f"{name}.md").read_text("utf-8").strip()
    text = re.sub(r"(?<=\S)\n(?! *[-|] ?|\n)\s*", " ", text)  # each paragraph is a line
    graph.note("About this workflow", text, at=(LEFT, TOP), size=size)


def under(node: Node) -> float:
    """Return the y coordinate of a node right below another one."""
    return node.below + GAP + TITLE


def parts(load: Node) -> Inputs:
    """Return the four parts of M²Chat that a loader loads, by the names of inputs."""
    return {name: load[name] for name in PARTS}


def pair(load: Node) -> Inputs:
    """Return the starter's language model and painter, by the names of inputs."""
    return {"language_model": load["language_model"], "decoder": load["painter"]}


def taken(sub: Subgraph, *names: str) -> Inputs:
    """Add inputs for parts of M²Chat to a subgraph."""
    return {name: sub.input(name, PARTS[name]) for name in names}


def some(wires: Inputs, *names: str) -> Inputs:
    """Return the wires with these names."""
    return {name: wires[name] for name in names}


def next_picture(info: Info, premise: str, seed: int, steps: int = 20) -> Subgraph:
    """Return a chain that tells the first panel of a story and encodes the picture after it."""
    sub = Subgraph(
        info, "A story and its next picture", "Tells and paints a first panel, asks what happens next, and encodes it."
    )
    models = taken(sub, *PARTS)
    said, number = sub.input("premise", "STRING", premise), sub.input("seed", "INT", seed)
    story = sub.add(
        "M2Chat_Story", "The first panel", at=(LEFT, TOP), size=(360, 620),
        **models, premise=said, panels=1, seed=number, steps=steps,
    )  # fmt: skip
    user = sub.add(
        "M2Chat_UserMessage", "The next message", at=(440, TOP), size=(320, 160),
        conversation=story["conversation"], text="What happens next?",
    )  # fmt: skip
    reply = sub.add(
        "M2Chat_Reply", "The next reply", at=(440, under(user)), size=(320, 360),
        **some(models, *READS), conversation=user["conversation"], sampling_mode__seed=number,
    )  # fmt: skip
    slot = sub.add(
        "M2Chat_EncodeSlot", "What is known of its picture", at=(800, TOP), size=(320, 200),
        **some(models, *READS, "adapter"), conversation=reply["conversation"],
    )  # fmt: skip
    sub.output("features", slot["features"])
    sub.output("caption", slot["caption"])
    sub.output("earlier_picture", story["batch"])
    return sub


def painting(info: Info, seed: int, steps: int) -> Subgraph:
    """Return a chain from a condition to a picture, with two settings instead of eight."""
    sub = Subgraph(info, "Paint a picture", "Paints a condition.")
    decoder, condition = sub.input("decoder", PARTS["decoder"]), sub.input("condition", "M2CHAT_CONDITION")
    number, count = sub.input("seed", "INT", seed), sub.input("steps", "INT", steps)
    paint = sub.add(
        "M2Chat_Decode", at=(LEFT, TOP), size=(320, 340),
        decoder=decoder, condition=condition, seed=number, steps=count,
    )  # fmt: skip
    sub.output("picture", paint[0])
    return sub


def turn_in_blocks(info: Info) -> Subgraph:
    """Return a chain of one turn of a dialogue, including its picture."""
    sub = Subgraph(
        info, "A turn in blocks", "Adds a message, lets the language model reply, and paints the reply's picture."
    )
    models = taken(sub, *PARTS)
    said, shown = sub.input("conversation", "M2CHAT_CONVERSATION"), sub.input("picture_shown", "IMAGE")
    text = sub.input("text", "STRING", "What happens next?")
    gate, seed = sub.input("gate", "FLOAT", 1.0), sub.input("seed", "INT", 1)
    user = sub.add(
        "M2Chat_UserMessage", at=(LEFT, TOP), size=(320, 200), conversation=said, text=text, pictures__picture_0=shown
    )
    reply = sub.add(
        "M2Chat_Reply", at=(400, TOP), size=(320, 360),
        **some(models, *READS), conversation=user["conversation"], sampling_mode__seed=seed,
    )  # fmt: skip
    slot = sub.add(
        "M2Chat_EncodeSlot", at=(760, TOP), size=(300, 200),
        **some(models, *READS, "adapter"), conversation=reply["conversation"],
    )  # fmt: skip
    fuse = sub.add(
        "M2Chat_FuseM3Adapter", at=(760, under(slot)), size=(300, 200),
        adapter=models["adapter"], features=slot["features"], gate=gate,
    )  # fmt: skip
    paint = sub.add(
        "M2Chat_Decode", at=(1100, TOP), size=(300, 340),
        decoder=models["decoder"], condition=fuse["condition"], seed=seed,
    )  # fmt: skip
    place = sub.add(
        "M2Chat_PlacePicture", at=(1100, under(paint)), size=(300, 140),
        conversation=reply["conversation"], image=paint[0],
    )  # fmt: skip
    sub.output("conversation", place["conversation"])
    sub.output("picture", paint[0])
    return sub


def turn_in_one(info: Info) -> Subgraph:
    """Return a chain of one turn by Take Turn, in which the user may show a picture."""
    sub = Subgraph(info, "Say and show something", "Adds a message with a picture, if any, and takes the turn.")
    models = taken(sub, *PARTS)
    said, shown = sub.input("conversation", "M2CHAT_CONVERSATION"), sub.input("picture_shown", "IMAGE")
    text, seed = sub.input("text", "STRING", ""), sub.input("seed", "INT", 1)
    user = sub.add(
        "M2Chat_UserMessage", at=(LEFT, TOP), size=(320, 200), conversation=said, text=text, pictures__picture_0=shown
    )
    turn = sub.add(
        "M2Chat_Turn", at=(400, TOP), size=(360, 480),
        **models, conversation=user["conversation"], seed=seed, steps=25, guidance=6.0,
    )  # fmt: skip
    sub.output("conversation", turn["conversation"])
    sub.output("pictures", turn["images"])
    return sub


def caption_alone(info: Info) -> Subgraph:
    """Return a chain that encodes a caption with stock nodes and paints it with the pack's decoder."""
    sub = Subgraph(info, "The caption alone", "Encodes a caption with stock nodes, and paints it with Paint Picture.")
    clip, decoder = sub.input("clip", "CLIP"), sub.input("decoder", PARTS["decoder"])
    caption, seed = sub.input("caption", "STRING", ""), sub.input("seed", "INT", 7)
    said = sub.add("CLIPTextEncode", "The caption", at=(LEFT, TOP), size=(300, 120), clip=clip, text=caption)
    nothing = sub.add("CLIPTextEncode", "Nothing, for guidance", at=(LEFT, 250), size=(300, 120), clip=clip)
    both = sub.add("M2Chat_FromConditioning", at=(380, TOP), size=(300, 80), positive=said[0], negative=nothing[0])
    paint = sub.add(
        "M2Chat_Decode", at=(720, TOP), size=(300, 340), decoder=decoder, condition=both["condition"], seed=seed
    )
    sub.output("picture", paint[0])
    return sub


def portrait(info: Info, text: str, seed: int) -> Subgraph:
    """Return a chain that paints a portrait of a character."""
    sub = Subgraph(info, "A portrait", "Paints a text as the decoder reads it.")
    decoder = sub.input("decoder", PARTS["decoder"])
    said, number = sub.input("text", "STRING", text), sub.input("seed", "INT", seed)
    encode = sub.add("M2Chat_EncodeText", at=(LEFT, TOP), size=(300, 220), decoder=decoder, text=said)
    paint = sub.add(
        "M2Chat_Decode", at=(380, TOP), size=(300, 340), decoder=decoder, condition=encode["condition"], seed=number
    )
    sub.output("picture", paint[0])
    return sub


def story_by_hand(info: Info, look: str, species: str, captions: list[str], seed: int) -> Subgraph:
    """Return a chain of a conversation with a painted picture, and three open ones with captions of the user's own."""
    sub = Subgraph(info, "A story with your captions", "Paints a first picture, and opens one for each of three lines.")
    decoder = sub.input("decoder", PARTS["decoder"])
    lines = sub.input("captions", "STRING", "\n".join(captions))
    encode = sub.add(
        "M2Chat_EncodeText", "The look", at=(LEFT, TOP), size=(300, 220),
        decoder=decoder, text=f"a {look} {species} in the meadow",
    )  # fmt: skip
    paint = sub.add(
        "M2Chat_Decode", "The first picture", at=(380, TOP), size=(300, 340),
        decoder=decoder, condition=encode["condition"], seed=seed,
    )  # fmt: skip
    told = sub.add(
        "M2Chat_FromTextAndPictures", "The first panel", at=(720, TOP), size=(320, 260),
        text=f"Once upon a time. <image>a {species} in the meadow</image>", images=paint[0],
        message=f"A story about a {species}.",
    )  # fmt: skip
    slots = sub.add(
        "RegexReplace", "A picture for each line", at=(380, 500), size=(300, 260),
        string=lines, regex_pattern="^(.+)$", replace=r"<image>\1</image>", multiline=True,
    )  # fmt: skip
    more = sub.add(
        "M2Chat_FromTextAndPictures", "Three more to paint", at=(1080, TOP), size=(320, 260),
        text=slots[0], message="What happens next?", conversation=told["conversation"],
    )  # fmt: skip
    sub.output("conversation", more["conversation"])
    sub.output("first_picture", paint[0])
    return sub


def open_pictures(info: Info, seed: int) -> Subgraph:
    """Return a chain that paints the three open pictures of a conversation, each for itself, in a row."""
    sub = Subgraph(info, "Paint three pictures", "Paints each open picture from the first one, and puts them in a row.")
    models = taken(sub, *PARTS)
    told = sub.input("conversation", "M2CHAT_CONVERSATION")
    gate = sub.input("gate", "FLOAT", 1.0)
    row: Any = None
    for index, name in enumerate(("First", "Second", "Third")):
        y = TOP + 440 * index
        slot = sub.add(
            "M2Chat_EncodeSlot", f"{name} slot", at=(LEFT, y), size=(300, 200),
            **some(models, *READS, "adapter"), conversation=told, slot=index,
        )  # fmt: skip
        fuse = sub.add(
            "M2Chat_FuseM3Adapter", f"{name} gate", at=(380, y), size=(300, 200),
            adapter=models["adapter"], features=slot["features"], gate=gate,
        )  # fmt: skip
        paint = sub.add(
            "M2Chat_Decode", f"{name} picture", at=(720, y), size=(300, 340),
            decoder=models["decoder"], condition=fuse["condition"], seed=seed,
        )  # fmt: skip
        if row is None:
            row = paint[0]
        else:
            row = sub.add(
                "ImageStitch", f"{name} in the row", at=(1060, y), size=(300, 160), image1=row, image2=paint[0]
            )[0]  # fmt: skip
    sub.output("pictures", row)
    return sub


def words_of_panels(info: Info, said: list[str], seed: int) -> Subgraph:
    """Return a chain that tells some panels and leaves their pictures open."""
    sub = Subgraph(info, "The words of three panels", "Says one line after the other and lets the model reply to each.")
    models = taken(sub, *READS)
    told = sub.input("conversation", "M2CHAT_CONVERSATION")
    names = ("first", "second", "third")
    lines = [sub.input(f"{name}_line", "STRING", line) for name, line in zip(names, said, strict=True)]
    for index, (name, line) in enumerate(zip(names, lines, strict=True)):
        user = sub.add(
            "M2Chat_UserMessage", f"{name.title()} message", at=(LEFT + 360 * index, TOP), size=(320, 160),
            conversation=told, text=line,
        )  # fmt: skip
        number = sub.add(
            "M2Chat_TurnSeed", f"{name.title()} seed", at=(LEFT + 360 * index, 700), size=(320, 150),
            seed=seed, panel=index + 1,
        )  # fmt: skip
        reply = sub.add(
            "M2Chat_Reply", f"{name.title()} reply", at=(LEFT + 360 * index, under(user)), size=(320, 360),
            **models, conversation=user["conversation"], sampling_mode__seed=number[0],
        )  # fmt: skip
        told = reply["conversation"]
    sub.output("conversation", told)
    return sub


def pictures_of_panels(info: Info, seed: int) -> Subgraph:
    """Return a chain that paints the pictures of three panels, each of which can be re-rolled."""
    sub = Subgraph(info, "The pictures of three panels", "Paints the three open pictures of a conversation in turn.")
    models = taken(sub, *PARTS)
    told = sub.input("conversation", "M2CHAT_CONVERSATION")
    gate = sub.input("gate", "FLOAT", 1.0)
    names = ("first", "second", "third")
    rolls = [sub.input(f"{name}_reroll", "INT", 0) for name in names]
    memory = sub.add("M2Chat_Memory", at=(LEFT, TOP), size=(300, 150), rule="character")
    for index, (name, roll) in enumerate(zip(names, rolls, strict=True)):
        y = TOP + 440 * index
        number = sub.add(
            "M2Chat_TurnSeed", f"{name.title()} seed", at=(380, y + 230), size=(300, 150),
            seed=seed, panel=index + 1, reroll=roll,
        )  # fmt: skip
        slot = sub.add(
            "M2Chat_EncodeSlot", f"{name.title()} slot", at=(380, y), size=(300, 200),
            **some(models, *READS, "adapter"), conversation=told, memory=memory[0],
        )  # fmt: skip
        fuse = sub.add(
            "M2Chat_FuseM3Adapter", f"{name.title()} gate", at=(720, y), size=(300, 200),
            adapter=models["adapter"], features=slot["features"], gate=gate,
        )  # fmt: skip
        paint = sub.add(
            "M2Chat_Decode", f"{name.title()} picture", at=(1060, y), size=(300, 340),
            decoder=models["decoder"], condition=fuse["condition"], seed=number[0],
        )  # fmt: skip
        place = sub.add(
            "M2Chat_PlacePicture", f"{name.title()} picture in its place", at=(1400, y), size=(300, 140),
            conversation=told, image=paint[0], seed=number[0],
        )  # fmt: skip
        told = place["conversation"]
    sub.output("conversation", told)
    return sub


def more_panels(info: Info, premise: str, lines: list[str], seed: int) -> Subgraph:
    """Return a chain that continues a story along an outline."""
    sub = Subgraph(info, "More panels along an outline", "Makes an outline of the lines and tells the story on.")
    models = taken(sub, *PAINTS)
    told = sub.input("conversation", "M2CHAT_CONVERSATION")
    about, text = sub.input("premise", "STRING", premise), sub.input("lines", "STRING", "\n".join(lines))
    number = sub.input("seed", "INT", seed)
    outline = sub.add(
        "M2Chat_Outline", at=(LEFT, TOP), size=(320, 300),
        language_model=models["language_model"], premise=about, panels=len(lines), seed=number, lines=text,
    )  # fmt: skip
    story = sub.add(
        "M2Chat_Story", at=(400, TOP), size=(360, 620),
        **models, conversation=told, premise=about, panels=len(lines), seed=number, outline=outline[0],
    )  # fmt: skip
    sub.output("conversation", story["conversation"])
    return sub
