"""Drawing pictures in processes of their own, and a pool on the device that they keep refreshing.

On a GPU a step is much faster than the drawing of its pictures. A step takes random pictures from the pool, in which
new pictures replace the oldest ones. Which pictures a step sees depends on the speed of the machine, so a run with
drawing processes cannot be repeated bit by bit; without them this module is not used.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CHUNK = 32  # pictures that a process draws at a time
CAPTIONS = 4  # captions of each picture


def _draw_forever(
    world: str,
    seed: int,
    memory: str,
    shape: tuple[int, ...],
    free: Any,
    ready: Any,
    pairs: float | None,
    tokenizer: str | None,
    length: int,
) -> None:
    """Fill free chunks of the shared file as long as the training process lives; runs in a drawing process."""
    if hasattr(os, "nice"):
        os.nice(10)  # the training process has priority
    draw, random_scene, caption = _drawing(world)
    tokenize = _tokenizer(tokenizer, length) if tokenizer else None
    rng = random.Random(seed)
    chunks = np.memmap(memory, np.uint8, "r+", shape=shape)
    parent = multiprocessing.parent_process()
    while True:
        try:
            number = free.get(timeout=5)
        except queue.Empty:
            if parent is not None and not parent.is_alive():
                ready.cancel_join_thread()  # it was killed and will not read any more
                shutil.rmtree(Path(memory).parent, ignore_errors=True)
                return
            continue
        scenes: list = []
        texts: list[str] = []
        for row in range(CHUNK):
            if pairs is None:
                scene = random_scene(rng)
            else:
                scene = random_scene(rng, characters=2 if rng.random() < pairs else 1)
            image, figure = draw(scene, rng.randrange(2**31))
            chunks[number, row, ..., :3] = image
            chunks[number, row, ..., 3] = figure
            scenes.append(scene)
            if tokenize:
                texts += [caption(rng, scene) for _ in range(CAPTIONS)]
        tokens = tokenize(texts).reshape(CHUNK, CAPTIONS, length) if tokenize else None
        ready.put((number, scenes, tokens))


def _tokenizer(path: str, length: int) -> Callable[[list[str]], np.ndarray]:
    """Return a function from texts to tokens int32 [texts, length]; it works like a pipeline's tokenizer."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there are enough processes
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(path)
    end = "<|endoftext|>"
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=tokenizer.token_to_id(end), pad_token=end)
    return lambda texts: np.array([encoding.ids for encoding in tokenizer.encode_batch(texts)], dtype=np.int32)


def _shared_folder(size: int) -> Path:
    """Make a folder for a file that processes share, in memory if there is enough of it."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 1.5 * size
    return Path(tempfile.mkdtemp(prefix="m3adapter-", dir=memory if roomy else None))


def _drawing(world: str) -> tuple[Callable, Callable, Callable]:
    """Return the functions that draw a world; torch is not imported, which would cost each process time and memory."""
    if world != "picturebook":
        raise ValueError(f"--workers only draws the picturebook, not the {world}")
    from ..picturebook.captions import captioned
    from ..picturebook.render import render_with_figures
    from ..picturebook.world import random_scene

    return render_with_figures, random_scene, captioned


class Feeder:
    """Processes that draw pictures of a world into memory that they share with this process.

    Args:
        world: The world's name.
        size: Side of its pictures in pixels.
        workers: Number of processes.
        seed: The pictures depend on it and on the number of the process.
        pairs: Part of the pictures with two characters; by default, the world decides.
        tokenizer: Folder of the tokenizer for captions; without it, there are no captions.
        length: Of captions in tokens.
    """

    def __init__(
        self,
        world: str,
        size: int,
        workers: int,
        seed: int,
        *,
        pairs: float | None = None,
        tokenizer: Path | None = None,
        length: int = 0,
    ) -> None:
        """Start the processes."""
        context = multiprocessing.get_context("spawn")
        shape = (4 * workers, CHUNK, size, size, 4)
        size_of_all = int(np.prod(shape))
        self._folder = _shared_folder(size_of_all)
        path = self._folder / "chunks"
        words = str(tokenizer / "tokenizer.json") if tokenizer else None
        self._chunks: np.ndarray | None = np.memmap(path, np.uint8, "w+", shape=shape)
        self._free, self._ready = context.Queue(), context.Queue()
        for number in range(shape[0]):
            self._free.put(number)
        self._processes = [
            context.Process(
                target=_draw_forever,
                args=(
                    world,
                    10**9 + 1000 * seed + number,
                    str(path),
                    shape,
                    self._free,
                    self._ready,
                    pairs,
                    words,
                    length,
                ),
                daemon=True,
            )
            for number in range(workers)
        ]
        for process in self._processes:
            process.start()

    def take(self, wait: float = 0.0) -> tuple[np.ndarray, list, np.ndarray | None, Callable[[], None]] | None:
        """Take a chunk if one is ready within `wait` seconds.

        Returns:
            Pictures and figures uint8 [CHUNK, size, size, 4]; their scenes; the tokens of their captions
            [CHUNK, CAPTIONS, length] if there is a tokenizer; and a function to call when the pictures are no longer
            needed. None if no chunk is ready.

        Raises:
            RuntimeError: The drawing processes have ended.
        """
        if self._chunks is None:
            raise RuntimeError("the processes that draw pictures have been closed")
        try:
            number, scenes, tokens = self._ready.get(timeout=wait) if wait else self._ready.get_nowait()
        except queue.Empty:
            if not any(process.is_alive() for process in self._processes):
                raise RuntimeError("the processes that draw pictures have ended; see their errors above") from None
            return None
        return self._chunks[number], scenes, tokens, lambda: self._free.put(number)

    def close(self) -> None:
        """End the processes and free the memory."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(5)
        for channel in (self._free, self._ready):
            channel.close()
            channel.cancel_join_thread()
        self._chunks = None
        shutil.rmtree(self._folder, ignore_errors=True)


class Pool:
    """The latest pictures of a feeder, as tensors on the device.

    Args:
        feeder: Where the pictures come from.
        capacity: The maximal number of pictures.
        make: Turns uint8 pictures with figures [n, size, size, 4], their scenes, and the tokens of their captions
            [n, CAPTIONS, length] (or None if the feeder makes none) into named tensors [n, ...], which the pool keeps.
            Tensors are on the device.
        device: Of the tensors.
        together: Number of pictures for which `make` is called at a time.
        patience: Seconds that `fill` waits for new pictures.
    """

    def __init__(
        self, feeder: Feeder, capacity: int, make: Callable, device: Any, *, together: int = 256, patience: float = 300
    ) -> None:
        """Begin with an empty pool."""
        self.feeder, self.capacity, self.make, self.device = feeder, capacity, make, device
        self.together, self.patience = max(together, CHUNK), patience
        self.held = self.drawn = 0
        self.tensors: dict[str, Any] = {}
        self._waiting: list[tuple[Any, list, Any]] = []

    def refresh(self, most: int = 8, wait: float = 0.0) -> int:
        """Take in at most `most` chunks that are ready, and return the number of new pictures."""
        import torch

        before = self.drawn
        for _ in range(most):
            chunk = self.feeder.take(wait)
            if chunk is None:
                break
            pictures, scenes, tokens, done = chunk
            self._waiting.append((torch.from_numpy(pictures).to(self.device, copy=True), scenes, tokens))
            done()
            if sum(len(scenes) for _, scenes, _ in self._waiting) >= self.together:
                self._take_in()
        return self.drawn - before

    def _take_in(self) -> None:
        import torch

        pictures = torch.cat([part for part, _, _ in self._waiting])
        scenes = [scene for _, part, _ in self._waiting for scene in part]
        tokens = [torch.from_numpy(part) for _, _, part in self._waiting if part is not None]
        self._waiting.clear()
        made = self.make(pictures, scenes, torch.cat(tokens).to(self.device) if tokens else None)
        count = len(scenes)
        if not self.tensors:
            self.tensors = {
                name: torch.empty((self.capacity, *value.shape[1:]), dtype=value.dtype, device=self.device)
                for name, value in made.items()
            }
        where = (torch.arange(count) + self.drawn) % self.capacity
        for name, value in made.items():
            self.tensors[name][where.to(self.device)] = value
        self.drawn += count
        self.held = min(self.capacity, self.held + count)

    def fill(self, count: int) -> None:
        """Wait until there are at least `count` pictures.

        Raises:
            TimeoutError: No picture came for `patience` seconds.
        """
        latest, seen = time.time(), -1
        while self.held < min(count, self.capacity):
            self.refresh(wait=0.5)
            now = self.drawn + len(self._waiting)
            if now != seen:
                latest, seen = time.time(), now
            elif time.time() - latest > self.patience:
                raise TimeoutError(f"no picture was drawn for {self.patience:.0f} s")

    def sample(self, count: int) -> dict[str, Any]:
        """Return the named tensors of `count` random pictures."""
        import torch

        chosen = torch.randint(self.held, (count,), device=self.device)
        return {name: value[chosen] for name, value in self.tensors.items()}


def add_workers_option(parser: Any) -> None:
    """Add the options `--workers` and `--pool`."""
    from .options import whole  # late: the drawing processes do not need it

    parser.add_argument(
        "--workers", type=whole(0, 1024), default=0, help="number of processes that draw pictures (default: none)"
    )
    parser.add_argument("--pool", type=whole(0, 10**7), default=0, help="size of the pool of pictures to choose from")
