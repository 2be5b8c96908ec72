"""Prints conversations to read: `python -m m3adapter.picturebook.stories --count 20 --seed 0 --split train`."""

from __future__ import annotations

import argparse
import random

from .tale import SPLITS, Exchange
from .teller import story


def main(argv: list[str] | None = None) -> None:
    """Print random conversations: messages behind ">", captions in brackets."""
    parser = argparse.ArgumentParser(prog="python -m m3adapter.picturebook.stories", description=__doc__)
    parser.add_argument("--count", type=int, default=20, help="conversations (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--split", choices=SPLITS, default="train", help="default: %(default)s")
    options = parser.parse_args(argv)
    rng = random.Random(options.seed)
    for number in range(1, options.count + 1):
        print(f"--- {number}")
        for exchange in story(rng, options.split).exchanges:
            print(*_lines(exchange), sep="\n")


def _lines(exchange: Exchange) -> list[str]:
    shown = exchange.user_scene
    picture = f"(a picture of {shown.characters[0].species}) " if shown else ""
    lines = [f"> {picture}{exchange.message}"]
    for panel in exchange.panels:
        lines += [f"  {panel.text}", f"  [{panel.caption}]"]
    return [*lines, f"  {exchange.answer}"] if exchange.answer else lines


if __name__ == "__main__":
    main()
