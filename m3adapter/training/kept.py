"""What trainings prepare once: kept in files between runs, and identified by a digest of its inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import options

KEY = "made from"  # the entry of a file's metadata that tells its contents' origin


def digest(*parts: Any) -> str:
    """Return a digest of contents: of values, of modules' weights and buffers, of tensors, and of files and folders.

    A folder counts with its files except for Python's own caches, so the digest of a package is that of its sources.
    """
    found = hashlib.sha256()
    for part in parts:
        for piece in _pieces(part):
            found.update(hashlib.sha256(piece).digest())
        found.update(b"|")
    return found.hexdigest()


def _pieces(part: Any) -> Iterable[bytes]:
    if isinstance(part, nn.Module):
        for name, value in sorted(part.state_dict().items()):
            yield name.encode()
            yield from _pieces(value)
    elif isinstance(part, Tensor):
        yield f"{part.dtype} {list(part.shape)}".encode()
        yield part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(part, Path) and part.is_dir():
        for path in sorted(part.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                yield path.relative_to(part).as_posix().encode()
                yield path.read_bytes()
    elif isinstance(part, Path):
        yield part.read_bytes()
    else:
        yield repr(part).encode()


def world_digest(name: str) -> str:
    """Return the digest of a world: of everything from which its scenes, pictures and captions are made."""
    return digest(Path(__file__).parents[1] / name)


def read(path: Path, key: str) -> dict[str, Tensor] | None:
    """Return the tensors of a file that was made from contents with the digest `key`; None if there is no such file.

    Raises:
        UserError: The file is damaged, or was not written by a training.
    """
    from safetensors import safe_open

    if not path.is_file():
        return None
    with options.opened("output", path), safe_open(path, framework="pt") as file:
        found = (file.metadata() or {}).get(KEY)
        if found is None:
            raise ValueError("no training has written it, and one would replace it")
        if found != key:
            return None
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary


def write(path: Path, key: str, tensors: dict[str, Tensor]) -> None:
    """Write tensors for `read`; what a file of that name held before is replaced at the end."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(whole, part, metadata={KEY: key})
    part.replace(path)


def kept(path: Path | None, key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return what `make` makes, or made in an earlier run from the same contents.

    Args:
        path: The file in which it is kept; None keeps nothing.
        key: The `digest` of all that the result depends on.
        make: Makes it.

    Raises:
        UserError: The file is damaged.
    """
    if path is not None and (found := read(path, key)) is not None:
        return found
    made = make()
    if path is not None:
        write(path, key, made)
    return made
