"""Tell a story of four pictures with the starter, print it while it is told, and write it as a page and an e-book."""

from pathlib import Path

from m3adapter import M2Chat, export_story
from m3adapter.events import Event, PictureDone, PictureStarted, TextChunk

PREMISE = "A fox who finds a kite on the beach."


def show(event: Event) -> None:
    """Print the words as they are written, and what is painted."""
    if isinstance(event, TextChunk):
        print(event.text, end="", flush=True)
    elif isinstance(event, PictureStarted):
        print(f"\n  painting: {event.caption} ...", end="", flush=True)
    elif isinstance(event, PictureDone):
        print(" done")


def main(folder: Path, panels: int = 4, steps: int = 20) -> None:
    """Write the story into a folder."""
    chat = M2Chat.from_starter()
    story = chat.story(PREMISE, panels, gate=1.0, seed=7, steps=steps, on_event=show)
    page = export_story(story, folder, formats=["html", "epub"])
    print(page.path)


if __name__ == "__main__":
    main(Path("story"))
