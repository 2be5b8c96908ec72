"""What the commands share: their options, loading the model, and printing a reply as it comes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..arguments import UserError, mendable
from ..conversation.conversation import ConversationError, Slot
from ..events import (
    Event,
    OnEvent,
    PictureDone,
    PictureStarted,
    ReplyWritten,
    Step,
    StoryEnded,
    TextChunk,
    TextWithdrawn,
    ThoughtChunk,
    TurnDone,
)
from ..language.reply import FAILED_REPLY
from ..language.sampling import Sampling
from ..pipeline import M2Chat
from ..settings import TurnSettings
from ..values import shown

_THOUGHT = ("[thinks: ", "]")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which weights to use, and where they run."""
    parser.add_argument("--starter", type=Path, metavar="DIR", help="weights to use instead of the shipped ones")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps, ... (default: %(default)s)")


def add_painting_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how to paint."""
    usual = TurnSettings()
    parser.add_argument(
        "--gate",
        type=float,
        default=usual.gate,
        metavar="X",
        help="0 free, 1 as trained, up to 4: ever closer to the earlier pictures (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=usual.seed,
        metavar="N",
        help="another number gives another story (default: %(default)s)",
    )
    parser.add_argument(
        "--steps", type=int, default=usual.steps, metavar="N", help="denoising steps (default: %(default)s)"
    )
    parser.add_argument(
        "--guidance",
        type=float,
        default=usual.guidance,
        metavar="X",
        help="how closely to follow captions (default: %(default)s)",
    )
    for side in ("width", "height"):
        parser.add_argument(
            f"--{side}",
            type=int,
            default=0,
            metavar="N",
            help=f"{side} of the pictures in pixels (default: the model's own)",
        )


def add_writing_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how long a reply may be, and whether the language model may think first."""
    usual = TurnSettings().sampling
    parser.add_argument(
        "--max-length", type=int, default=usual.max_length, metavar="N",
        help="maximum number of tokens of a reply (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--max-pictures",
        type=int,
        default=TurnSettings().max_pictures,
        metavar="N",
        help="maximum number of pictures in a reply (default: %(default)s)",
    )
    parser.add_argument("--thinking", action="store_true", help="let models think first if they can")
    parser.add_argument(
        "--max-thinking", type=int, default=usual.max_thinking, metavar="N",
        help="maximum number of tokens of thought for a reply (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--show-thoughts", action="store_true", help="also print what the model thinks")


def turn_settings(options: argparse.Namespace) -> TurnSettings:
    """Return what the options say about writing and painting; UserError if a value is out of its range."""
    with mendable():
        return TurnSettings(
            gate=options.gate,
            seed=options.seed,
            steps=options.steps,
            guidance=options.guidance,
            width=options.width,
            height=options.height,
            max_pictures=options.max_pictures,
            sampling=Sampling(
                max_length=options.max_length, thinking=options.thinking, max_thinking=options.max_thinking
            ),
        )


def check_size(settings: TurnSettings, model: M2Chat) -> None:
    """Raise UserError if the model cannot paint pictures of the size that the settings ask for."""
    if settings.width or settings.height:
        with mendable():
            model.decoder.check_size(settings.width, settings.height)


def check_device(name: str) -> None:
    """Raise UserError if torch has no such device here."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch raises all three, by kind of device
        raise UserError(f"The device {shown(name)} cannot be used here: try --device cpu.") from error


def quiet_loading() -> None:
    """Turn off the libraries' progress bars and advice; the terminal is for the story.

    Weights load in a second. Without torchvision, which nothing here needs, transformers would advise to install it.
    """
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def load_model(options: argparse.Namespace) -> M2Chat:
    """Load the model that the options name."""
    check_device(options.device)
    quiet_loading()
    with mendable():
        if options.starter is None:
            return M2Chat.from_starter(options.device)
        return M2Chat.from_pretrained(options.starter, device=options.device)


@contextmanager
def printing(*, thoughts: bool = False) -> Iterator[OnEvent]:
    """Print a reply, or a whole story, as it comes: give `M2Chat.turn` or `story` the `on_event` that this yields.

    `thoughts` also prints what the model thinks, in brackets. Output that cannot become a reply raises UserError.
    """
    try:
        yield ReplyPrinter(thoughts=thoughts).hear
    except (*FAILED_REPLY, ConversationError) as error:
        print()
        raise UserError(str(error)) from error


class ReplyPrinter:
    """Prints replies as they come: text to stdout, with progress if that is a terminal; to stderr why a story ends.

    The texts of a story come first, then its pictures, which are numbered from its first to its last.
    """

    def __init__(self, *, thoughts: bool) -> None:
        self._live = sys.stdout.isatty()
        self._shows_thoughts = thoughts
        self._in_thought = False
        self._at_line_start = True
        self._apart = False  # whether a blank line comes before further text
        self._labels: dict[Slot, tuple[str, str]] = {}  # label and caption of what is being painted
        self._replies = self._pictures = self._painted = 0  # of what is written and not done yet

    def hear(self, event: Event) -> None:
        """Print an event."""
        if self._in_thought and not isinstance(event, ThoughtChunk):
            print(_THOUGHT[1], flush=True)
            self._at_line_start, self._in_thought = True, False
        if isinstance(event, ThoughtChunk):
            self._think(event.text)
        elif isinstance(event, TextWithdrawn):
            print(f"\n{_THOUGHT[0]}that was a thought{_THOUGHT[1]}\n{event.text}", end="", flush=True)
            self._at_line_start = not event.text
        elif isinstance(event, TextChunk):
            text = event.text.lstrip() if self._at_line_start else event.text
            if text:
                self._set_apart()
            print(text, end="", flush=True)
            self._at_line_start = self._at_line_start and not text
        elif isinstance(event, ReplyWritten):
            turns = event.conversation.turns
            self._pictures += sum(slot.turn == len(turns) - 1 for slot in event.conversation.open_slots())
            self._replies += 1
            self._end_line()
            self._apart = True
        elif isinstance(event, PictureStarted):
            number, count = event.index, event.count
            if self._replies:
                number, count = self._painted + len(self._labels), self._pictures
            self._labels[event.slot] = f"[picture {number + 1} of {count}", event.caption
            self._end_line()
            self._apart = False
        elif isinstance(event, Step) and self._live:
            label, _ = self._labels[event.slot]
            print(f"\r{label}: step {event.step} of {event.total} ", end="", flush=True)
        elif isinstance(event, PictureDone):
            erase = "\r\x1b[K" if self._live else ""
            label, caption = self._labels.pop(event.slot)
            print(f"{erase}{label}: {caption}]", flush=True)
            self._painted += 1
        elif isinstance(event, TurnDone):
            self._replies -= self._replies > 0
            if not self._replies:
                self._end_line()
                print(flush=True)
                self._pictures = self._painted = 0
        elif isinstance(event, StoryEnded):
            self._end_line()
            print(event.text, file=sys.stderr, flush=True)

    def _set_apart(self) -> None:
        if self._apart:
            print()
        self._apart = False

    def _end_line(self) -> None:
        print(end="" if self._at_line_start else "\n", flush=True)
        self._at_line_start = True

    def _think(self, text: str) -> None:
        if self._shows_thoughts:
            self._set_apart()
            begin = "" if self._in_thought else f"{'' if self._at_line_start else chr(10)}{_THOUGHT[0]}"
            print(begin + (text if self._in_thought else text.lstrip()), end="", flush=True)
            self._in_thought = True
