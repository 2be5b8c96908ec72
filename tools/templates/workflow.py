"""ComfyUI's workflow format: graphs of nodes, links, notes and subgraphs, written as Python and saved as a template.

A node's inputs, outputs and widgets come from its description by the server (/object_info), so that a graph says only
what it changes: where a node stands, which wires it gets, and which widgets differ from their defaults.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Box = tuple[float, float]
Inputs = dict[str, Any]  # wires and values of widgets, by name

INPUT, OUTPUT = -10, -20  # the ids of a subgraph's own ends among its links
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}
DYNAMIC, GROWING = "COMFY_DYNAMICCOMBO_V3", "COMFY_AUTOGROW_V3"


def words(name: str) -> str:
    """A name for people."""
    return name.rpartition(".")[2].replace("_", " ")


@dataclass(frozen=True)
class Wire:
    """The output of a node, or an input of the subgraph around it."""

    node: int
    slot: int
    type: str


@dataclass
class Input:
    """An input of a node as its description has it.

    Attributes:
        name: with a dot before the name of one that belongs to a dynamic one.
        type: of its wires.
        widget: whether it can be typed in.
        default: of the widget.
        seed: whether ComfyUI's control of what follows a run stands beside the widget.
        optional: whether it may stay empty.
    """

    name: str
    type: str
    widget: bool
    default: Any = None
    seed: bool = False
    optional: bool = False


def inputs_of(description: Json, given: Mapping[str, Any], prefix: str = "") -> Iterator[Input]:
    """The inputs of a node in their order, those that a dynamic one has for its given value among them.

    Args:
        description: `input` of the node in /object_info.
        given: the values and wires of the node, by name.
        prefix: what stands before the names.
    """
    for group in ("required", "optional"):
        for name, (kind, *rest) in description.get(group, {}).items():
            options = rest[0] if rest else {}
            name, optional = prefix + name, group == "optional"
            if isinstance(kind, list):  # how old nodes spell a choice
                kind, options = "COMBO", {"default": kind[0] if kind else None, **options}
            if kind == GROWING:
                template = options["template"]
                (inner,) = list(inputs_of(template["input"], {}))
                count = sum(key.startswith(f"{name}.") for key in given)
                for number in range(min(count + 1, template["max"])):
                    yield Input(f"{name}.{template['prefix']}{number}", inner.type, False, optional=True)
                continue
            widget = kind in WIDGETS and not options.get("forceInput")
            if kind == DYNAMIC:
                value = given.get(name, options["options"][0]["key"])
                yield Input(name, kind, True, value, optional=optional)
                chosen = next(option for option in options["options"] if option["key"] == value)
                yield from inputs_of(chosen["inputs"], given, f"{name}.")
                continue
            default = options.get("default")
            if kind == "COMBO" and default is None:
                default = next(iter(options.get("options") or ()), None)
            if kind == "STRING" and default is None:
                default = ""
            seed = bool(options.get("control_after_generate"))
            yield Input(name, kind, widget, default, seed, optional)


@dataclass
class Node:
    """A node on a canvas."""

    graph: Graph
    data: Json

    def __getitem__(self, output: str | int) -> Wire:
        """An output, by its name or its place."""
        outputs = self.data["outputs"]
        slot = output if isinstance(output, int) else [given["name"] for given in outputs].index(output)
        return Wire(self.data["id"], slot, outputs[slot]["type"])

    @property
    def below(self) -> float:
        """The y of its lower edge."""
        return self.data["pos"][1] + self.data["size"][1]


@dataclass
class Graph:
    """What stands on a canvas: that of a workflow, or of a subgraph.

    Args:
        nodes: the descriptions of all nodes, from /object_info.
    """

    info: Json
    nodes: list[Json] = field(default_factory=list)
    links: list[tuple[int, int, int, int, int, str]] = field(default_factory=list)

    def add(
        self,
        type: str,
        title: str | None = None,
        /,
        *,
        at: Box,
        size: Box,
        off: bool = False,
        models: Sequence[Json] = (),
        properties: Json | None = None,
        **given: Any,
    ) -> Node:
        """Add a node.

        Args:
            type: its id.
            title: what stands on it; its name, if nothing is said.
            at: where it stands; its title stands above.
            size: of its body.
            off: bypassed, as what can be switched on.
            models: the files that its widgets mean, for ComfyUI's offer to get them.
            properties: more of its properties.
            given: wires, and values of widgets, by name; two underscores are a dot.
        """
        given = {name.replace("__", "."): value for name, value in given.items()}
        known = list(inputs_of(self.info[type]["input"], given))
        if strange := set(given) - {each.name for each in known}:
            raise ValueError(f"{type} has no {', '.join(sorted(strange))}.")
        values: list[Any] = []
        for each in known:
            if each.widget:
                value = given.get(each.name, each.default)
                values.append(each.default if isinstance(value, Wire) else value)
                values += ["fixed"] * each.seed
        outputs = zip(self.info[type]["output_name"], self.info[type]["output"], strict=True)
        node = self._node(type, title, at, size, known, list(outputs), given, values)
        node.data["mode"] = 4 if off else 0
        node.data["properties"] = {"Node name for S&R": type, **(properties or {})}
        if models:
            node.data["properties"]["models"] = list(models)
        return node

    def place(self, subgraph: Subgraph, title: str, /, *, at: Box, size: Box, off: bool = False, **given: Any) -> Node:
        """Add a node that is a subgraph; `given` as for `add`."""
        known = [Input(each.name, each.type, each.widget, each.default) for each in subgraph.inputs]
        typed = {name: value for name, value in given.items() if not isinstance(value, Wire)}
        values = [typed.get(each.name, each.default) for each in known if each.widget]
        outputs = [(name, wire.type) for name, wire in subgraph.outputs]
        node = self._node(subgraph.id, title, at, size, known, outputs, given, values)
        node.data["mode"] = 4 if off else 0
        for slot in [*node.data["inputs"], *node.data["outputs"]]:
            slot["label"] = words(slot["name"])
        return node

    def note(self, title: str, text: str, *, at: Box, size: Box) -> None:
        """Add a note in Markdown. It has no colour of its own, on which a palette's text might not be legible."""
        data = {"id": len(self.nodes) + 1, "type": "MarkdownNote", "pos": list(at), "size": list(size), "flags": {}}
        data |= {"order": len(self.nodes), "mode": 0, "inputs": [], "outputs": [], "title": title, "properties": {}}
        self.nodes.append({**data, "widgets_values": [text], "color": "", "bgcolor": ""})

    def _node(
        self,
        type: str,
        title: str | None,
        at: Box,
        size: Box,
        known: Sequence[Input],
        outputs: Sequence[tuple[str, str]],
        given: Mapping[str, Any],
        values: list[Any],
    ) -> Node:
        id = len(self.nodes) + 1
        # Sockets stand above widgets.
        ordered = sorted(known, key=lambda each: each.widget)
        slots: list[Json] = []
        for index, each in enumerate(ordered):
            wire, link = given.get(each.name), None
            if isinstance(wire, Wire):
                link = self._link(wire, id, index, each.type)
            slot: Json = {"name": each.name, "type": each.type, "link": link}
            slot |= {"shape": 7} if each.optional else {}
            slot |= {"widget": {"name": each.name}} if each.widget else {}
            slots.append(slot)
        data: Json = {"id": id, "type": type, "pos": list(at), "size": list(size), "flags": {}, "order": id - 1}
        data |= {"mode": 0, "inputs": slots, "properties": {}, "widgets_values": values}
        data["outputs"] = [{"name": name, "type": kind, "links": None} for name, kind in outputs]
        data |= {"title": title} if title else {}
        self.nodes.append(data)
        return Node(self, data)

    def _link(self, wire: Wire, node: int, slot: int, type: str) -> int:
        id = len(self.links) + 1
        kind = type if wire.node == INPUT else wire.type
        self.links.append((id, wire.node, wire.slot, node, slot, kind))
        for source in self.nodes:
            if source["id"] == wire.node:
                output = source["outputs"][wire.slot]
                output["links"] = [*(output["links"] or []), id]
        return id


class Subgraph(Graph):
    """Nodes that stand on a canvas as one.

    Args:
        info: as for Graph.
        name: of it.
        description: what it does, in a sentence.
    """

    def __init__(self, info: Json, name: str, description: str) -> None:
        super().__init__(info)
        self.name, self.description = name, description
        self.id = self._uuid("itself")
        self.inputs: list[Input] = []
        self.outputs: list[tuple[str, Wire]] = []

    def input(self, name: str, type: str, default: Any = None) -> Wire:
        """An input of the whole; with a default, it is a widget outside. Sockets come first."""
        self.inputs.append(Input(name, type, default is not None, default))
        return Wire(INPUT, len(self.inputs) - 1, type)

    def output(self, name: str, wire: Wire) -> None:
        """An output of the whole."""
        self.outputs.append((name, wire))

    def definition(self) -> Json:
        """As the format has it."""
        links = list(self.links)
        made: list[list[int]] = []
        for index, (_, wire) in enumerate(self.outputs):
            id = len(links) + 1
            links.append((id, wire.node, wire.slot, OUTPUT, index, wire.type))
            output = self.nodes[wire.node - 1]["outputs"][wire.slot]
            output["links"] = sorted({*(output["links"] or []), id})
            made.append([id])
        taken = [[id for id, node, slot, *_ in links if (node, slot) == (INPUT, k)] for k in range(len(self.inputs))]
        left = min(node["pos"][0] for node in self.nodes)
        right = max(node["pos"][0] + node["size"][0] for node in self.nodes)
        inputs = [(each.name, each.type) for each in self.inputs]
        outputs = [(name, wire.type) for name, wire in self.outputs]
        return {
            "id": self.id,
            "version": 1,
            "state": {
                "lastGroupId": 0,
                "lastNodeId": len(self.nodes),
                "lastLinkId": len(links),
                "lastRerouteId": 0,
            },
            "revision": 0,
            "config": {},
            "name": self.name,
            "description": self.description,
            "inputNode": {"id": INPUT, "bounding": [left - 220, 80, 160, 40 + 20 * len(inputs)]},
            "outputNode": {"id": OUTPUT, "bounding": [right + 60, 80, 140, 40 + 20 * len(outputs)]},
            "inputs": self._slots("in", inputs, taken, left - 80),
            "outputs": self._slots("out", outputs, made, right + 80),
            "widgets": [],
            "nodes": self.nodes,
            "groups": [],
            "links": [
                dict(zip(("id", "origin_id", "origin_slot", "target_id", "target_slot", "type"), link, strict=True))
                for link in links
            ],
            "extra": {},
        }

    def _slots(self, way: str, slots: Sequence[tuple[str, str]], links: Sequence[list[int]], x: float) -> list[Json]:
        return [
            {
                "id": self._uuid(f"{way} {name}"),
                "name": name,
                "type": kind,
                "linkIds": links[index],
                "label": words(name),
                "pos": [x, 100 + 20 * index],
            }
            for index, (name, kind) in enumerate(slots)
        ]

    def _uuid(self, what: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"m2chat/subgraph/{self.name}/{what}"))


def saved(name: str, graph: Graph, subgraphs: Sequence[Subgraph] = ()) -> Json:
    """A workflow as the format has it.

    Args:
        name: of the template.
        graph: its canvas.
        subgraphs: those that stand on it.
    """
    workflow: Json = {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"m2chat/template/{name}")),
        "revision": 0,
        "last_node_id": len(graph.nodes),
        "last_link_id": len(graph.links),
        "nodes": graph.nodes,
        "links": [list(link) for link in graph.links],
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }
    if subgraphs:
        workflow["definitions"] = {"subgraphs": [each.definition() for each in subgraphs]}
    # A chain differs from template to template by its defaults, and so is another subgraph.
    text = json.dumps(workflow)
    for each in subgraphs:
        text = text.replace(each.id, str(uuid.uuid5(uuid.UUID(each.id), name)))
    return json.loads(text)
