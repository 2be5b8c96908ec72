"""How things are timed: interleaved rounds, of which the first do not count, and medians with quartiles."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# CPU time is that of all threads of this process, so other work on the machine hardly affects it; a server or another
# process needs the wall clock.
CLOCKS: dict[str, Callable[[], float]] = {"CPU": time.process_time, "wall": time.perf_counter}

Rounds = dict[str, list[float]]  # the seconds of each side in each round


@dataclass(frozen=True)
class Figure:
    """A measured number.

    Attributes:
        value: The median.
        spread: The lower and the upper quartile.
        rounds: How many rounds it is the median of.
        sides: Medians of what was compared, by name, with their units in the names where they are not seconds.
    """

    value: float
    spread: tuple[float, float]
    rounds: int = 1
    sides: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Side:
    """One of the things that are compared.

    Attributes:
        call: What is timed; it gets the number of the round, from 0, which stays below 0 while warming up.
        before: Called with the same number before, untimed.
    """

    call: Callable[[int], Any]
    before: Callable[[int], Any] | None = None


def interleave(
    sides: Mapping[str, Side | Callable[[int], Any]],
    rounds: int,
    *,
    clock: str,
    warm: int = 1,
    synchronize: Callable[[], Any] | None = None,
) -> Rounds:
    """Time every side once in each round; every other round runs backwards.

    Args:
        sides: What to compare, by name.
        rounds: How many rounds count.
        clock: A name in CLOCKS.
        warm: How many rounds are run before and do not count.
        synchronize: Waits for a device that computes behind Python's back.
    """
    now, wait = CLOCKS[clock], synchronize or (lambda: None)
    times: Rounds = {name: [] for name in sides}
    gc.collect()
    gc.freeze()  # so that what is collected between two calls is what they left, and models are not looked at
    try:
        _run(sides, rounds, warm, now, wait, times)
    finally:
        gc.unfreeze()
    return times


def _run(
    sides: Mapping[str, Side | Callable[[int], Any]],
    rounds: int,
    warm: int,
    now: Callable[[], float],
    wait: Callable[[], Any],
    times: Rounds,
) -> None:
    for number in range(-warm, rounds):
        for name, side in list(sides.items())[:: -1 if number % 2 else 1]:
            side = side if isinstance(side, Side) else Side(side)
            if side.before:
                side.before(number)
            gc.collect()
            wait()
            began = now()
            side.call(number)
            wait()
            if number >= 0:
                times[name].append(now() - began)


def figure(values: Sequence[float], sides: Mapping[str, float] | None = None) -> Figure:
    """Return the median of values with its quartiles.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("There are no values to take the median of.")
    low, high = (values[0], values[0])
    if len(values) > 1:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return Figure(statistics.median(values), (low, high), len(values), sides or {})


def ratio(times: Rounds, one: str, other: str) -> Figure:
    """Return the ratio of two sides, taken round by round, so that what slows a round down affects both."""
    return figure([a / b for a, b in zip(times[one], times[other], strict=True)], medians(times, one, other))


def seconds(times: Rounds, one: str, *others: str) -> Figure:
    """Return the seconds of a side, beside those of others."""
    return figure(times[one], medians(times, *others))


def medians(times: Rounds, *names: str) -> dict[str, float]:
    """Return the median of each of the named sides."""
    return {name: statistics.median(times[name]) for name in names}
