"""What the commands share: errors a user can mend, the model's options, and printing a reply while it comes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .. import limits
from ..arguments import UserError, mendable
from ..conversation.conversation import Conversation, ConversationError
from ..events import (
    Event,
    PictureDone,
    PictureStarted,
    Step,
    StoryEnded,
    TextChunk,
    TextWithdrawn,
    ThoughtChunk,
    TurnDone,
)
from ..language.reply import FAILED_REPLY, PICTURES
from ..language.sampling import Sampling
from ..pipeline import M2Chat
from ..values import shown

_THOUGHT = ("[thinks: ", "]")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which weights, and where they run."""
    parser.add_argument("--starter", type=Path, metavar="DIR", help="weights to use instead of the shipped ones")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps, ... (default: %(default)s)")


def add_painting_options(parser: argparse.ArgumentParser) -> None:
    """How to write and paint."""
    parser.add_argument(
        "--gate", type=float, default=1.0, metavar="X",
        help="0 free, 1 as trained, up to 4: ever closer to the earlier pictures (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another number, another story (default: 0)")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="denoising steps (default: %(default)s)")
    parser.add_argument(
        "--guidance", type=float, default=3.0, metavar="X", help="how closely to follow captions (default: %(default)s)"
    )

    for side in ("width", "height"):
        parser.add_argument(
            f"--{side}", type=int, default=0, metavar="N", help="of pictures, in pixels (default: as made for)"
        )


def add_writing_options(parser: argparse.ArgumentParser) -> None:
    """How long a reply may be, and whether the language model thinks before it."""
    usual = Sampling()
    parser.add_argument(
        "--max-length", type=int, default=usual.max_length, metavar="N",
        help="most tokens of a reply (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--max-pictures",
        type=int,
        default=PICTURES,
        metavar="N",
        help="most pictures of a reply (default: %(default)s)",
    )
    parser.add_argument("--thinking", action="store_true", help="let models think first that can be asked to")
    parser.add_argument(
        "--max-thinking", type=int, default=usual.max_thinking, metavar="N",
        help="most tokens of thoughts for a reply (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--show-thoughts", action="store_true", help="print what the model thinks, too")


def writing(options: argparse.Namespace) -> dict[str, Any]:
    """What the writing options say to M2Chat. Raises UserError for a value out of its bounds."""
    with mendable():
        limits.check_pictures(options.max_pictures)
        budget = {"max_length": options.max_length, "max_thinking": options.max_thinking}
        return {"sampling": Sampling(thinking=options.thinking, **budget), "max_pictures": options.max_pictures}


def check_painting_options(options: argparse.Namespace) -> None:
    """Raises UserError for a value out of its bounds: before any model is loaded."""
    writing(options)
    with mendable():
        limits.check_gate(options.gate)
        limits.check_seed(options.seed)
        limits.check_steps(options.steps)
        limits.check_guidance(options.guidance)
        limits.check_side("width", options.width)
        limits.check_side("height", options.height)


def painting(options: argparse.Namespace, model: M2Chat) -> dict[str, Any]:
    """What `M2Chat.turn` and `story` are told of these options. Raises UserError for a size the model cannot paint."""
    told = {name: getattr(options, name) for name in ("gate", "seed", "steps", "guidance")}
    size = {name: side for name in ("width", "height") if (side := getattr(options, name))}
    if size:
        with mendable():
            model.decoder.check_size(options.width, options.height)
    return {**told, **size}


def check_device(name: str) -> None:
    """Raises UserError where torch has no such device here."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch raises all three, by kind of device
        raise UserError(f"The device {shown(name)} cannot be used here: try --device cpu.") from error


def quiet_loading() -> None:
    """No progress bars for weights that load in a second: the terminal is for the story."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


def load_model(options: argparse.Namespace) -> M2Chat:
    """The model that the options name."""
    check_device(options.device)
    quiet_loading()
    with mendable():
        if options.starter is None:
            return M2Chat.from_starter(options.device)
        return M2Chat.from_pretrained(options.starter, device=options.device)


def show(events: Iterable[Event], conversation: Conversation, *, thoughts: bool = False) -> Conversation:
    """Prints a reply, or a whole story, while it comes; returns the conversation with it.

    `thoughts` prints what the model thinks, too, in brackets. Raises UserError where no reply can be made of what
    models give; of a story, what was told before is kept, and stderr gets the reason.
    """
    live = sys.stdout.isatty()
    started: PictureStarted | None = None
    at_line_start, thinks = True, False
    for event in _mended(events):
        if thinks and not isinstance(event, ThoughtChunk):
            print(_THOUGHT[1], flush=True)
            at_line_start, thinks = True, False
        if isinstance(event, ThoughtChunk):
            if thoughts:
                begin = "" if thinks else f"{'' if at_line_start else chr(10)}{_THOUGHT[0]}"
                print(begin + (event.text if thinks else event.text.lstrip()), end="", flush=True)
                thinks = True
        elif isinstance(event, TextWithdrawn):
            print(f"\n{_THOUGHT[0]}that was a thought{_THOUGHT[1]}\n{event.text}", end="", flush=True)
            at_line_start = not event.text
        elif isinstance(event, TextChunk):
            text = event.text.lstrip() if at_line_start else event.text
            print(text, end="", flush=True)
            at_line_start = at_line_start and not text
        elif isinstance(event, PictureStarted):
            started = event
            if not at_line_start:
                print()
            at_line_start = True
        elif isinstance(event, Step) and live:
            print(f"\r{_label(started)}: step {event.step} of {event.total} ", end="", flush=True)
        elif isinstance(event, PictureDone):
            erase = "\r\x1b[K" if live else ""
            print(f"{erase}{_label(started)}: {started.caption}]", flush=True)
        elif isinstance(event, TurnDone):
            conversation = event.conversation
            print(end="\n" if at_line_start else "\n\n", flush=True)
            at_line_start = True
        elif isinstance(event, StoryEnded):
            print("" if at_line_start else "\n", end="", flush=True)
            print(event.text, file=sys.stderr, flush=True)
    return conversation


def _mended(events: Iterable[Event]) -> Iterator[Event]:
    """The events; what no reply can be made of, nothing but thoughts say, is something a user can mend."""
    try:
        yield from events
    except (*FAILED_REPLY, ConversationError) as error:
        print()
        raise UserError(str(error)) from error


def _label(started: PictureStarted) -> str:
    return f"[picture {started.index + 1} of {started.count}"
