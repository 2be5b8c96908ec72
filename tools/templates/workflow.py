"""ComfyUI's workflow format: graphs of nodes, links, notes and subgraphs, written as Python and saved as a template.

A node's inputs, outputs and widgets come from the server's description of it (/object_info), so the code of a graph
only says where a node is, which wires it gets, and which widgets differ from their defaults.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .node_inputs import Input, inputs_of

Json = dict[str, Any]
Box = tuple[float, float]
Inputs = dict[str, Any]  # wires and values of widgets, by name

INPUT, OUTPUT = -10, -20  # node ids of a subgraph's own inputs and outputs in its links


def words(name: str) -> str:
    """Return a name as it is shown to users."""
    return name.rpartition(".")[2].replace("_", " ")


@dataclass(frozen=True)
class Wire:
    """The output of a node, or an input of the subgraph around it."""

    node: int
    slot: int
    type: str


@dataclass
class Node:
    """A node on a canvas."""

    graph: Graph
    data: Json

    def __getitem__(self, output: str | int) -> Wire:
        """Return an output by its name or its index."""
        outputs = self.data["outputs"]
        slot = output if isinstance(output, int) else [given["name"] for given in outputs].index(output)
        return Wire(self.data["id"], slot, outputs[slot]["type"])

    @property
    def below(self) -> float:
        """Y coordinate of its lower edge."""
        return self.data["pos"][1] + self.data["size"][1]


@dataclass
class Graph:
    """The nodes and links on the canvas of a workflow or subgraph.

    Attributes:
        info: The descriptions of all nodes, from /object_info.
        nodes: The nodes as the format has them.
        links: The links as the format has them.
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
            type: The id of its class.
            title: Its title; by default that of its class.
            at: Position of its body; the title bar is above it.
            size: Of its body.
            off: Whether it is bypassed until the user enables it.
            models: The files that its widgets name, which ComfyUI offers to download.
            properties: Further properties.
            given: Wires and values of widgets, by name, with two underscores for a dot.
        """
        given = {name.replace("__", "."): value for name, value in given.items()}
        known = list(inputs_of(self.info[type]["input"], given))
        if unknown := set(given) - {input.name for input in known}:
            raise ValueError(f"{type} has no {', '.join(sorted(unknown))}.")
        values: list[Any] = []
        for input in known:
            if input.widget:
                value = given.get(input.name, input.default)
                values.append(input.default if isinstance(value, Wire) else value)
                values += ["fixed"] * input.seed
        outputs = zip(self.info[type]["output_name"], self.info[type]["output"], strict=True)
        node = self._node(type, title, at, size, known, list(outputs), given, values)
        node.data["mode"] = 4 if off else 0
        node.data["properties"] = {"Node name for S&R": type, **(properties or {})}
        if models:
            node.data["properties"]["models"] = list(models)
        return node

    def place(self, subgraph: Subgraph, title: str, /, *, at: Box, size: Box, off: bool = False, **given: Any) -> Node:
        """Add a node that is a subgraph; the arguments are those of `add`."""
        known = [Input(input.name, input.type, input.widget, input.default) for input in subgraph.inputs]
        typed = {name: value for name, value in given.items() if not isinstance(value, Wire)}
        values = [typed.get(input.name, input.default) for input in known if input.widget]
        outputs = [(name, wire.type) for name, wire in subgraph.outputs]
        node = self._node(subgraph.id, title, at, size, known, outputs, given, values)
        node.data["mode"] = 4 if off else 0
        for slot in [*node.data["inputs"], *node.data["outputs"]]:
            slot["label"] = words(slot["name"])
        return node

    def note(self, title: str, text: str, *, at: Box, size: Box) -> None:
        """Add a note in Markdown, on a grey that stays legible in every palette.

        A note without a colour becomes brown once it is saved: ComfyUI leaves out a colour that is empty.
        """
        data = {"id": len(self.nodes) + 1, "type": "MarkdownNote", "pos": list(at), "size": list(size), "flags": {}}
        data |= {"order": len(self.nodes), "mode": 0, "inputs": [], "outputs": [], "title": title, "properties": {}}
        self.nodes.append({**data, "widgets_values": [text], "color": "#333333", "bgcolor": "#353535"})

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
        # Sockets are above widgets.
        ordered = sorted(known, key=lambda input: input.widget)
        slots: list[Json] = []
        for index, input in enumerate(ordered):
            wire, link = given.get(input.name), None
            if isinstance(wire, Wire):
                link = self._link(wire, id, index, input.type)
            slot: Json = {"name": input.name, "type": input.type, "link": link}
            slot |= {"shape": 7} if input.optional else {}
            slot |= {"widget": {"name": input.name}} if input.widget else {}
            slots.append(slot)
        data: Json = {"id": id, "type": type, "pos": list(at), "size": list(size), "flags": {}, "order": id - 1}
        data |= {"mode": 0, "inputs": slots, "properties": {}, "widgets_values": values}
        data["outputs"] = [{"name": name, "type": output_type, "links": None} for name, output_type in outputs]
        data |= {"title": title} if title else {}
        self.nodes.append(data)
        return Node(self, data)

    def _link(self, wire: Wire, node: int, slot: int, type: str) -> int:
        id = len(self.links) + 1
        link_type = type if wire.node == INPUT else wire.type
        self.links.append((id, wire.node, wire.slot, node, slot, link_type))
        for source in self.nodes:
            if source["id"] == wire.node:
                output = source["outputs"][wire.slot]
                output["links"] = [*(output["links"] or []), id]
        return id


class Subgraph(Graph):
    """Nodes that appear on a canvas as one node.

    Args:
        info: As for Graph.
        name: Of the subgraph.
        description: What it does, in a sentence.
    """

    def __init__(self, info: Json, name: str, description: str) -> None:
        """Begin with an empty canvas."""
        super().__init__(info)
        self.name, self.description = name, description
        self.id = self._uuid("itself")
        self.inputs: list[Input] = []
        self.outputs: list[tuple[str, Wire]] = []

    def input(self, name: str, type: str, default: Any = None) -> Wire:
        """Add an input of the subgraph, and return it as a wire inside.

        An input with a default is a widget. Sockets must be added first.
        """
        self.inputs.append(Input(name, type, default is not None, default))
        return Wire(INPUT, len(self.inputs) - 1, type)

    def output(self, name: str, wire: Wire) -> None:
        """Add an output of the subgraph."""
        self.outputs.append((name, wire))

    def definition(self) -> Json:
        """Return the definition of the subgraph as the format has it."""
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
        inputs = [(input.name, input.type) for input in self.inputs]
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

    def _slots(
        self, direction: str, slots: Sequence[tuple[str, str]], links: Sequence[list[int]], x: float
    ) -> list[Json]:
        return [
            {
                "id": self._uuid(f"{direction} {name}"),
                "name": name,
                "type": type,
                "linkIds": links[index],
                "label": words(name),
                "pos": [x, 100 + 20 * index],
            }
            for index, (name, type) in enumerate(slots)
        ]

    def _uuid(self, part: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"m2chat/subgraph/{self.name}/{part}"))


def saved(name: str, graph: Graph, subgraphs: Sequence[Subgraph] = ()) -> Json:
    """Return a workflow as the format has it.

    Args:
        name: Of the template.
        graph: Its canvas.
        subgraphs: Those that are on the canvas.
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
        workflow["definitions"] = {"subgraphs": [subgraph.definition() for subgraph in subgraphs]}
    # The defaults of a chain differ between templates, so it is another subgraph in each of them.
    text = json.dumps(workflow)
    for subgraph in subgraphs:
        text = text.replace(subgraph.id, str(uuid.uuid5(uuid.UUID(subgraph.id), name)))
    return json.loads(text)
