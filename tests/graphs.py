"""API graphs for the tests: the ones in tests/workflows/, and small ones made of blocks."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from typing import Any

from m3adapter.adapter.auto import load_adapter
from m3adapter.weights.starter import STARTER
from tools import environment

Graph = dict[str, dict[str, Any]]
Link = tuple[int, int, int, int, str]  # from which node and output, to which node and input, of which type

INPUT, OUTPUT = -10, -20  # the ids that a subgraph's own inputs and outputs have among its links

WORKFLOWS = environment.REPO / "tests" / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))

LANGUAGE = {"language_model": ["load", 0]}
VISION = {"vision_encoder": ["load", 1]}
ADAPTER = {"adapter": ["load", 2]}
DECODER = {"decoder": ["load", 3]}
MODELS = {**LANGUAGE, **VISION, **ADAPTER, **DECODER}
PAINT = {"steps": 2, "guidance": 3.0}
# The toys of tests/toy_painters.py for the files that templates name.
TOYS = {"z_image_turbo": "z_image", "flux-2-klein": "flux2_klein", "qwen_image_edit": "qwen_edit_2511"}
SAMPLING = {
    "max_length": 24,
    "sampling_mode": "on",
    "sampling_mode.temperature": 0.7,
    "sampling_mode.top_k": 64,
    "sampling_mode.top_p": 0.95,
    "sampling_mode.min_p": 0.05,
    "sampling_mode.repetition_penalty": 1.05,
}


def load(path: Path) -> Graph:
    """Read a graph."""
    return json.loads(path.read_text("utf-8"))


def quick(name: str) -> Graph:
    """Return a graph of tests/workflows/, reduced to as little work as possible.

    ComfyUI's own loaders cannot load toys: the starter's parts stand in for SDXL's, a folder for a text encoder.
    """
    graph = load(WORKFLOWS / f"{name}.json")
    graph = with_toys(graph)
    for key, given in list(graph.items()):
        if given["class_type"] == "M2Chat_LanguageModelFromClip":
            if given["inputs"]["clip"][0] != "toy":
                del graph[given["inputs"]["clip"][0]]
            toy = {"model": "LLM/Qwen3-1.7B", "dtype": "auto", "quantization": "none"}
            graph[key] = {"class_type": "M2Chat_LoadLanguageModel", "inputs": toy}
        elif given["class_type"] == "M2Chat_LoadDecoder":
            given["inputs"]["model"] = "diffusers/stable-diffusion-xl-base-1.0"
    stock = next((key for key, node in graph.items() if node["class_type"] == "CheckpointLoaderSimple"), None)
    for key, node in list(graph.items()):
        if key == stock:
            graph[key] = {"class_type": "M2Chat_LoadStarterStock", "inputs": {}}
        elif node["class_type"] in ("EmptyLatentImage", "M2Chat_StockPainter"):
            node["inputs"].update(width=128, height=128)
        elif node["class_type"] == "CLIPVisionLoader":
            del graph[key]
            for other in graph.values():
                other["inputs"] = {k: [stock, 3] if v == [key, 0] else v for k, v in other["inputs"].items()}
    for each in graph.values():
        if each["class_type"] in ("EmptySD3LatentImage", "EmptyFlux2LatentImage") or (
            each["class_type"] == "M2Chat_StockPainter" and "toy" in graph
        ):
            each["inputs"].update(width=64, height=64)
            if each["class_type"] == "M2Chat_StockPainter":  # text encoders that see take references of a megapixel
                each["inputs"]["text_encoder_sees"] = "captions only"
        elif each["class_type"] == "ImageScaleToTotalPixels":
            each["inputs"]["megapixels"] = 0.01
        elif each["class_type"] == "M2Chat_CharacterSheet":  # a toy cannot write one
            each["inputs"]["lines"] = "Rosa: a young fox"
        elif each["class_type"] == "M2Chat_Dataset":  # a few of its samples
            each["inputs"].update(split="validation")
    few = {"steps": 2, "panels": 2, "max_length": 24, "blocks": 1}
    for node in graph.values():
        for key, most in few.items():
            if key in node["inputs"] and not isinstance(node["inputs"][key], list):
                node["inputs"][key] = min(most, node["inputs"][key])
    return graph


def with_toys(graph: Graph) -> Graph:
    """Return the graph with a toy of the same class in place of stock loaders of a model that is too large."""
    family = next((toy for name, toy in TOYS.items() if name in json.dumps(graph)), None)
    if family is None:
        return graph
    places = {"UNETLoader": 0, "LoraLoaderModelOnly": 0, "CLIPLoader": 1, "VAELoader": 2}
    wires = {key: ["toy", places[each["class_type"]]] for key, each in graph.items() if each["class_type"] in places}
    made = {"toy": node("ToyPainter", family=family)}
    for key in graph.keys() - wires.keys():
        inputs = graph[key]["inputs"].items()
        given = {name: wires.get(value[0], value) if isinstance(value, list) else value for name, value in inputs}
        made[key] = {**graph[key], "inputs": given}
    shown = [key for key, each in made.items() if each["class_type"] == "LoadImage"]
    for key in shown:
        made[key] = node("EmptyImage", width=64, height=64, batch_size=1, color=0x808080)
        made[f"{key} mask"] = node("SolidMask", value=1.0, width=64, height=64)
    for each in made.values():
        for name, value in each["inputs"].items():
            if isinstance(value, list) and value[0] in shown and value[1] == 1:
                each["inputs"][name] = [f"{value[0]} mask", 0]
    return made


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """A node of a graph. A dot in an input's name is written as two underscores."""
    return {"class_type": class_type, "inputs": {name.replace("__", "."): value for name, value in inputs.items()}}


def conversation(text: str = "A fox on the beach.", **inputs: Any) -> Graph:
    """The models, and a conversation with one message: node `user`."""
    return {
        "load": node("M2Chat_LoadStarter"),
        "start": node("M2Chat_Conversation"),
        "user": node("M2Chat_UserMessage", conversation=["start", 0], text=text, **inputs),
    }


def reply(seed: int = 1, **inputs: Any) -> dict[str, Any]:
    """A Reply node to `user`."""
    given = {**LANGUAGE, **VISION, "conversation": ["user", 0], **SAMPLING, "sampling_mode.seed": seed}
    return node("M2Chat_Reply", **{**given, "always_picture": True, **inputs})


def story(**inputs: Any) -> Graph:
    """The models, a story of one panel, and its conversation shown: nodes `load`, `story`, `show`."""
    given = {"premise": "A fox on the beach.", "panels": 1, "gate": 1.0, "seed": 1, **PAINT, **inputs}
    return {
        "load": node("M2Chat_LoadStarter"),
        "story": node("M2Chat_Story", **MODELS, **given),
        "show": node("M2Chat_ShowConversation", conversation=["story", 0]),
    }


def blocks(gate: float = 1.0, seed: int = 1, **mode: Any) -> Graph:
    """A story's first panel, and the next picture in blocks down to `picture` and `map`, which are previews."""
    graph = {
        **story(),
        "user": node("M2Chat_UserMessage", conversation=["story", 0], text="What happens next?"),
        "reply": reply(seed),
        "encode": node(
            "M2Chat_EncodeSlot", **LANGUAGE, **VISION, **ADAPTER, conversation=["reply", 0], slot=0, references=2
        ),
        "fuse": node(
            "M2Chat_FuseM3Adapter", **ADAPTER, features=["encode", 0], gate=gate, **(mode or {"mode": "learned"})
        ),
        "decode": node("M2Chat_Decode", **DECODER, condition=["fuse", 0], seed=seed, **PAINT),
        "picture": node("PreviewImage", images=["decode", 0]),
        "map": node("PreviewImage", images=["fuse", 1]),
        "mean": node("PreviewAny", source=["fuse", 2]),
    }
    del graph["show"]
    return graph


def panels(count: int, looks_at: str, *, seed: int = 1, max_length: int = 256) -> Graph:
    """A story in blocks, the words of all panels first: nodes `reply3`, `encode3`, `decode3`, ... and `show`.

    `looks_at` is "latest", and each picture sees the first one and the one before it, or "first". `text3` and `seed3`
    give the seeds of the third panel's words and of its picture.
    """
    graph = {"load": node("M2Chat_LoadStarter"), "reply0": node("M2Chat_Conversation")}
    last = [f"reply{count}", 0]
    for k in range(1, count + 1):
        said = "A fox on the beach." if k == 1 else "What happens next?"
        placed = [f"place{k - 1}", 0] if k > 1 else last
        seen = placed if looks_at == "latest" or k < 3 else ["place1", 0]
        given = {**SAMPLING, "max_length": max_length, "sampling_mode.seed": [f"text{k}", 0], "always_picture": True}
        graph |= {
            f"text{k}": node("M2Chat_TurnSeed", seed=seed, panel=k, reroll=0),
            f"seed{k}": node("M2Chat_TurnSeed", seed=seed, panel=k, reroll=0),
            f"user{k}": node("M2Chat_UserMessage", conversation=[f"reply{k - 1}", 0], text=said),
            f"reply{k}": node("M2Chat_Reply", **LANGUAGE, **VISION, conversation=[f"user{k}", 0], **given),
            f"encode{k}": node(
                "M2Chat_EncodeSlot", **LANGUAGE, **VISION, **ADAPTER, conversation=seen,
                slot=0 if seen is placed else k - 2, references=2,
            ),
            f"fuse{k}": node("M2Chat_FuseM3Adapter", **ADAPTER, features=[f"encode{k}", 0], gate=1.0, mode="learned"),
            f"decode{k}": node("M2Chat_Decode", **DECODER, condition=[f"fuse{k}", 0], seed=[f"seed{k}", 0], **PAINT),
            f"place{k}": node(
                "M2Chat_PlacePicture", conversation=placed, slot=0, image=[f"decode{k}", 0], seed=[f"seed{k}", 0]
            ),
        }  # fmt: skip
    return {**graph, "show": node("M2Chat_ShowConversation", conversation=[f"place{count}", 0])}


def changed(graph: Graph, name: str, **inputs: Any) -> Graph:
    """The graph with other inputs of one node."""
    graph = copy.deepcopy(graph)
    graph[name]["inputs"].update(inputs)
    return graph


def numbered(graph: Graph) -> Graph:
    """The graph with numbers in place of names, as ComfyUI's page wants it."""
    numbers = {name: str(number) for number, name in enumerate(graph, 1)}
    return {
        numbers[name]: node(
            given["class_type"],
            **{k: [numbers[v[0]], v[1]] if isinstance(v, list) else v for k, v in given["inputs"].items()},
        )
        for name, given in graph.items()
    }


def check_slots(node: dict[str, Any], info: dict[str, Any]) -> None:
    """Assert that a node in UI format has only inputs and outputs that the server describes.

    In older engines, the nodes that show and save pictures have no outputs: there, only a link is an error.
    """
    known = {given for group in ("required", "optional") for given in info["input"].get(group, {})}
    assert {given["name"].split(".")[0] for given in node["inputs"]} <= known, node["type"]
    outputs = [given["type"] for given in node["outputs"]]
    if node["type"] in ("PreviewImage", "SaveImage") and not info["output"]:
        assert not any(given["links"] for given in node["outputs"]), node["type"]
    else:
        assert outputs == info["output"], node["type"]


def check_links(nodes: list[dict[str, Any]], links: dict[int, Link]) -> None:
    """Assert that nodes in UI format agree with the list of links."""
    by_id = {node["id"]: node for node in nodes}
    for node in nodes:
        for index, given in enumerate(node["inputs"]):
            if (link := given.get("link")) is not None:
                assert links[link][2:4] == (node["id"], index), given
        for index, given in enumerate(node["outputs"]):
            assert set(given["links"] or []) == {n for n, link in links.items() if link[:2] == (node["id"], index)}
    for source, output, target, taken, kind in links.values():
        assert by_id[source]["outputs"][output]["type"] == by_id[target]["inputs"][taken]["type"] == kind


def subgraph_links(subgraph: dict[str, Any]) -> dict[int, Link]:
    """The links of a subgraph in UI format, by id."""
    ends = ("origin_id", "origin_slot", "target_id", "target_slot", "type")
    return {link["id"]: tuple(link[end] for end in ends) for link in subgraph["links"]}


def check_subgraph(subgraph: dict[str, Any], info: dict[str, Any]) -> None:
    """Assert that the inside of a subgraph in UI format is made of nodes that exist, wired to its own ends."""
    inner, links = subgraph["nodes"], subgraph_links(subgraph)
    by_id = {given["id"]: given for given in inner}
    assert len(by_id) == len(inner) and len(links) == len(subgraph["links"])
    assert subgraph["state"]["lastNodeId"] == max(by_id) and subgraph["state"]["lastLinkId"] == max(links)
    for given in inner:
        check_slots(given, info[given["type"]])
        # The page puts sockets first: links to other slots would then lead to the wrong ones.
        sockets = ["widget" in slot for slot in given["inputs"]]
        assert sockets == sorted(sockets), given["type"]
    taken = [{**slot, "links": slot["linkIds"]} for slot in subgraph["inputs"]]
    made = [{**slot, "link": link} for slot in subgraph["outputs"] for (link,) in [slot["linkIds"]]]
    ends = [{"id": INPUT, "inputs": [], "outputs": taken}, {"id": OUTPUT, "inputs": made, "outputs": []}]
    check_links([*inner, *ends], links)


def canvases(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """The canvas of a workflow in UI format, and those of its subgraphs."""
    return [workflow, *workflow.get("definitions", {}).get("subgraphs", [])]


def overlapping(nodes: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """The ids of nodes in UI format that overlap."""
    # A node's position is that of its body; its title is a bar of 30 pixels above it.
    boxes = [
        (node["id"], (x, y - 30, x + width, y + height))
        for node in nodes
        for (x, y), (width, height) in [(node["pos"], node["size"])]
    ]
    return [
        (one, other)
        for (one, (left, top, right, bottom)), (other, box) in itertools.combinations(boxes, 2)
        if left < box[2] and box[0] < right and top < box[3] and box[1] < bottom
    ]


def open_gate() -> float:
    """How far the starter's gate opens where the references determine the look: what 1 means for a fixed gate."""
    return load_adapter(STARTER / "adapter.safetensors").config.open_gate
