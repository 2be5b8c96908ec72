"""Whether configurations of a diffusion model's parts hold what their classes take: told by file and field.

diffusers builds whatever a file says. A wrong type shows up as some error of Python's, or only when a picture is
painted.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from ..values import shown
from ..weights.layouts import read_json
from ..weights.model_files import label

CONFIG, SCHEDULER = "config.json", "scheduler_config.json"
_TEXT, _NUMBER, _TRUTH, _NOTHING, _LIST, _OBJECT = "text", "number", "truth", "nothing", "list", "object"


def check_parts(folder: Path) -> None:
    """Raises ValueError, one sentence, where a part of a folder in diffusers' layout is configured by wrong types."""
    for path, kind in _parts(folder):
        check_types(path, kind)


def check_types(path: Path, kind: type) -> None:
    """Raises ValueError, one sentence, unless the values in a configuration are of types that a class takes.

    What that class does not know is left alone, and so are differences that are seen in files which work: a list in
    place of a number, or null in place of a truth value.
    """
    taken = inspect.signature(kind.__init__).parameters
    for name, value in read_json(path).items():
        if name in taken and not _fits(taken[name], value):
            raise ValueError(
                f"{label(path)} has {shown(value)} as {name}, which it cannot be: get the file again, or mend it."
            )


@contextmanager
def building(name: str, what: str, folder: Path | None = None) -> Iterator[None]:
    """Raises ValueError, one sentence, for what makes diffusers fail on the files of a model.

    Args:
        name: The model.
        what: What its files look like, as a noun.
        folder: In which the configurations of its parts lie: one of them is named where it is to blame.
    """
    import huggingface_hub.errors

    strict = getattr(huggingface_hub.errors, "StrictDataclassError", ValueError)  # of transformers' configurations
    try:
        yield
    except (
        ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError,
        ValueError, strict,
    ) as error:  # fmt: skip
        if folder is not None and (file := _to_blame(folder, type(error))) is not None:
            raise ValueError(
                f"{label(file)} of {name} describes nothing that can be built ({_line(error)}): get the file again."
            ) from error
        if isinstance(error, NotImplementedError):  # a weight without a value was to be cast
            raise ValueError(f"{name} is not whole: it lacks weights that {what} has.") from error
        raise ValueError(f"{name} is laid out as {what}, but cannot be opened: {_line(error)}.") from error


def _parts(folder: Path) -> Iterator[tuple[Path, type]]:
    """The configurations in a folder, and the classes that they are for, as far as these are known."""
    import transformers

    for path in sorted([*folder.glob(f"*/{CONFIG}"), *folder.glob(f"*/{SCHEDULER}")]):
        if path.parent.name.startswith("text_encoder"):
            yield path, transformers.CLIPTextConfig
        elif (kind := diffusers_class(read_json(path).get("_class_name"))) is not None:
            yield path, kind


def diffusers_class(name: Any) -> type | None:
    """diffusers' class of that name, if it is one that is built from a configuration."""
    import diffusers

    kind = getattr(diffusers, name, None) if isinstance(name, str) else None
    return kind if isinstance(kind, type) and issubclass(kind, diffusers.ConfigMixin) else None


def _to_blame(folder: Path, kind_of_error: type[Exception]) -> Path | None:
    """The configuration in a folder whose part cannot be built, for an error of that kind."""
    import torch
    import transformers

    for path, kind in _parts(folder):
        config = {name: value for name, value in read_json(path).items() if not name.startswith("_")}
        try:
            if kind is transformers.CLIPTextConfig:
                with torch.device("meta"):
                    transformers.CLIPTextModel(kind(**config))
            elif path.name == SCHEDULER:
                kind.from_config(config)
            else:
                with torch.device("meta"):
                    kind.from_config(config)
        except kind_of_error:
            return path
    return None


def _fits(parameter: inspect.Parameter, value: Any) -> bool:
    """Whether a value can be meant for a parameter, by its annotation and its default."""
    annotated = parameter.annotation is not inspect.Parameter.empty and not isinstance(parameter.annotation, str)
    taken = _annotated(parameter.annotation) if annotated else set()
    default = parameter.default
    if taken is None or (not annotated and default in (None, inspect.Parameter.empty)):
        return True
    taken |= _given(default) if default is not inspect.Parameter.empty else set()
    found = _given(value)
    if parameter.annotation is float and _LIST in found:
        return False
    if _NOTHING in found and annotated and _NUMBER in taken and not taken & {_NOTHING, _TRUTH}:
        return False
    if _NUMBER in found and not taken & {_NUMBER, _TRUTH}:
        return False
    return not (_TEXT in found and _TEXT not in taken) and not (_OBJECT in found and _OBJECT not in taken)


def _annotated(annotation: Any) -> set[str] | None:
    """What an annotation takes, in lists or alone; None for anything."""
    if annotation is type(None) or annotation is None:
        return {_NOTHING}
    if annotation is Ellipsis:
        return set()
    if isinstance(annotation, (str, int)):  # of a Literal
        return _given(annotation)
    if inner := get_args(annotation):
        found = [_annotated(each) for each in inner]
        return None if None in found else set().union(*found)
    return {bool: {_TRUTH}, int: {_NUMBER}, float: {_NUMBER}, str: {_TEXT}}.get(annotation)


def _given(value: Any) -> set[str]:
    """What a value consists of."""
    if isinstance(value, (list, tuple)):
        return {_LIST}.union(*map(_given, value))
    for kinds, found in ((bool, _TRUTH), ((int, float), _NUMBER), (str, _TEXT), (dict, _OBJECT)):
        if isinstance(value, kinds):
            return {found}
    return {_NOTHING}


def _line(error: Exception) -> str:
    """What a library says, short and on one line; the kind of error, where it says nothing."""
    said = " ".join(str(error).strip().split("\n")[0].split(". ")[0].split()).strip(".'\"")[:200]
    return said.replace("? ", ", ").replace("! ", ", ") or type(error).__name__
