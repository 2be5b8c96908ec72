"""The templates that run without further models, with the starter."""

from __future__ import annotations

from . import chains
from .chains import LEFT, TOP, Info, note, pair, parts, some, under
from .workflow import Graph, Json, saved

LOADER = "M2Chat_LoadStarter"
TRAINED = 200  # steps of each stage
FOX = "A story about a fox with a kite on the beach."


def storybook(info: Info) -> Json:
    """Return the simplest template: a story from one premise."""
    graph = Graph(info)
    note(graph, "storybook", (300, 440))
    load = graph.add(LOADER, at=(LEFT, 570), size=(300, 120))
    story = graph.add("M2Chat_Story", at=(370, TOP), size=(390, 640), **pair(load), seed=7)
    show = graph.add(
        "M2Chat_ShowConversation", "The story", at=(790, TOP), size=(470, 430), conversation=story["conversation"]
    )
    graph.add("M2Chat_ExportStory", at=(790, under(show)), size=(470, 160), conversation=show["conversation"])
    return saved("storybook", graph)


def gate(info: Info) -> Json:
    """Return the template of a live picture beside its reference."""
    graph = Graph(info)
    note(graph, "gate", (270, 340))
    load = graph.add(LOADER, at=(LEFT, 470), size=(270, 120))
    before = chains.next_picture(info, FOX, seed=8, steps=8)
    begin = graph.place(before, "A picture, and what comes next", at=(335, TOP), size=(270, 240), **parts(load))
    fuse = graph.add(
        "M2Chat_FuseM3Adapter", "The gate", at=(335, under(begin)), size=(270, 200),
        adapter=load["adapter"], features=begin["features"], properties={"live": True},
    )  # fmt: skip
    paint = chains.painting(info, seed=1, steps=8)
    picture = graph.place(
        paint, "Paint the next picture", at=(335, under(fuse)), size=(270, 140),
        decoder=load["decoder"], condition=fuse["condition"],
    )  # fmt: skip
    graph.add("PreviewImage", "The picture before", at=(630, TOP), size=(270, 330), images=begin["earlier_picture"])
    graph.add("PreviewImage", "The next picture", at=(920, TOP), size=(360, 420), images=picture["picture"])
    graph.add("PreviewImage", "Where the gate is open", at=(630, 550), size=(650, 210), images=fuse["gate_map"])
    return saved("gate", graph, [before, paint])


def dialogue(info: Info) -> Json:
    """Return the template of two turns in blocks and one in a single node."""
    graph = Graph(info)
    note(graph, "dialogue", (260, 290))
    load = graph.add(LOADER, at=(LEFT, 420), size=(260, 120))
    start = graph.add("M2Chat_Conversation", at=(LEFT, under(load)), size=(260, 130))
    turn = chains.turn_in_blocks(info)
    first = graph.place(
        turn, "First turn", at=(325, TOP), size=(260, 290),
        **parts(load), conversation=start["conversation"],
        text="Tell me about a hedgehog with a drum in the forest.", seed=1,
    )  # fmt: skip
    second = graph.place(
        turn, "Second turn, with a picture", at=(325, under(first)), size=(260, 290),
        **parts(load), conversation=first["conversation"], picture_shown=first["picture"],
        text="This was at the beginning. Now bring it to the castle at night.", seed=3,
    )  # fmt: skip
    last = graph.add(
        "M2Chat_Turn", "Third turn, in one node", at=(610, TOP), size=(260, 560),
        **pair(load), conversation=second["conversation"], text="What happens next?", seed=4,
    )  # fmt: skip
    show = graph.add(
        "M2Chat_ShowConversation", "The dialogue", at=(895, TOP), size=(380, 430), conversation=last["conversation"]
    )
    graph.add(
        "M2Chat_ExportStory", at=(895, under(show)), size=(380, 180),
        conversation=show["conversation"], filename_prefix="M2Chat/dialogue",
    )  # fmt: skip
    return saved("dialogue", graph, [turn])


def book(info: Info) -> Json:
    """Return the template of a story as a comic page, a picture book and an e-book."""
    title = "The Fox and the Kite"
    graph = Graph(info)
    note(graph, "book", (280, 280))
    load = graph.add(LOADER, at=(LEFT, 410), size=(280, 120))
    story = graph.add("M2Chat_Story", at=(350, TOP), size=(330, 640), **pair(load), seed=7)
    pages = graph.add(
        "M2Chat_Pages", "A comic", at=(710, TOP), size=(270, 210),
        conversation=story["conversation"], layout="large and small", words="balloons", title=title,
    )  # fmt: skip
    graph.add(
        "SaveImage", "The page", at=(1010, TOP), size=(260, 640), images=pages["pages"], filename_prefix="M2Chat/comic"
    )
    graph.add(
        "M2Chat_ExportStory", "A picture book as PDF", at=(710, under(pages)), size=(270, 260),
        conversation=story["conversation"], filename_prefix="M2Chat/book", format="pdf", title=title,
    )  # fmt: skip
    graph.add(
        "M2Chat_ExportStory", "An e-book", at=(LEFT, under(load)), size=(280, 160),
        conversation=story["conversation"], filename_prefix="M2Chat/ebook", format="epub", title=title,
    )  # fmt: skip
    return saved("book", graph)


def gate_lab(info: Info) -> Json:
    """Return the template of many gates and seeds on one sheet."""
    graph = Graph(info)
    note(graph, "gate_lab", (280, 230))
    load = graph.add(LOADER, at=(LEFT, 360), size=(280, 120))
    before = chains.next_picture(info, "A story about an owl with a drum in the forest.", seed=3)
    begin = graph.place(before, "A picture, and what comes next", at=(350, TOP), size=(290, 240), **parts(load))
    graph.add(
        "PreviewImage", "The picture before", at=(LEFT, under(load)), size=(280, 220), images=begin["earlier_picture"]
    )
    sweep = graph.add(
        "M2Chat_GateSweep", at=(350, under(begin)), size=(290, 370),
        **some(parts(load), "adapter", "decoder", "vision_encoder"), features=begin["features"],
        gates="0, 0.25, 0.5, 0.75, 1", seeds=2, seed=6,
    )  # fmt: skip
    graph.add("PreviewImage", "The sheet", at=(670, TOP), size=(600, 660), images=sweep["sheet"])
    return saved("gate_lab", graph, [before])


def stock_sampler(info: Info) -> Json:
    """Return the template of an M²Chat condition that the stock KSampler paints."""
    graph = Graph(info)
    note(graph, "stock_sampler", (270, 320))
    load = graph.add(LOADER, at=(LEFT, 450), size=(270, 120))
    stock = graph.add("M2Chat_LoadStarterStock", at=(LEFT, under(load)), size=(270, 120))
    before = chains.next_picture(info, FOX, seed=7)
    begin = graph.place(before, "A picture, and what comes next", at=(335, TOP), size=(270, 240), **parts(load))
    fuse = graph.add(
        "M2Chat_FuseM3Adapter", "The gate", at=(335, under(begin)), size=(270, 200),
        adapter=load["adapter"], features=begin["features"],
    )  # fmt: skip
    hand = graph.add(
        "M2Chat_ToConditioning", at=(335, under(fuse)), size=(270, 140),
        condition=fuse["condition"], width=128, height=128,
    )  # fmt: skip
    empty = graph.add("EmptyLatentImage", at=(630, TOP), size=(270, 120), width=128, height=128)
    sample = graph.add(
        "KSampler", "KSampler", at=(630, under(empty)), size=(270, 270),
        model=stock["model"],
        positive=hand["positive"], negative=hand["negative"], latent_image=empty[0],
        seed=7, steps=20, cfg=3.0, sampler_name="euler", scheduler="sgm_uniform",
    )  # fmt: skip
    decode = graph.add("VAEDecode", at=(630, under(sample)), size=(270, 60), samples=sample[0], vae=stock["vae"])
    shown = graph.add("PreviewImage", "Painted by KSampler", at=(925, TOP), size=(350, 200), images=decode[0])
    alone = chains.caption_alone(info)
    other = graph.place(
        alone, "The caption alone", at=(925, under(shown)), size=(350, 180),
        clip=stock["clip"], decoder=load["decoder"], caption=begin["caption"],
    )  # fmt: skip
    graph.add(
        "PreviewImage", "From the caption alone", at=(925, under(other)), size=(350, 200), images=other["picture"]
    )
    return saved("stock_sampler", graph, [before, alone])


def session(info: Info) -> Json:
    """Return the template of a story to work on."""
    graph = Graph(info)
    note(graph, "session", (270, 340))
    load = graph.add(LOADER, at=(LEFT, 470), size=(270, 120))
    old = graph.add("M2Chat_LoadSession", at=(LEFT, under(load)), size=(270, 110), name="")
    face = chains.portrait(info, "a blue fox in the meadow", seed=4)
    fox = graph.place(face, "The fox's portrait", at=(335, TOP), size=(280, 160), decoder=load["decoder"])
    cast = graph.add(
        "M2Chat_Cast", at=(335, under(fox)), size=(280, 150),
        conversation=old["conversation"], name="fox", pictures=fox["picture"],
    )  # fmt: skip
    said = ["A fox finds a kite on the beach.", "What happens next?", "What happens next?"]
    words = chains.words_of_panels(info, said, seed=144)
    told = graph.place(
        words, "The words of three panels", at=(335, under(cast)), size=(280, 280),
        **some(parts(load), *chains.READS), conversation=cast["conversation"],
    )  # fmt: skip
    pictures = chains.pictures_of_panels(info, seed=7)
    painted = graph.place(
        pictures, "The pictures of three panels", at=(640, TOP), size=(270, 270),
        **parts(load), conversation=told["conversation"],
    )  # fmt: skip
    lines = ["The fox walks to the castle at night."]
    more = chains.more_panels(info, "The fox goes home.", lines, seed=7)
    on = graph.place(
        more, "On along an outline", at=(640, under(painted)), size=(270, 320),
        **pair(load), conversation=painted["conversation"],
    )  # fmt: skip
    edit = graph.add(
        "M2Chat_EditConversation", "Another first message, as a title", at=(935, TOP), size=(340, 190),
        conversation=on["conversation"], edit="text", edit__turn=1, edit__text="The blue fox and the kite.",
    )  # fmt: skip
    keep = graph.add(
        "M2Chat_SaveSession", at=(935, under(edit)), size=(340, 184),
        conversation=edit["conversation"], name="the blue fox",
    )  # fmt: skip
    graph.add(
        "M2Chat_ShowConversation", "The story", at=(935, under(keep)), size=(340, 240),
        conversation=keep["conversation"],
    )  # fmt: skip
    return saved("session", graph, [face, words, pictures, more])


def train_adapter(info: Info) -> Json:
    """Return the template of a training: the same pictures before and after."""
    graph = Graph(info)
    note(graph, "train_adapter", (258, 235))
    load = graph.add(LOADER, at=(LEFT, 365), size=(258, 130))
    data = graph.add(
        "M2Chat_Dataset", "What it learns from", at=(LEFT, under(load)), size=(258, 255),
        dataset="examples/german-captions",
    )  # fmt: skip
    # Below its widgets there is room for what it shows while it trains.
    train = graph.add(
        "M2Chat_TrainAdapter", at=(313, TOP), size=(258, 720),
        **parts(load), dataset=data["dataset"], steps=TRAINED, batch_size=8, name="German captions", denoise_from=0.5,
    )  # fmt: skip
    captions = ["Fuchs mit Drachen am Strand", "Fuchs im Wald bei Nacht", "Fuchs mit Regenschirm am Schloss im Regen"]
    begin = chains.story_by_hand(info, "red", "fox", captions, seed=1)
    told = graph.place(begin, "A story with your captions", at=(586, TOP), size=(258, 170), decoder=load["decoder"])
    paint = chains.open_pictures(info, seed=7)
    before = graph.place(
        paint, "Paint before", at=(586, under(told)), size=(258, 150), **parts(load), conversation=told["conversation"]
    )
    after = graph.place(
        paint, "Paint after", at=(586, under(before)), size=(258, 150),
        **{**parts(load), "adapter": train["adapter"]}, conversation=told["conversation"],
    )  # fmt: skip
    shown = graph.add("PreviewImage", "Before the training", at=(859, TOP), size=(258, 200), images=before["pictures"])
    shown = graph.add("PreviewImage", "After it", at=(859, under(shown)), size=(258, 200), images=after["pictures"])
    graph.add("LossGraphNode", "Its loss", at=(859, under(shown)), size=(258, 220), loss=train["loss_map"])
    look = graph.add("PreviewImage", "The look", at=(1132, TOP), size=(258, 200), images=told["first_picture"])
    graph.add(
        "M2Chat_SaveAdapter", at=(1132, under(look)), size=(258, 200),
        adapter=train["adapter"], prefix="german_captions", steps=train["steps"],
    )  # fmt: skip
    return saved("train_adapter", graph, [begin, paint])


ALL = [storybook, gate, dialogue, book, gate_lab, stock_sampler, session, train_adapter]
