"""Talk in turns: the same fox comes back, then one picture is painted again, and the dialogue goes on tomorrow."""

from pathlib import Path

from m3adapter import Conversation, M2Chat, TurnSettings


def main(folder: Path, steps: int = 20) -> None:
    """Save the dialogue to a folder, with its pictures."""
    chat = M2Chat.from_starter()
    settings = TurnSettings(gate=1.0, seed=7, steps=steps)

    dialogue = chat.turn(Conversation().user("Show me a red fox on the beach."), settings)
    dialogue = chat.turn(dialogue.user("Now the fox is in the forest, with a kite."), settings)

    # Open the first picture's place again, change its caption, and have only it painted with another seed.
    first = dialogue.pictures()[0]
    changed = dialogue.with_caption(first, "a red fox with a ball on the beach").without_picture(first)
    dialogue = chat.turn(changed, settings, seed=8)

    dialogue.save(folder)
    tomorrow = Conversation.load(folder)
    tomorrow = chat.turn(tomorrow.user("What happens next?"), settings)
    tomorrow.save(folder)


if __name__ == "__main__":
    main(Path("dialogue"))
