"""The inputs of a node, from the server's description of it (/object_info)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}
DYNAMIC, GROWING = "COMFY_DYNAMICCOMBO_V3", "COMFY_AUTOGROW_V3"


@dataclass
class Input:
    """An input of a node according to its description.

    Attributes:
        name: Its name; that of an input inside a dynamic one follows the other's name and a dot.
        type: Of its wires.
        widget: Whether it has a widget.
        default: Of the widget.
        seed: Whether ComfyUI adds a widget that controls the seed after each run.
        optional: Whether it may be unconnected.
    """

    name: str
    type: str
    widget: bool
    default: Any = None
    seed: bool = False
    optional: bool = False


def inputs_of(description: dict[str, Any], given: Mapping[str, Any], prefix: str = "") -> Iterator[Input]:
    """Yield the inputs of a node in their order, including those of dynamic inputs for their given values.

    Args:
        description: `input` of the node in /object_info.
        given: Values and wires of the node, by name.
        prefix: Of the names.
    """
    for group in ("required", "optional"):
        for name, (type, *rest) in description.get(group, {}).items():
            options = rest[0] if rest else {}
            name, optional = prefix + name, group == "optional"
            if isinstance(type, list):  # the form of a choice in old nodes
                type, options = "COMBO", {"default": type[0] if type else None, **options}
            if type == GROWING:
                template = options["template"]
                (inner,) = list(inputs_of(template["input"], {}))
                count = sum(key.startswith(f"{name}.") for key in given)
                for number in range(min(count + 1, template["max"])):
                    yield Input(f"{name}.{template['prefix']}{number}", inner.type, False, optional=True)
                continue
            widget = type in WIDGETS and not options.get("forceInput")
            if type == DYNAMIC:
                value = given.get(name, options["options"][0]["key"])
                yield Input(name, type, True, value, optional=optional)
                chosen = next(option for option in options["options"] if option["key"] == value)
                yield from inputs_of(chosen["inputs"], given, f"{name}.")
                continue
            default = options.get("default")
            if type == "COMBO" and default is None:
                default = next(iter(options.get("options") or ()), None)
            if type == "STRING" and default is None:
                default = ""
            seed = bool(options.get("control_after_generate"))
            yield Input(name, type, widget, default, seed, optional)
