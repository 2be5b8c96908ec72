"""Language models from users' disks: incomplete, wrong or malicious files are refused by name, in one sentence."""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import toy_llms
from m3adapter.conversation.conversation import Conversation
from m3adapter.language.auto import load_language_model
from m3adapter.language.config import LanguageModelConfig
from m3adapter.language.model_folders import PROCESSORS
from toys import one_sentence

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 4096\n"
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Valid models: a Llama, the same in several files, and one that sees."""
    folder = tmp_path_factory.mktemp("whole")
    llama = toy_llms.build("Llama", folder / "llama")
    shards = shutil.copytree(llama, folder / "shards")
    (shards / "model.safetensors").unlink()
    load_language_model(llama).model.save_pretrained(shards, max_shard_size="20KB")
    llava = toy_llms.build("LLaVA", folder / "llava")
    return {"llama": llama, "shards": shards, "llava": llava}


def patched(path: Path, **changes: Any) -> None:
    """Changes the values of a JSON file; None takes one out."""
    values = json.loads(path.read_text("utf-8")) | changes
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}), "utf-8")


def without(path: Path, pattern: str) -> None:
    """Takes weights out of a safetensors file."""
    kept = {name: value for name, value in load_file(path).items() if not re.search(pattern, name)}
    save_file(kept, path, {"format": "pt"})


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def pointed(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(POINTER, "utf-8")


def gone(*names: str) -> Callable[[Path], object]:
    return lambda folder: [(folder / name).unlink(missing_ok=len(names) > 1) for name in names]


def written(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text, "utf-8")


def config(**changes: Any) -> Callable[[Path], object]:
    return lambda folder: patched(folder / "config.json", **changes)


def as_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def cut_pickle(folder: Path) -> None:
    as_pickle(folder)
    halved(folder / "pytorch_model.bin")


def running_pickle(folder: Path) -> None:
    import pickle

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Path}))


def shard(name: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        index = folder / "model.safetensors.index.json"
        listed = json.loads(index.read_text("utf-8"))["weight_map"]
        patched(index, weight_map={**listed, next(iter(listed)): name})

    return change


def more_words(folder: Path) -> None:
    words = toy_llms.tokenizer()
    words.add_tokens(["fox", "owl"])
    words.save_pretrained(folder)


BROKEN: list[tuple[str, str, Callable[[Path], object], str]] = [
    # Files that are missing, cut off, or stand in for the right one.
    ("a layer", "llama", lambda f: without(f / "model.safetensors", r"layers\.1\."),
     "llama lacks layer 1"),
    ("the last layer", "llama", lambda f: without(f / "model.safetensors", r"layers\.2\."), "lacks layer 2 of 3"),
    ("one weight", "llama", lambda f: without(f / "model.safetensors", r"1\.mlp\.up"),
     r"lacks model\.layers\.1\.mlp\.up"),
    ("the embeddings", "llama", lambda f: without(f / "model.safetensors", "embed"), "llama lacks"),
    ("a part that sees", "llava", lambda f: without(f / "model.safetensors", "projector"), "llava lacks"),
    ("a layer that is only counted", "llama", config(num_hidden_layers=4), "lacks layer 3 of 4"),
    ("a shard", "shards", gone("model-00002-of-00006.safetensors"), "lacks 1 of its 6 files of weights"),
    ("a cut shard", "shards", lambda f: halved(f / "model-00002-of-00006.safetensors"),
     "00002-of-00006.safetensors is cut"),
    ("a shard elsewhere", "shards", shard("../../secret.safetensors"), "names a file outside"),
    ("a shard by its path", "shards", shard("/etc/passwd"), "names a file outside"),
    ("an empty index", "shards", written("model.safetensors.index.json", '{"weight_map": []}'), "lists no weights"),
    ("no weights", "llama", gone("model.safetensors"), "has no weights under a name"),
    ("weights of another name", "llama", lambda f: (f / "model.safetensors").rename(f / "x.safetensors"),
     "has no weights"),
    ("no tokenizer", "llama", gone("tokenizer.json"), "has no tokenizer"),
    ("no processor", "llava", gone(*PROCESSORS), "vision-language model without its processor"),
    ("cut weights", "llama", lambda f: halved(f / "model.safetensors"), "model.safetensors is cut off"),
    ("a cut pickle", "llama", cut_pickle, "pytorch_model.bin is cut off"),
    ("a pickle with code", "llama", running_pickle, "llama cannot be opened"),
    *[(f"a pointer as {name}", "llama", pointed(name), f"llama/{name} is a Git LFS pointer")
      for name in ("config.json", "tokenizer.json", "tokenizer_config.json")],
    ("a pointer as weights", "llama", pointed("model.safetensors"), "model.safetensors is a Git LFS pointer"),
    ("a pointer as a shard", "shards", pointed("model-00001-of-00006.safetensors"), "is a Git LFS pointer"),
    ("a pointer as a processor", "llava", pointed("processor_config.json"), "is a Git LFS pointer"),
    *[(f"an empty {name}", "llama", written(name, ""), f"{name} is empty")
      for name in ("config.json", "tokenizer.json", "model.safetensors")],
    *[(f"a cut {name}", "llama", lambda f, name=name: halved(f / name), f"llama/{name} is cut off or not valid JSON")
      for name in ("config.json", "tokenizer.json", "tokenizer_config.json")],
    ("a deep config", "llama", written("config.json", "[" * 200_000), "not valid JSON"),
    ("a list as config", "llama", written("config.json", "[]"), "does not hold a JSON object"),
    ("a web page", "llama", written("tokenizer.json", "<!DOCTYPE html><html>Sign in</html>"), "is a web page"),
    # Models of other kinds.
    ("an adapter", "llama", written("adapter_config.json", '{"base_model_name_or_path": "x/y"}'),
     r"an adapter \(LoRA\)"),
    ("diffusers", "llama", written("model_index.json", "{}"), "a diffusers model"),
    ("a part of diffusers", "llama", config(_class_name="UNet2DConditionModel"), "a diffusers model"),
    *[(kind, "llama", config(model_type=kind), f"a {kind} model, which does not write text")
      for kind in ("t5", "umt5", "clip_text_model", "siglip", "bert", "xlm-roberta")],
    ("a kind that writes no text", "llama", config(model_type="dinov2"), "a dinov2 model, which does not write text"),
    ("an unknown kind", "llama", config(model_type="never_heard_of"), "does not know the kind of model in llama"),
    ("no kind", "llama", config(model_type=None), "does not say what kind"),
    ("own code", "llama", config(model_type="mine", auto_map={"AutoConfig": "mine.C"}), "which is never run"),
    # Models whose files do not belong together, or that need something missing.
    *[(f"quantised by {method}", "llama",
       config(quantization_config={"quant_method": method, "bits": 4, **more}), reason)
      for method, more, reason in (
          ("awq", {}, "gptqmodel"), ("gptq", {"group_size": 32}, "gptqmodel|quantised by gptq"),
          ("compressed-tensors", {"config_groups": {}}, "compressed-tensors"), ("hqq", {}, "hqq"), ("aqlm", {}, "aqlm"),
          ("exl2", {}, "quantised by exl2, which transformers does not read"), ("eetq", {}, "nothing is downloaded"),
      )],
    ("quantised somehow", "llama", config(quantization_config={"bits": 4}), "in a way that config.json does not name"),
    ("quantised by mlx", "llama", config(quantization={"bits": 4, "group_size": 64}), "quantised by mlx"),
    ("another tokenizer", "llama", more_words, "tokenizer of llama has 266 tokens, and the model knows 264"),
    ("a smaller vocabulary", "llama", config(vocab_size=258), "264 tokens|260 tokens"),
    ("other sizes", "llama", config(hidden_size=64), "llama (cannot be opened|has another shape)"),
    ("no sizes", "llama", config(num_attention_heads="two"), "llama (has a config.json|cannot be opened)"),
    ("no number", "llama", config(num_hidden_layers="three"), "num_hidden_layers|config.json"),
    # Templates.
    ("no template", "llama", gone("chat_template.jinja"), "no chat template.* variant of llama"),
    ("a deaf template", "llama", written("chat_template.jinja", "{% for m in messages %}{{ m.role }}{% endfor %}"),
     "chat template of llama leaves out messages"),
    ("a forgetful template", "llama", written("chat_template.jinja", "{{ messages[-1].content }}"),
     "leaves out messages"),
    ("a refusing template", "llama", written("chat_template.jinja", "{{ raise_exception('Never.') }}"), r"\(Never\)"),
    ("a broken template", "llama", written("chat_template.jinja", "{% for %}"), "chat template of llama"),
    ("a blind template", "llava", written("chat_template.jinja", toy_llms.CHATML.replace("@", "")),
     "leaves out users' pictures"),
    # m2chat.json.
    *[(f"m2chat.json with {values}"[:60], "llama",
       written("m2chat.json", json.dumps(values)), f"llama/m2chat.json.*{reason}")
      for values, reason in (
          ({"feature_layer": "-2"}, "give a whole number"), ({"feature_layer": True}, "give a whole number"),
          ({"picture_length": 0}, "from 1"), ({"picture_length": 2.5}, "from 1"), ({"open_tag": ""}, "not empty"),
          ({"close_tag": ["</a>"]}, "not empty"), ({"picture_token": None}, "not empty"),
          ({"instructions": {}}, "give a text"), ({"instructions": "Do.\n--- user\nHi."}, "must be pairs"),
          ({"open_tag": "<a>", "close_tag": "<a>"}, "the same"),
          ({"open_tag": "<bild>", "close_tag": "</bild>"}, "do not mark a picture"),
          ({"feature_layer": 10**400}, "give a whole number"),
      )],
    ("m2chat.json for more layers", "llama", written("m2chat.json", '{"feature_layer": -9}'),
     "give a number from -4 to 3"),
    ("m2chat.json with a list", "llama", written("m2chat.json", "[1]"), "m2chat.json does not hold a JSON object"),
    ("a pointer as m2chat.json", "llama", pointed("m2chat.json"), "m2chat.json is a Git LFS pointer"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "spoil", "reason"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_folder_that_is_not_right_is_refused_by_name(
    whole: dict[str, Path], tmp_path: Path, make: str, spoil: Callable[[Path], object], reason: str
) -> None:
    folder = shutil.copytree(whole[make], tmp_path / make)
    spoil(folder)
    with pytest.raises(ValueError, match=reason) as refusal:
        load_language_model(folder)
    assert one_sentence(refusal.value) and len(str(refusal.value)) < 500, refusal.value
    assert str(tmp_path) not in str(refusal.value), "no path of the machine is told"


def test_nothing_is_made_up_for_missing_weights_before_they_are_missed(
    whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    monkeypatch.setattr(transformers.LlamaForCausalLM, "__init__", lambda *_: pytest.fail("a model is made"))
    for make, name in (("llama", "model.safetensors"), ("shards", "model-00003-of-00006.safetensors")):
        folder = shutil.copytree(whole[make], tmp_path / make)
        halved(folder / name)
        with pytest.raises(ValueError, match=f"{name} is cut off"):
            load_language_model(folder)


@pytest.mark.parametrize("spoil", [
    as_pickle,
    config(auto_map={"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}),
    lambda folder: patched(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["mine.Words", None]}),
    config(attn_implementation="kernels-community/flash-attn", _attn_implementation="kernels-community/flash-attn"),
    config(attn_implementation="flash_attention_2", experts_implementation="deepgemm", use_kernels=True),
    written("chat_template.jinja", toy_llms.CHATML.replace("m.content is string", "false")),
    lambda folder: toy_llms.tokenizer(extra_special_tokens={"more": "<never>"}).save_pretrained(folder),
])  # fmt: skip
def test_what_is_right_in_an_unusual_way_opens_without_code_kernels_or_net(
    whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], object]
) -> None:
    folder = shutil.copytree(whole["llama"], tmp_path / "llama")
    (folder / "mine.py").write_text("raise SystemExit('code of the model was run')", "utf-8")
    spoil(folder)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the terminal is asked"))
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network is asked"))
    model = load_language_model(folder)
    assert model.model.config._attn_implementation == "sdpa"
    asked = Conversation().user("A fox finds a kite.")
    plain = load_language_model(whole["llama"])
    assert model.prompts.for_reply(asked, 3000).ids == plain.prompts.for_reply(asked, 3000).ids
    weights = plain.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in model.model.state_dict().items())


def test_attention_of_a_part_is_not_the_folders_choice(whole: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(whole["llava"], tmp_path / "llava")
    stored = json.loads((folder / "config.json").read_text("utf-8"))
    for part in ("text_config", "vision_config"):
        stored[part] |= {"attn_implementation": "kernels-community/x", "_attn_implementation": "flash_attention_2"}
    (folder / "config.json").write_text(json.dumps(stored), "utf-8")
    parts = [part for part in load_language_model(folder).model.modules() if hasattr(part, "config")]
    chosen = {part.config._attn_implementation for part in parts}
    assert len(parts) > 2
    assert chosen <= {"sdpa", "eager"}


def test_every_folder_is_opened_without_its_code_and_without_the_net() -> None:
    calls = {}
    for path in [*(ROOT / "m3adapter").rglob("*.py"), *(ROOT / "nodes").rglob("*.py")]:
        text = path.read_text("utf-8")
        for call in re.finditer(r"\b(\w+)\.from_pretrained\(([^()]*(?:\([^()]*\)[^()]*)*)\)", text):
            calls[f"{path.name}: {call[0]}"] = call
    autos = {name: call[2] for name, call in calls.items() if re.match(r"Auto|kind", call[1])}
    assert len(autos) >= 6
    for name, arguments in autos.items():
        assert "trust_remote_code=False" in arguments and re.search(r"local_files_only=True|\*\*file", arguments), name


# Templates of several makes


GEMMA = toy_llms.NO_SYSTEM
MISTRAL = (  # no system turn, and strict alternation
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
)
SILENT = "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"


@pytest.mark.parametrize("template", [GEMMA, MISTRAL, SILENT], ids=["Gemma", "Mistral", "silent"])
def test_templates_without_system_turns_still_tell_all(whole: dict[str, Path], tmp_path: Path, template: str) -> None:
    folder = shutil.copytree(whole["llama"], tmp_path / "llama")
    (folder / "chat_template.jinja").write_text(template, "utf-8")
    model = load_language_model(folder)
    conversation = Conversation().system("Be kind.").user("A fox.")
    for number in range(3):
        conversation = conversation.assistant([]).user(f"And {number}?")
    written = model.tokenizer.decode(model.prompts.for_reply(conversation, 4000).ids)
    places = [written.rfind(said) for said in ("Be kind.", "A fox.", "And 0?", "And 2?")]
    assert places == sorted(places) and places[0] > 0
    assert LanguageModelConfig.untrained().instructions[:40] in written
