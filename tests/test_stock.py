"""Stock types: what KSampler, CLIP Text Encode and VAE Decode make of the starter is what the pack's own nodes make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphs
from comfy_server import ComfyServer
from graphs import DECODER, Graph, node
from runs import picture, same

STEPS = 12


@pytest.fixture
def painted() -> Graph:
    """The next picture of a story in blocks, with the stock loader beside: `picture` is what the pack paints."""
    graph = graphs.blocks()
    graph["decode"]["inputs"]["steps"] = STEPS
    return {
        **graph,
        "stock": node("M2Chat_LoadStarterStock"),
        "conditioning": node("M2Chat_ToConditioning", condition=["fuse", 0], width=128, height=128),
        "latent": node("EmptyLatentImage", width=128, height=128, batch_size=1),
    }


def sampled(**inputs: Any) -> Graph:
    """The stock way from conditioning to a picture: `stock_picture`."""
    given = {"model": ["stock", 0], "positive": ["conditioning", 0], "negative": ["conditioning", 1]}
    given |= {"latent_image": ["latent", 0], "seed": 1, "steps": STEPS, "cfg": 3.0, "denoise": 1.0}
    given |= {"sampler_name": "euler", "scheduler": "sgm_uniform"}
    return {
        "sampler": node("KSampler", **{**given, **inputs}),
        "pixels": node("VAEDecode", samples=["sampler", 0], vae=["stock", 2]),
        "stock_picture": node("PreviewImage", images=["pixels", 0]),
    }


def difference(comfy: ComfyServer, entry: dict[str, Any], one: str, other: str) -> float:
    """Mean absolute difference of two shown pictures, in 8-bit values."""
    left, right = (np.asarray(picture(comfy, entry, name), dtype=np.float32) for name in (one, other))
    return float(np.abs(left - right).mean())


def test_ksampler_paints_what_decode_paints(comfy: ComfyServer, painted: Graph) -> None:
    entry = comfy.run({**painted, **sampled()})
    assert difference(comfy, entry, "picture", "stock_picture") <= 1
    other = comfy.run({**painted, **sampled(seed=2)})
    other["outputs"] = {**entry["outputs"], **other["outputs"]}  # older engines name only what was painted anew
    assert difference(comfy, other, "picture", "stock_picture") > 3, "any two pictures would have passed"


def test_there_and_back_is_exact(comfy: ComfyServer, painted: Graph) -> None:
    back = {
        "back": node("M2Chat_FromConditioning", positive=["conditioning", 0], negative=["conditioning", 1]),
        "again": node("M2Chat_Decode", **DECODER, condition=["back", 0], seed=1, steps=STEPS, guidance=3.0),
        "before": node("SaveImage", images=painted["picture"]["inputs"]["images"], filename_prefix="before"),
        "shown": node("PreviewImage", images=["again", 0]),
    }
    entry = comfy.run({**painted, **back})
    assert same(picture(comfy, entry, "before"), picture(comfy, entry, "shown"))


def test_stock_text_encoders_say_what_the_decoders_own_say(comfy: ComfyServer, tmp_path: Path) -> None:
    from m3adapter.diffusion.condition import Condition
    from m3adapter.diffusion.decoder import DiffusionDecoder
    from m3adapter.weights.starter import STARTER

    prompts = ("A blue fox, on the beach at night!", "")
    graph = {
        "load": node("M2Chat_LoadStarter"),
        "stock": node("M2Chat_LoadStarterStock"),
        "text": node("CLIPTextEncode", clip=["stock", 1], text=prompts[0]),
        "nothing": node("CLIPTextEncode", clip=["stock", 1], text=prompts[1]),
        "condition": node("M2Chat_FromConditioning", positive=["text", 0], negative=["nothing", 0]),
        "decode": node("M2Chat_Decode", **DECODER, condition=["condition", 0], seed=3, steps=4, guidance=3.0),
        "picture": node("PreviewImage", images=["decode", 0]),
    }
    shown = np.asarray(picture(comfy, comfy.run(graph), "picture"), dtype=np.float32)
    decoder = DiffusionDecoder.from_pretrained(STARTER / "decoder")
    text, nothing = (decoder.encode_text([prompt]) for prompt in prompts)
    condition = Condition(text.embeds, text.pooled, nothing.embeds, nothing.pooled)
    expected = decoder.decode(condition, seed=3, steps=4, guidance=3.0)[0].numpy() * 255
    assert np.abs(shown - expected).max() <= 2


def test_stock_vae_sees_what_it_paints(comfy: ComfyServer, painted: Graph) -> None:
    there = {
        "seen": node("VAEEncode", pixels=["decode", 0], vae=["stock", 2]),
        "again": node("VAEDecode", samples=["seen", 0], vae=["stock", 2]),
        "shown": node("PreviewImage", images=["again", 0]),
    }
    entry = comfy.run({**painted, **there})
    assert difference(comfy, entry, "picture", "shown") < 6


def test_combined_conditioning_is_refused(comfy: ComfyServer, painted: Graph) -> None:
    both = {
        "both": node("ConditioningCombine", conditioning_1=["conditioning", 0], conditioning_2=["conditioning", 0]),
        "back": node("M2Chat_FromConditioning", positive=["both", 0], negative=["conditioning", 1]),
        "again": node("M2Chat_Decode", **DECODER, condition=["back", 0], seed=1, steps=1, guidance=3.0),
        "shown": node("PreviewImage", images=["again", 0]),
    }
    events = comfy.events({**painted, **both})
    (error,) = [event["data"]["exception_message"] for event in events if event["type"] == "execution_error"]
    assert error.strip() == (
        "Conditioning to M2Chat: The positive conditioning has 2 entries: give one that is not a combination."
    )
