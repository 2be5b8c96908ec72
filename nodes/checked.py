"""Checks what a node is given against its schema.

The engine checks only some of what is typed into widgets. What comes over a wire, or stands in a prompt in place of a
wire, reaches a node unchecked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..m3adapter.adapter.features import SlotFeatures
from ..m3adapter.conversation.conversation import Conversation, ReferencePolicy
from ..m3adapter.diffusion.condition import Condition
from ..m3adapter.painter import Painter
from ..m3adapter.values import number, shown, whole
from . import wires
from .dataset_files import DatasetFiles
from .memory import Handle

# What travels on the pack's wires.
KINDS = {
    "M2CHAT_LANGUAGE_MODEL": Handle,
    "M2CHAT_VISION_ENCODER": Handle,
    "M2CHAT_ADAPTER": Handle,
    "M2CHAT_DECODER": Handle,
    "M2CHAT_IP_ADAPTER": Handle,
    "M2CHAT_CONVERSATION": Conversation,
    "M2CHAT_FEATURES": SlotFeatures,
    "M2CHAT_CONDITION": Condition,
    "M2CHAT_MEMORY": ReferencePolicy,
    "M2CHAT_DATASET": DatasetFiles,
    "MASK": Tensor,
}
# What a prompt can hold where a wire should be.
LITERALS = (str, int, float, bool, list, tuple, dict)


def check(schema: io.Schema, given: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the input, if a node is given a value that its schema does not allow."""
    for declared in schema.inputs:
        if declared.id not in given or (given[declared.id] is None and declared.optional):
            continue
        value = given[declared.id]
        for item in value if schema.is_input_list and isinstance(value, list) else [value]:
            _check(declared, item)


def _check(declared: io.Input, value: Any) -> None:
    name = declared.id
    if isinstance(declared, io.DynamicCombo.Input):
        _check_dynamic(declared, value)
    elif isinstance(declared, io.Autogrow.Input):
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} is {shown(value)}: connect something to its sockets.")
        for key, inner in value.items():
            if inner is not None:
                _check_wire(key, declared.template.input.get_io_type(), inner)
    elif isinstance(declared, io.Int.Input):
        whole(
            name,
            value,
            declared.min if declared.min is not None else -(2**63),
            declared.max if declared.max is not None else 2**64,
        )
    elif isinstance(declared, io.Float.Input):
        number(
            name,
            value,
            declared.min if declared.min is not None else -1e9,
            declared.max if declared.max is not None else 1e9,
        )
    elif isinstance(declared, io.Boolean.Input):
        if not isinstance(value, bool):
            raise ValueError(f"{name} is {shown(value)}: give true or false.")
    elif isinstance(declared, (io.String.Input, io.Combo.Input)):
        if not isinstance(value, str):
            raise ValueError(f"{name} is {shown(value)}: give a text.")
    elif not (isinstance(declared, wires.Painter.Input) and isinstance(value, Painter)):
        _check_wire(name, declared.get_io_type(), value)


def _check_dynamic(declared: io.DynamicCombo.Input, value: Any) -> None:
    choice = value.get(declared.id) if isinstance(value, Mapping) else value
    option = next((option for option in declared.options if option.key == choice), None)
    if option is None or not isinstance(value, Mapping):
        names = ", ".join(option.key for option in declared.options)
        raise ValueError(f"{declared.id} is {shown(choice)}: choose one of {names}.")
    for inner in option.inputs:
        if inner.id in value and not (value[inner.id] is None and inner.optional):
            _check(inner, value[inner.id])


def _check_wire(name: str, kind: str, value: Any) -> None:
    if kind == "IMAGE":
        if not isinstance(value, Tensor) or value.dim() != 4 or not value.numel():
            what = f"a tensor of the shape {list(value.shape)}" if isinstance(value, Tensor) else shown(value)
            raise ValueError(f"{name} is {what}: connect a picture, [batch, height, width, channels].")
    elif kind == "CONDITIONING":
        entries = value if isinstance(value, (list, tuple)) else [None]
        if not all(isinstance(one, (list, tuple)) and len(one) == 2 and _is_entry(*one) for one in entries):
            raise ValueError(f"{name} is {shown(value)}: connect the conditioning of a text encoder.")
    elif kind == wires.Decoder.io_type and isinstance(value, Painter):
        raise ValueError(
            f"{name} is {value.describe()}, a painter for Tell Story, Take Turn and Gate Sweep: connect the decoder of "
            "Load M2Chat Starter or Load SDXL Decoder."
        )
    elif kind in KINDS:
        if not isinstance(value, KINDS[kind]):
            raise ValueError(f"{name} is {shown(value)}: connect a node that gives {kind}.")
    elif isinstance(value, LITERALS) or value is None:
        raise ValueError(f"{name} is {shown(value)}: connect a node that gives {kind}.")


def _is_entry(embeds: Any, extra: Any) -> bool:
    return isinstance(embeds, Tensor) and embeds.dim() == 3 and isinstance(extra, Mapping)
