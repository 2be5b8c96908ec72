"""Requests beyond every limit: one sentence, at once, before anything is built."""

from __future__ import annotations

import json
import logging
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import graphs
import toys
from comfy_server import ComfyServer
from graphs import node
from m3adapter.adapter.auto import load_adapter, save_adapter
from m3adapter.adapter.checkpoint import FORMAT
from m3adapter.adapter.importing import import_official, import_visual_projection
from m3adapter.adapter.vision_encoder import VisionEncoder
from m3adapter.conversation.conversation import Conversation, Picture, Text
from m3adapter.conversation.pictures import MAX_PIXELS, PictureError, normalised, read_picture
from m3adapter.conversation.references import ReferencePolicy, chosen_of
from m3adapter.conversation.sessions import Sessions
from m3adapter.diffusion.decoder import DiffusionDecoder
from m3adapter.export.pages.layout import lay_out
from m3adapter.export.pages.pdf import pdf_bytes
from m3adapter.gate import GateSetting
from m3adapter.ip_adapter.ip_adapter import load_ip_adapter
from m3adapter.language.auto import load_language_model
from m3adapter.language.sampling import Sampling
from m3adapter.values import MAX_SHOWN, check_gate, check_panels, check_seed, shown
from m3adapter.weights.counting import check_config
from test_inputs import failed
from test_session_routes import ask, path, sessions  # noqa: F401 (a fixture)

HUGE = 10**400
OPEN = {"type": "picture", "caption": "", "file": None}


def kind(value: object) -> str:
    """The id of a case: pytest would print the whole huge value."""
    return type(value).__name__


def refused(words: str, work: Callable[[], Any], folder: Path | None = None) -> None:
    """Assert that an error is one short sentence that does not say where the folder is."""
    with pytest.raises((ValueError, OSError), match=words) as caught:
        work()
    said = str(caught.value)
    assert toys.one_sentence(said) and len(said) < 400 and (folder is None or str(folder) not in said), said


# Values


@pytest.mark.parametrize(
    "value",
    [HUGE, -HUGE, 10**5000, "x" * 10**6, "a\nb" * 50, "\0" * 99, [[[]]] * 999, {"a": 1}, [0.5] * 99, b"x" * 999],
    ids=kind,
)
def test_a_value_is_quoted_in_a_line(value: Any) -> None:
    assert 0 < len(shown(value)) <= MAX_SHOWN and "\n" not in shown(value)


def test_what_is_short_is_quoted_as_it_is() -> None:
    values = (7, -0.5, True, None, "a 'b'", [1, 2], float("nan"))
    assert [shown(value) for value in values] == ["7", "-0.5", "True", "None", "\"a 'b'\"", "[1, 2]", "nan"]
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    assert shown(nested) == "a list of 1"


@pytest.mark.parametrize("value", [HUGE, -HUGE, float("nan"), float("inf"), -1, True, "1", None, [1], 2**70], ids=kind)
def test_no_number_that_is_none_or_too_large_comes_in(value: Any) -> None:
    for work in (
        lambda: check_gate(value if value is not True else "yes"),
        lambda: check_seed(value),
        lambda: check_panels(value),
        lambda: GateSetting(strength=value),
        lambda: GateSetting(value=value),
        lambda: ReferencePolicy(weights=(value,)),
        lambda: ReferencePolicy(count=value if value is not None else -1),
        lambda: Sampling(temperature=value),
        lambda: Sampling(max_length=value),
        lambda: Picture("x", seed="none" if value is None else value),
        lambda: Picture("x", gate="none" if value is None else value),
    ):
        refused(".", work)
    refused("write numbers of earlier pictures", lambda: chosen_of("9" * 5000))


# Files


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("adapter") / "a.safetensors"
    save_adapter(path, toys.adapter())
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_blocks": 1_000_000}, "num_blocks is 1000000: give a whole number from 1 to 1024"),
        ({"num_blocks": 1000}, "asks for 1000 blocks, and holds 2"),
        ({"vision_levels": 1000}, "asks for 1000 vision_in, and holds 3"),
        ({"width": 2**62}, "width is 4611686018427387904: give a whole number from 1 to 1048576"),
        ({"num_tokens": HUGE}, "num_tokens is a whole number of about 401 digits"),
        ({"num_heads": "²"}, "num_heads is '²': give a whole number"),
        ({"num_heads": float("inf")}, "num_heads is inf: give a whole number"),
        ({"llm_width": [[1]]}, "llm_width is a list of 1: give a whole number"),
        ({"anchor": "yes"}, "anchor must be true or false"),
    ],
)
def test_an_adapters_header_is_counted_before_it_is_built(
    saved: Path, tmp_path: Path, changes: dict, words: str
) -> None:
    config = {**vars(toys.config()), **changes}
    made = tmp_path / "a.safetensors"
    save_file(load_file(saved), made, metadata={"format": FORMAT, "config": json.dumps(config)})
    refused(words, lambda: load_adapter(made), tmp_path)


def test_a_header_without_numbers_or_without_end_is_refused(saved: Path, tmp_path: Path) -> None:
    made, tensors = tmp_path / "a.safetensors", load_file(saved)
    for config in ("[" * 200_000, "7", '{"blocks": 1e999}', '{"blocks": ' + "9" * 5000 + "}"):
        save_file(tensors, made, metadata={"format": FORMAT, "config": config})
        refused("The header of the adapter a.safetensors is damaged", lambda: load_adapter(made), tmp_path)
    for heads in ("²", "٣", "9" * 5000, ""):
        save_file(tensors, made, metadata={"heads": heads})
        assert load_adapter(made).config.width == toys.config().width
    save_file({**tensors, "blocks.999999.x": torch.zeros(1)}, made)
    refused("is not an M3-Adapter checkpoint", lambda: load_adapter(made), tmp_path)


def test_an_official_adapter_is_counted_before_it_is_built(tmp_path: Path) -> None:
    made = tmp_path / "a.pth"
    release = toys.official_release(64, 16, 8)
    more = {f"cross_attn_layers.{number}.linear.weight": torch.zeros(1) for number in range(2000)}
    torch.save({**release, "query_block": {**release["query_block"], **more}}, made)
    refused("has 2000 layers, more than 1024", lambda: import_official(made), tmp_path)
    for queries, words in (
        (torch.zeros(0, 2**40), "has an impossible size"),
        (torch.zeros(8, 1).expand(8, 2**19), "is damaged or holds more than tensors"),
        (torch.zeros(8, 2**15), r"expected \(32768"),
    ):
        torch.save({**release, "sd_query": {"weight": queries}}, made)
        refused(words, lambda: import_official(made), tmp_path)
    torch.save({"visual_proj.weight": torch.zeros(0, 2**40)}, made)
    refused("has an impossible size", lambda: import_visual_projection(made), tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"ip_adapter.1.to_k_ip.weight": (3,)},
        {"ip_adapter.1.to_k_ip.weight": (0, 2**40)},
        {"ip_adapter.1.to_v_ip.weight": (8,)},
        {"ip_adapter.99999999.to_k_ip.weight": (8, 8), "ip_adapter.1.to_k_ip.weight": None},
        {"image_proj.proj.weight": (8,)},
        {"image_proj.proj.weight": None, "image_proj.latents": (1, 4, 2**16), "image_proj.proj_in.weight": (2**16, 1)},
        {"image_proj.proj.weight": None, "image_proj.latents": (4,), "image_proj.proj_in.weight": (4, 4)},
    ],
)
def test_an_ip_adapters_sizes_are_looked_at_before_it_is_built(tmp_path: Path, changes: dict) -> None:
    sizes: dict[str, Any] = {
        "image_proj.proj.weight": (32, 8),
        "image_proj.proj.bias": (32,),
        "image_proj.norm.weight": (8,),
    }
    sizes |= {
        "image_proj.norm.bias": (8,),
        "ip_adapter.1.to_k_ip.weight": (8, 8),
        "ip_adapter.1.to_v_ip.weight": (8, 8),
    }
    made = tmp_path / "ip.safetensors"
    save_file({name: torch.zeros(size) for name, size in {**sizes, **changes}.items() if size is not None}, made)
    refused("^ip.safetensors is ", lambda: load_ip_adapter(made), tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 1_000_000}, {"num_hidden_layers": HUGE}, {"hidden_size": 2**62}, {"num_experts": 10**7},
        {"text_config": {"num_hidden_layers": 10**6}}, {"layers_per_block": [1, 10**6]}, {"image_size": 2**31},
        {"block_out_channels": [32] * 5000}, {"max_position_embeddings": 2**40}, {"num_experts": [8] * 5000},
        {"num_experts": 2**14, "num_hidden_layers": 1024}, {"num_local_experts": 2**16, "num_layers": 32},
        {"n_routed_experts": 2**17, "num_hidden_layers": 1},
    ],
)  # fmt: skip
def test_a_configuration_is_counted_before_a_library_builds_it(tmp_path: Path, changes: dict) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"], **changes})
    )
    refused("^model/config.json asks for", lambda: check_config(folder / "config.json"), tmp_path)
    for load in (load_language_model, VisionEncoder.from_pretrained):
        refused("^model/config.json asks for", lambda load=load: load(folder), tmp_path)


def test_a_deep_configuration_is_refused_and_a_real_one_is_not(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    for text_, words in (
        ('{"a":' * 40 + "1" + "}" * 40, "nested more than 32 deep"),
        ("[" * 200_000, "not valid JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
    ):
        config.write_text(text_)
        refused(words, lambda: check_config(config), tmp_path)
    real = {
        "vocab_size_per_layer_input": 262144, "num_hidden_layers": 61, "max_window_layers": 80,
        "num_experts": 16384, "num_experts_per_tok": 64,
        "layer_norm_eps": 1e-5, "model_max_length": 10**30, "rope_theta": 1e9, "time_step_limit": [0.0, float("inf")],
        "quantization_config": {"weight_block_size": [128, 128], "group_size": 128}, "vision_feature_layer": -2,
        "vision_config": {"image_size": 448, "depth": 32}, "block_out_channels": [320, 640, 1280], "block_size": 2048,
    }  # fmt: skip
    config.write_text(json.dumps(real))
    check_config(config)


def test_a_decoder_is_counted_before_it_is_built(tmp_path: Path) -> None:
    folder = toys.save_decoder(tmp_path / "mine")
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "layers_per_block": 10**6}))
    refused(
        "unet/config.json asks for 1000000 as layers_per_block",
        lambda: DiffusionDecoder.from_pretrained(folder),
        tmp_path,
    )


def test_a_picture_is_measured_before_it_is_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    side = 13_000
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    found = Sessions(tmp_path / "sessions")
    found.save("fox", Conversation().user("x").assistant([Text("y"), Picture("z", torch.zeros(4, 4, 3))]))
    file = found.root / "fox" / "picture_1.png"
    file.write_bytes(bomb)
    most = MAX_PIXELS // 2**20
    words = (
        f"The picture picture_1.png is too large, with 13000 x 13000 pixels: make it smaller, of at most {most} million"
    )
    refused(words, lambda: read_picture(file), tmp_path)
    refused(words, lambda: found.load("fox"), tmp_path)
    with pytest.raises(PictureError, match="A picture is too large"):
        normalised(torch.zeros(1, 1, 3).expand(9000, 9000, 3))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"version": HUGE}, "has version a whole number of about 401 digits"),
        ({"revision": HUGE}, "its revision is a whole number of about 401 digits"),
        ({"turns": [{"role": "x" * 9999, "segments": []}]}, "give system, user or assistant"),
        ({"turns": [{"role": "assistant", "segments": [{**OPEN, "gate": HUGE}]}]}, "give a number from 0 to 4"),
        ({"turns": [{"role": "user", "segments": [{"type": "y" * 9999}]}]}, "is not a type of segment"),
    ],
)  # fmt: skip
def test_a_session_with_impossible_values_is_told_in_a_line(tmp_path: Path, content: dict, words: str) -> None:
    found = Sessions(tmp_path / "sessions")
    (found.root / "fox").mkdir(parents=True)
    index = {"version": 2, "revision": 1, "turns": [], "cast": [], **content}
    (found.root / "fox" / "conversation.json").write_text(json.dumps(index))
    refused(words, lambda: found.load("fox"), tmp_path)


# Nodes and requests


def test_what_stands_in_the_place_of_a_wire_is_told_in_a_sentence(comfy: ComfyServer) -> None:
    for value, said in (("hello", "'hello'"), (7, "7"), ({"a": 1}, "an object of 1")):
        graph = {"show": node("M2Chat_ShowConversation", conversation=value)}
        wanted = f"Show Conversation: conversation is {said}: connect a node that gives M2CHAT_CONVERSATION."
        assert failed(comfy, graph) == wanted
    graph = {**graphs.conversation(), "place": node("M2Chat_PlacePicture", conversation=["user", 0], slot=0, image="x")}
    graph["show"] = node("M2Chat_ShowConversation", conversation=["place", 0])
    assert failed(comfy, graph) == "Place Picture: image is 'x': connect a picture, [batch, height, width, channels]."
    graph = graphs.changed(graphs.blocks(), "fuse", gate=float("nan"))
    assert failed(comfy, graph) == "Fuse M3-Adapter: gate is nan: give a number from 0 to 4."
    # ComfyUI lists the run with its NaN, which is not JSON: no page could read the list of jobs any more.
    comfy.request("/history", json.dumps({"clear": True}).encode())
    graph = graphs.changed(graphs.blocks(), "encode", adapter="a")
    assert failed(comfy, graph) == "Encode Slot: adapter is 'a': connect a node that gives M2CHAT_ADAPTER."


@pytest.mark.usefixtures("sessions")
def test_a_request_with_impossible_values_is_told_in_a_line(comfy: ComfyServer) -> None:
    for given in (
        {"revision": HUGE},
        {"revision": 0, "turns": [{"role": ["x"] * 999, "segments": []}]},
        {"revision": 0, "turns": [{"role": "user", "segments": [{"type": "z" * 9999}]}]},
        {"revision": 0, "turns": [{"role": "assistant", "segments": [{"type": "picture", "seed": "²"}]}]},
        {"revision": 0, "turns": [{"role": "assistant", "segments": [{"type": "picture", "seed": "9" * 5000}]}]},
        {"revision": 0, "turns": [{"role": "assistant", "segments": [{"type": "picture", "gate": HUGE}]}]},
        {"revision": 0, "turns": [{"role": "assistant", "segments": [{"type": "picture", "file": ["x"] * 999}]}]},
    ):
        status, answer = ask(comfy, "PUT", path("new"), given)
        assert status in (400, 409) and len(answer["error"]) < 250, (given, answer)


# The log


def test_writing_a_pdf_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    caplog.set_level(logging.DEBUG)
    story = Conversation().user("Tell.").assistant([Text("A fox “runs”."), Picture("a fox", torch.rand(16, 16, 3))])
    assert pdf_bytes(lay_out(story)[0]).startswith(b"%PDF")
    noisy = {record.name.partition(".")[0] for record in caplog.records}
    assert not noisy & {"fontTools", "fpdf"}, noisy
    assert logging.getLogger("fontTools").level == logging.NOTSET, "others may want to hear of it"
    assert not [warning for warning in recwarn if "fpdf" in warning.filename]
