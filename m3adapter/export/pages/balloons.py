"""Speech balloons in the upper half of a picture, with tails towards its middle."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from .items import WHITE, Item, Photo, Point, Shape, Words
from .text import Line, Typesetter

LEADING = 1.25
_LONGEST = 160  # characters; a longer speech stays in the text
_LOWEST = 0.56  # as a share of the picture's height: no balloon reaches lower
_ROUND = 2.7  # exponent of the superellipse: 2 is an ellipse, higher ones are squarer


def balloons(said: Sequence[str], photo: Photo, typesetter: Typesetter, size: int) -> list[list[Item]]:
    """Place speech balloons at the left and right of a picture in turn.

    Args:
        said: The speeches in order.
        photo: The picture on its page.
        typesetter: Sets the text.
        size: Of the type, in pixels.

    Returns:
        The items of each balloon; there are as many balloons as have room, beginning with the first speech.
    """
    placed: list[list[Item]] = []
    edge = photo.width * 0.025
    top = photo.y + edge
    for index, speech in enumerate(said):
        lines = _lines(" ".join(speech.split()), photo.width, typesetter, size)
        # Half the axes of a superellipse around the block of lines.
        grow = 2 ** (1 / _ROUND)
        wide = (max((line.width for line in lines), default=0) / 2 + 0.35 * size) * grow
        high = (len(lines) * LEADING * size / 2 + 0.12 * size) * grow
        if not lines or top + 2 * high > photo.y + photo.height * _LOWEST or 2 * (wide + edge) > photo.width:
            break
        x = photo.x + edge + wide if index % 2 == 0 else photo.x + photo.width - edge - wide
        y = top + high
        tip = _tip(photo, x, y + high)
        balloon: list[Item] = [Shape(tuple(_outline((x, y), wide, high, tip, size)), WHITE, max(1.5, size * 0.07))]
        for row, line in enumerate(lines):
            base = y + (row - len(lines) / 2 + 0.5) * LEADING * size + 0.34 * size
            balloon += [Words(run, x - line.width / 2 + run.x, base, size) for run in line.runs]
        placed.append(balloon)
        top = y + high + edge
    return placed


def _lines(speech: str, width: float, typesetter: Typesetter, size: int) -> list[Line]:
    """Break a speech into a block of lines about three times as wide as high, if the picture is wide enough."""
    if len(speech) > _LONGEST:
        return []
    wanted = math.sqrt(3 * LEADING * size * sum(line.width for line in typesetter.lines(speech, size, 1e9)))
    return typesetter.balanced(speech, size, min(max(wanted, typesetter.widest_word(speech, size)), width * 0.7))


def _tip(photo: Photo, x: float, bottom: float) -> Point:
    """Return the tip of the tail, below the balloon and towards the middle of the picture."""
    middle = photo.x + photo.width / 2
    lowest = photo.y + photo.height * (_LOWEST + 0.08)
    return x + (middle - x) * 0.4, min(bottom + photo.height * 0.11, lowest)


def _outline(centre: Point, wide: float, high: float, tip: Point, size: int) -> Iterator[Point]:
    """Yield the outline: around the balloon from the right of the tail to its left, then both sides of the tail."""
    steps = 160
    around = [_edge(centre, wide, high, 2 * math.pi * step / steps) for step in range(steps)]
    # The tail leaves where the balloon is lowest, a little towards its tip.
    foot = centre[0] + max(-0.35 * wide, min(0.35 * wide, (tip[0] - centre[0]) * 0.5))
    half = min(0.55 * size, wide * 0.3)
    body = [point for point in around if point[1] < centre[1] or abs(point[0] - foot) > half]
    body.sort(key=lambda point: (math.atan2(point[1] - centre[1], point[0] - foot) - math.pi / 2) % (2 * math.pi))
    yield from body
    bend = (foot + (tip[0] - foot) * 0.15, (body[0][1] + tip[1]) / 2)
    yield from _curve(body[-1], (bend[0] + half * 0.5, bend[1]), tip)
    yield from _curve(tip, (bend[0] - half * 0.5, bend[1]), body[0])


def _edge(centre: Point, wide: float, high: float, angle: float) -> Point:
    cosine, sine = math.cos(angle), math.sin(angle)
    return (
        centre[0] + wide * math.copysign(abs(cosine) ** (2 / _ROUND), cosine),
        centre[1] + high * math.copysign(abs(sine) ** (2 / _ROUND), sine),
    )


def _curve(start: Point, bend: Point, end: Point) -> Iterator[Point]:
    """Yield points of a quadratic Bézier curve, including its ends."""
    for step in range(13):
        t = step / 12
        x, y = ((1 - t) ** 2 * s + 2 * t * (1 - t) * b + t * t * e for s, b, e in zip(start, bend, end, strict=True))
        yield x, y
