"""The gate lab: its arithmetic and its sheet, and the node in a real ComfyUI."""

from __future__ import annotations

import numpy
import pytest
import torch

import graphs
from comfy_server import ComfyServer
from graphs import ADAPTER, DECODER, PAINT, VISION, node
from m3adapter.adapter.gate_sweep import INK, PAPER, Cell, draw_sheet, parse_gates, similarity
from runs import picture, same
from tools.comfy import PromptRejected


def test_gates_are_read_from_text() -> None:
    assert parse_gates("0, 0.25;1\n2") == [0, 0.25, 1, 2]
    for text in ("", "a", "0, much", "5", "-1", "nan", "0," * 13):
        with pytest.raises(ValueError, match="give"):
            parse_gates(text)


def test_similarity_is_that_to_the_most_alike_reference() -> None:
    picture, other = torch.randn(3, 16, 8), torch.randn(3, 16, 8)
    assert similarity(picture, torch.stack([other, picture])) == pytest.approx(1)
    assert similarity(picture, other[None]) < 0.9
    assert similarity(picture * 3, other[None]) == pytest.approx(similarity(picture, other[None]), abs=1e-5)


def test_the_sheet_shows_every_picture_in_its_place() -> None:
    shades = [[0.2, 0.4, 0.6], [0.3, 0.5, 0.7]]
    rows = [[Cell(torch.full((64, 48, 3), shade), 0.5) for shade in row] for row in shades]
    sheet = (draw_sheet(rows, [0, 0.5, 1], [7, 8]) * 255).round().byte().numpy()
    places = []
    for shade in (shade for row in shades for shade in row):
        found = numpy.argwhere((sheet == round(shade * 255)).all(-1))
        assert len(found) == 64 * 48
        places.append(tuple(found.min(0)))
    assert places[0][0] == places[1][0] == places[2][0] < places[3][0] and places[0][1] == places[3][1] < places[1][1]
    assert (sheet[0, 0] == PAPER).all() and (sheet == INK).all(-1).any()


def sweep(**inputs: object) -> graphs.Graph:
    """The blocks, followed by a sweep of two gates and two seeds: `sweep`, shown by `sheet` and `each`."""
    given = {"features": ["encode", 0], "gates": "0, 1", "seeds": 2, "seed": 1, **PAINT, **inputs}
    graph = graphs.blocks(gate=1.0, seed=2)
    graph["sweep"] = node("M2Chat_GateSweep", **ADAPTER, **DECODER, **VISION, **given)
    graph["sheet"] = node("PreviewImage", images=["sweep", 0])
    graph["each"] = node("PreviewImage", images=["sweep", 1])
    graph["alike"] = node("PreviewAny", source=["sweep", 2])
    return graph


def test_a_sweep_paints_what_the_blocks_paint(comfy: ComfyServer) -> None:
    together = comfy.run(sweep())
    entry = comfy.run(sweep(batch_size=1))
    images = [picture(comfy, entry, "each", index) for index in range(4)]
    for index, image in enumerate(images):
        assert same(image, picture(comfy, together, "each", index), tolerance=1), "a batch rounds in another order"
    assert same(images[3], picture(comfy, entry, "picture")), "gate 1 with the second seed"
    assert not any(same(images[i], images[k]) for i in range(4) for k in range(i))
    alike = [float(value) for value in entry["outputs"]["alike"]["text"]]
    assert len(set(alike)) == 4 and all(-1 <= value < 1 for value in alike)


def test_what_is_no_list_of_gates_is_refused_before_anything_runs(comfy: ComfyServer) -> None:
    graph = sweep(gates="low to high")
    for name in ("picture", "map", "mean"):  # what does not need the sweep would run
        del graph[name]
    with pytest.raises(PromptRejected, match="give 1 to 12 numbers"):
        comfy.queue(graph)
