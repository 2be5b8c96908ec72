"""Checks that the configurations of a diffusion model's components hold what their classes take.

diffusers builds whatever a file says. A wrong type would surface as some Python error, or only when a picture is
painted; here the error names file and field.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from ..values import label, shown
from ..weights.layouts import read_json

CONFIG, SCHEDULER = "config.json", "scheduler_config.json"
_TEXT, _NUMBER, _BOOL, _NULL, _LIST, _OBJECT = "text", "number", "bool", "null", "list", "object"


def check_parts(folder: Path) -> None:
    """Raise ValueError if a component in a folder of diffusers' layout is configured with values of wrong types."""
    for path, config_class in _configs(folder):
        check_types(path, config_class)


def check_types(path: Path, config_class: Any) -> None:
    """Check the types of the values in a configuration against the parameters of a class.

    Names that the class does not know are ignored, and so are differences that occur in working files: a list instead
    of a number, or null instead of a bool.

    Raises:
        ValueError: A value has a type that the class does not take.
    """
    parameters = inspect.signature(config_class.__init__).parameters
    for name, value in read_json(path).items():
        if name in parameters and not _fits(parameters[name], value):
            raise ValueError(
                f"{label(path)} has {shown(value)} as {name}, which is not a valid value: "
                "get the file again, or correct it."
            )


@contextmanager
def building(name: str, noun: str, folder: Path | None = None) -> Iterator[None]:
    """Explain errors of diffusers while it builds a model inside the `with` block.

    Args:
        name: The model.
        noun: What kind of model its files look like.
        folder: A folder with the configurations of its components; if one of them is the cause, it is named.

    Raises:
        ValueError: diffusers failed.
    """
    import huggingface_hub.errors

    # Raised by transformers' configurations.
    strict: type[Exception] = getattr(huggingface_hub.errors, "StrictDataclassError", ValueError)
    try:
        yield
    except (
        ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError,
        ValueError, strict,
    ) as error:  # fmt: skip
        if folder is not None and (file := _cause(folder, type(error))) is not None:
            raise ValueError(
                f"{label(file)} of {name} cannot be built ({_line(error)}): get the file again."
            ) from error
        if isinstance(error, NotImplementedError):  # a weight on the meta device was to be converted
            raise ValueError(f"{name} is incomplete: it lacks weights that {noun} has.") from error
        raise ValueError(f"{name} is laid out as {noun}, but cannot be opened: {_line(error)}.") from error


def _configs(folder: Path) -> Iterator[tuple[Path, Any]]:
    """Iterate over the configurations in a folder and the classes that take them, as far as those are known."""
    import transformers

    for path in sorted([*folder.glob(f"*/{CONFIG}"), *folder.glob(f"*/{SCHEDULER}")]):
        if path.parent.name.startswith("text_encoder"):
            yield path, transformers.CLIPTextConfig
        elif (component_class := diffusers_class(read_json(path).get("_class_name"))) is not None:
            yield path, component_class


def diffusers_class(name: Any) -> type | None:
    """Return diffusers' class of a name, or None if there is none that is built from a configuration."""
    import diffusers

    value = getattr(diffusers, name, None) if isinstance(name, str) else None
    return value if isinstance(value, type) and issubclass(value, diffusers.ConfigMixin) else None


def _cause(folder: Path, error_class: type[Exception]) -> Path | None:
    """Return the configuration in a folder whose component raises an error of that class when it is built."""
    import torch
    import transformers

    for path, config_class in _configs(folder):
        config = {name: value for name, value in read_json(path).items() if not name.startswith("_")}
        try:
            if config_class is transformers.CLIPTextConfig:
                with torch.device("meta"):
                    transformers.CLIPTextModel(config_class(**config))
            elif path.name == SCHEDULER:
                config_class.from_config(config)
            else:
                with torch.device("meta"):
                    config_class.from_config(config)
        except error_class:
            return path
    return None


def _fits(parameter: inspect.Parameter, value: Any) -> bool:
    """Return whether a parameter may take a value, judging by its annotation and its default."""
    annotated = parameter.annotation is not inspect.Parameter.empty and not isinstance(parameter.annotation, str)
    accepted: set[str] | None = _types_of_annotation(parameter.annotation) if annotated else set()
    default = parameter.default
    if accepted is None or (not annotated and default in (None, inspect.Parameter.empty)):
        return True
    if default is not inspect.Parameter.empty:
        accepted |= _types_of_value(default)
    given = _types_of_value(value)
    if parameter.annotation is float and _LIST in given:
        return False
    if _NULL in given and annotated and _NUMBER in accepted and not accepted & {_NULL, _BOOL}:
        return False
    if _NUMBER in given and not accepted & {_NUMBER, _BOOL}:
        return False
    return not (_TEXT in given and _TEXT not in accepted) and not (_OBJECT in given and _OBJECT not in accepted)


def _types_of_annotation(annotation: Any) -> set[str] | None:
    """Return the types that an annotation accepts, in lists or alone; None for any type."""
    if annotation is type(None) or annotation is None:
        return {_NULL}
    if annotation is Ellipsis:
        return set()
    if isinstance(annotation, (str, int)):  # of a Literal
        return _types_of_value(annotation)
    if arguments := get_args(annotation):
        accepted: set[str] = set()
        for argument in arguments:
            types = _types_of_annotation(argument)
            if types is None:
                return None
            accepted |= types
        return accepted
    return {bool: {_BOOL}, int: {_NUMBER}, float: {_NUMBER}, str: {_TEXT}}.get(annotation)


def _types_of_value(value: Any) -> set[str]:
    """Return the types that a value consists of."""
    if isinstance(value, (list, tuple)):
        return {_LIST}.union(*map(_types_of_value, value))
    if isinstance(value, bool):  # before numbers: a bool is an int
        return {_BOOL}
    if isinstance(value, (int, float)):
        return {_NUMBER}
    if isinstance(value, str):
        return {_TEXT}
    return {_OBJECT} if isinstance(value, dict) else {_NULL}


def _line(error: Exception) -> str:
    """Return the message of a library's error, shortened to one line; its class if the message is empty."""
    message = " ".join(str(error).strip().split("\n")[0].split(". ")[0].split()).strip(".'\"")[:200]
    return message.replace("? ", ", ").replace("! ", ", ") or type(error).__name__
