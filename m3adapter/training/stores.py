"""What frozen models have said, on disk: tensors by the content that they were made from.

A store is a folder of safetensors files, each with the tensors of some keys. A key is a digest of content, so that what
has changed is not found, and everything else is. Files are written whole and then named; one that is damaged
nevertheless is left out, and what it held is made again. Values are read from the files when they are asked for (they
are mapped, not loaded), so that a store may be larger than the memory.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

FORMAT = "m2chat-store-1"
SHARD_BYTES = 2**26
KEPT_EVERY = 60.0  # seconds of work that are lost if it is killed
WHOLE_BYTES = 2**16  # of a tensor whose fingerprint is that of all of it
SAMPLED = 1024  # elements of a larger one

Item = TypeVar("Item")
Values = dict[str, Tensor]


class Store:
    """Tensors by key.

    Args:
        folder: Where they are kept; None keeps them in memory.
        made_by: A digest of what makes them: the same store holds nothing that another model has made.
    """

    def __init__(self, folder: Path | None, made_by: str) -> None:
        self.folder = None if folder is None else folder / made_by
        self._files: list[Any] = []
        self._places: dict[str, tuple[int, tuple[str, ...]]] = {}
        self._fresh: dict[str, Values] = {}
        self._bytes = 0
        self.notes: list[str] = []
        if self.folder is not None:
            for path in sorted(self.folder.glob("*.safetensors")):
                self._open(path)

    def __contains__(self, key: str) -> bool:
        return key in self._fresh or key in self._places

    def __len__(self) -> int:
        return len(self._places) + len(self._fresh)

    def __getitem__(self, key: str) -> Values:
        if key in self._fresh:
            return self._fresh[key]
        number, names = self._places[key]
        return {name: self._files[number].get_tensor(f"{key}/{name}") for name in names}

    def __setitem__(self, key: str, values: Values) -> None:
        if key in self:
            return
        self._fresh[key] = {name: value.detach().to("cpu").contiguous() for name, value in values.items()}
        self._bytes += sum(value.numel() * value.element_size() for value in values.values())
        if self._bytes >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is not on disk yet; if that fails, it stays in memory and a note says so."""
        if self.folder is None or not self._fresh:
            return
        from safetensors.torch import save_file

        name = hashlib.sha256("".join(sorted(self._fresh)).encode()).hexdigest()[:24]
        path = self.folder / f"{name}.safetensors"
        part = path.with_suffix(".part")
        tensors = {f"{key}/{name}": value for key, values in self._fresh.items() for name, value in values.items()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, part, metadata={"format": FORMAT})
            part.replace(path)
        except Exception as error:  # safetensors raises its own kind for what the system refuses
            if not _refused_by_disk(error):
                raise
            part.unlink(missing_ok=True)
            self._note(f"{self.folder} cannot keep what was computed ({_said(error)}): it stays in memory.")
            self._bytes = 0
            return
        self._fresh, self._bytes = {}, 0
        self._open(path)

    def fill(
        self,
        items: Iterable[tuple[str, Item]],
        make: Callable[[list[Item]], Iterable[Values]],
        *,
        together: int = 1,
        told: Callable[[int, int], None] | None = None,
    ) -> None:
        """Make what is missing.

        Args:
            items: Keys, and what `make` needs for them.
            make: Returns the values of several items.
            together: How many it is given at a time.
            told: Called with how much is made and how much there is to make.
        """
        missing = {key: item for key, item in items if key not in self}
        keys = list(missing)
        kept = time.monotonic()
        try:
            for start in range(0, len(keys), together):
                part = keys[start : start + together]
                for key, values in zip(part, make([missing[key] for key in part]), strict=True):
                    self[key] = values
                if told is not None:
                    told(min(start + together, len(keys)), len(keys))
                if time.monotonic() - kept >= KEPT_EVERY:
                    self.flush()
                    kept = time.monotonic()
        finally:
            if keys:
                self.flush()

    def _open(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            file = safe_open(path, framework="pt").__enter__()
            if (file.metadata() or {}).get("format") != FORMAT:
                raise ValueError("no training has written it")
            found: dict[str, list[str]] = {}
            for name in file.keys():  # noqa: SIM118 - it is no dictionary
                key, _, field = name.partition("/")
                found.setdefault(key, []).append(field)
        except (OSError, ValueError, SafetensorError) as error:
            self._note(f"{path} is not read, and what it held is computed again ({_said(error)}).")
            return
        self._files.append(file)
        for key, names in found.items():
            self._places[key] = (len(self._files) - 1, tuple(sorted(names)))

    def _note(self, text: str) -> None:
        self.notes.append(text)
        print(text, file=sys.stderr, flush=True)


def fingerprint(*parts: Any) -> str:
    """Return a digest of models and values: of modules by a sample of every weight, so that large ones take seconds.

    Training changes practically every element of a weight that it changes at all.
    """
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, nn.Module):
            for name, value in sorted(part.state_dict().items()):
                found.update(name.encode())
                if isinstance(value, Tensor):
                    _add(found, value)
        elif isinstance(part, Tensor):
            _add(found, part)
        else:
            found.update(repr(part).encode("utf-8", "backslashreplace"))
        found.update(b"|")
    return found.hexdigest()


def _add(found: Any, value: Tensor) -> None:
    found.update(f"{value.dtype} {list(value.shape)}".encode())
    flat = value.detach().reshape(-1)
    if flat.numel() * flat.element_size() > WHOLE_BYTES:
        flat = flat[:: max(1, flat.numel() // SAMPLED)]
    found.update(flat.contiguous().view(torch.uint8).cpu().numpy().tobytes())


def _refused_by_disk(error: Exception) -> bool:
    from safetensors import SafetensorError

    return isinstance(error, OSError) or (isinstance(error, SafetensorError) and "os error" in str(error).lower())


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
