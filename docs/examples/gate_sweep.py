"""Paint one picture at several strengths of the gate, with the same noise, and measure how like its reference it is."""

from pathlib import Path

from m3adapter import Conversation, M2Chat
from m3adapter.adapter.gate_sweep import Cell, draw_sheet, similarity
from m3adapter.conversation.pictures import to_pil

GATES = (0.0, 0.25, 0.5, 0.75, 1.0)
SEEDS = (1, 2)


def main(path: Path, steps: int = 20) -> None:
    """Write the labelled sheet to a PNG file."""
    chat = M2Chat.from_starter()
    dialogue = chat.turn(Conversation().user("A fox on the beach."), seed=7, steps=steps)
    dialogue = chat.write(dialogue.user("The fox is in the forest now."), seed=7)  # its picture is not painted yet

    slot = dialogue.open_slots()[0]
    features = chat.encode(dialogue, slot)  # what the models know: the gate needs it once
    references = chat.see(dialogue.references(slot)).levels
    rows = []
    for seed in SEEDS:
        images = [chat.paint(chat.fuse(features, gate), seed=seed, steps=steps) for gate in GATES]
        alike = [similarity(chat.see([image]).levels[0], references) for image in images]
        rows.append([Cell(image, value) for image, value in zip(images, alike, strict=True)])
    to_pil(draw_sheet(rows, GATES, SEEDS)).save(path)


if __name__ == "__main__":
    main(Path("gates.png"))
