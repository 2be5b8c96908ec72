"""What tests run inside a ComfyUI process, without its server, where they must reach what is inside.

Each line of its input is a scenario as JSON: [name, arguments, path of the result, path of the log]. It runs in a copy
of this process, since importing everything takes longer than most scenarios; the answer is a line that begins with
ENDED and ends with the exit code. Where a process cannot be copied, it runs one scenario and ends.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools import environment  # noqa: E402 (the repository must be on the path first)

sys.path.insert(0, str(environment.ENGINE))
sys.argv[1:] = ["--cpu"]

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import utils.extra_config  # noqa: E402, F401 (as ComfyUI's main.py does: later, the name may be somebody else's)

# isort: split
import comfy.model_management as management  # noqa: E402
import torch  # noqa: E402

MEGABYTE = 2**20
COPIED = sys.platform == "linux"  # elsewhere a copy may not use the system's libraries, or there is none
NAMES = ("language_model", "vision_encoder", "adapter", "decoder")


def pack() -> None:
    """Import the pack as ComfyUI does, under the name m2chat."""
    spec = importlib.util.spec_from_file_location(
        "m2chat", environment.REPO / "__init__.py", submodule_search_locations=[str(environment.REPO)]
    )
    sys.modules["m2chat"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def resident() -> float:
    """The memory that this process takes, in MB."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE


def alternate(*folders: str) -> dict[str, Any]:
    """Load two language models in turn, 20 times in all; each replies, and is dropped for the other."""
    from m2chat.m3adapter.conversation.conversation import Conversation
    from m2chat.m3adapter.language.auto import load_language_model
    from m2chat.m3adapter.language.sampling import Sampling
    from m2chat.m3adapter.stages import write_reply
    from m2chat.nodes import memory

    sizes, replies, managed = [], [], []
    for index in range(20):
        model = load_language_model(folders[index % 2])
        handle = memory.handle(model, model=model.model, projection=model.visual_projection)
        memory.make_ready(handle)
        asked = Conversation().user("A fox on the beach.")
        said = write_reply(model, None, asked, sampling=Sampling(max_length=16), seed=3)
        replies.append(repr(said.turns[-1]))
        del model, handle
        gc.collect()
        sizes.append(resident())
        management.cleanup_models_gc()
        managed.append(len(management.current_loaded_models))
    return {"sizes": sizes, "replies": replies, "managed": managed}


def budget(megabytes: str) -> dict[str, Any]:
    """Tell a story with unlimited memory, and with so many megabytes, on a fictitious device.

    The device is the CPU by another name, which ComfyUI takes for an accelerator here.
    """
    from m2chat.nodes import memory
    from m2chat.nodes.adapters import NewAdapter
    from m2chat.nodes.loading import LoadStarter

    device, room, seen = torch.device("cpu:0"), [2**40], []

    def loaded() -> int:
        return sum(each.model_loaded_memory() for each in management.current_loaded_models if each.device == device)

    def free(dev: Any = None, torch_free_too: bool = False) -> Any:
        left = room[0] - loaded()
        return (left, left) if torch_free_too else left

    load_models = management.load_models_gpu

    def load(patchers: list[Any], **how: Any) -> None:
        load_models(patchers, **how)
        (patcher,) = patchers
        seen.append(
            {
                "name": names[id(patcher)],
                "size": patcher.model_size() / MEGABYTE,
                "loaded": patcher.loaded_size() / MEGABYTE,
                "all": loaded() / MEGABYTE,
            }
        )

    management.vram_state = management.VRAMState.NORMAL_VRAM
    management.get_torch_device = lambda: device
    management.is_device_cpu = lambda other: other != device
    management.minimum_inference_memory = management.extra_reserved_memory = lambda: 0
    management.get_free_memory, management.load_models_gpu = free, load

    names: dict[int, str] = {}

    def tell(anchored: bool) -> list[torch.Tensor]:
        handles = dict(zip(NAMES, LoadStarter.execute().result[:4], strict=True))
        if anchored:
            fresh = {name: handles[name] for name in ("language_model", "vision_encoder", "decoder")}
            (handles["adapter"],) = NewAdapter.execute(**fresh, width=256, blocks=3, seed=0).result
        names.update({id(each.patcher): name for name, each in handles.items()})
        decoder = handles["decoder"]
        names.update({id(decoder.patcher): "unet", id(decoder.vae_patcher): "vae", id(decoder.text_patcher): "texts"})
        told = memory.assemble(**handles).story("A fox.", 2, steps=2, seed=1, gate=2.0)
        return [told.at(slot).image for slot in told.pictures()]

    with torch.inference_mode():
        plenty = [tell(False), tell(True)]
        everything = max(each["all"] for each in seen)
        management.unload_all_models()
        seen.clear()
        room[0] = int(megabytes) * MEGABYTE
        little = [tell(False), tell(True)]
    same = [torch.equal(one, other) for ones, others in zip(plenty, little, strict=True)
            for one, other in zip(ones, others, strict=True)]  # fmt: skip
    return {"same": same, "everything": everything, "seen": seen}


def announced(folder: str) -> dict[str, Any]:
    """Load a toy language model and the starter's decoder with enough memory, and with a kilobyte.

    Returns what was logged for each, with "loaded" where the weights have been read.
    """
    import folder_paths
    from m2chat.m3adapter.diffusion import auto as diffusion_loading
    from m2chat.m3adapter.language import auto as language_loading
    from m2chat.m3adapter.weights.starter import STARTER
    from m2chat.nodes import folders, memory
    from m2chat.nodes.diffusion_loading import LoadDecoder
    from m2chat.nodes.language_loading import LoadLanguageModel

    folders.register()
    folder_paths.add_model_folder_path("LLM", folder)
    folder_paths.add_model_folder_path("diffusers", str(STARTER))
    lines: list[str] = []
    memory.logger.addFilter(lambda record: bool(lines.append(record.getMessage())))

    def noted(load: Any) -> Any:
        def wrapper(*given: Any, **how: Any) -> Any:
            made = load(*given, **how)
            lines.append("loaded")
            return made

        return wrapper

    language_loading.load_language_model = noted(language_loading.load_language_model)
    diffusion_loading.load_decoder = noted(diffusion_loading.load_decoder)
    found: dict[str, list[list[str]]] = {}
    for name in ("plenty", "little"):
        if name == "little":
            management.get_free_memory = lambda *_: 1024
        found[name] = []
        for load in (
            lambda: LoadLanguageModel.execute("LLM/toy", "auto"),
            lambda: LoadDecoder.execute("diffusers/decoder", "fp32", "dpmpp_2m", False),
        ):
            lines.clear()
            load()
            found[name].append([*lines])
    return found


def choices() -> dict[str, Any]:
    """Paint with what ComfyUI's options choose, make previews by its methods, and compile a stock model."""
    import comfy.ldm.modules.attention as attention
    import comfy.sample
    from comfy.cli_args import args
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from m2chat.nodes import memory
    from m2chat.nodes.loading import LoadStarter
    from m2chat.nodes.stock import LoadStarterStock

    found: dict[str, Any] = {"previews": _previews()}
    handle = LoadStarter.execute().result[0]
    memory.make_ready(handle)
    handle.part.prefixes.put(b"key", [(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1))], ())
    found["remembered"] = [len(handle.part.prefixes)]
    management.unload_all_models()
    found["remembered"].append(len(handle.part.prefixes))
    calls = 0

    def counted(function: Any) -> Any:
        def attend(*given: Any, **how: Any) -> Any:
            nonlocal calls
            calls += 1
            return function(*given, **how)

        return attend

    def paint() -> Any:
        decoder = LoadStarter.execute().result[3].part
        condition = decoder.encode_text(["a fox on the beach"])
        flat = [layer.weight.is_contiguous() for layer in decoder.unet.modules() if isinstance(layer, torch.nn.Conv2d)]
        return decoder.decode(condition, seed=7, steps=2), not all(flat)

    def compare(expected: Any) -> dict[str, Any]:
        before = calls
        picture, _ = paint()
        return {"calls": calls - before, "apart": float((picture - expected).abs().max())}

    with torch.inference_mode():
        usual, plain = paint()
        attention.optimized_attention = counted(attention.attention_sub_quad)
        found["usual"] = compare(usual)
        args.use_split_cross_attention = True
        attention.optimized_attention = counted(attention.attention_split)
        found["split"] = compare(usual)
        attention.optimized_attention = counted(attention.attention_pytorch)
        found["sdpa"] = compare(usual)
        args.use_split_cross_attention, args.force_channels_last = False, True
        last, laid = paint()
        args.force_channels_last = False
        found |= {"channels_last": [plain, laid], "last_apart": float((last - usual).abs().max())}

        model = LoadStarterStock.execute().result[0]
        compiled = model.clone()
        graphs: list[Any] = []

        def backend(graph: Any, inputs: Any) -> Any:
            graphs.append(graph)
            return graph.forward

        parts = ["diffusion_model.time_embed", "diffusion_model.out"]  # tracing all of it takes half a minute
        set_torch_compile_wrapper(model=compiled, backend=backend, keys=parts)

        def sample(model: Any) -> Any:
            words = [[torch.ones(1, 32, 320) / 9, {"pooled_output": torch.ones(1, 192)}]]
            noise = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(1))
            sampler = [1, 1.0, "euler", "normal", words, words, torch.zeros_like(noise)]
            return comfy.sample.sample(model, noise, *sampler, seed=1)

        apart = float((sample(compiled) - sample(model)).abs().max())
        found["compiled"] = {"graphs": len(graphs), "apart": apart}
    return found


def _previews() -> dict[str, Any]:
    import comfy.taesd.taesd
    import folder_paths
    import server
    from comfy.cli_args import LatentPreviewMethod, args
    from m2chat.m3adapter.diffusion.preview import LatentRGB, Preview
    from m2chat.nodes.previews import Previews
    from safetensors.torch import save_file

    eight, nothing = LatentRGB(((0.1, 0.2, 0.3),) * 8), {"latents_mean": None}
    plain = Preview(torch.randn(1, 8, 16, 16), eight, nothing)
    four = torch.randn(1, 4, 8, 8)
    folder = Path(tempfile.mkdtemp())
    small = comfy.taesd.taesd.TAESD(None, None, latent_channels=4).taesd_decoder.state_dict()
    save_file(small, folder / "taesdxl_decoder.safetensors")
    folder_paths.folder_names_and_paths["vae_approx"] = ([str(folder)], {".safetensors"})

    def make(preview: Preview, method: str, client: str | None = "a", sockets: tuple[str, ...] = ("a",)) -> Any:
        args.preview_method = LatentPreviewMethod.from_string(method)
        server.PromptServer.instance = mock.Mock(client_id=client, sockets=dict.fromkeys(sockets))
        made = Previews().make(preview)
        return made and [made[0], list(made[1].size), made[2]]

    found = {
        "none": make(plain, "none"),
        "nobody": make(plain, "auto", client=None, sockets=()),
        "gone": make(plain, "auto", client="b"),
        "everybody": make(plain, "auto", client=None),
        "latent2rgb": make(plain, "latent2rgb"),
        "taesd": make(Preview(four, None, nothing), "taesd"),
        "sdxl": make(Preview(four, None, nothing), "auto"),
        "playground": make(Preview(four.half(), None, {"latents_mean": [0.0] * 4}), "auto"),
        "unknown": make(Preview(plain.latents, None, nothing), "auto"),
        "nan": make(Preview(plain.latents * torch.nan, eight, nothing), "auto"),
    }
    args.preview_method = LatentPreviewMethod.NoPreviews
    shutil.rmtree(folder)
    return found


def clip_vision(toy: str) -> dict[str, Any]:
    """Encode with stock vision models: one with the toy's weights, and others of different kinds."""
    import comfy.clip_vision
    from m2chat.m3adapter import stages
    from m2chat.m3adapter.adapter.vision_encoder import VisionEncoder, VisionFeatures
    from m2chat.nodes import memory
    from m2chat.nodes.clip_vision import VisionFromClipVision

    expected = VisionEncoder.from_pretrained(toy)
    for parameter in expected.model.parameters():  # ComfyUI keeps the stock model in half precision
        parameter.data = parameter.data.half().float()
    config = {**expected.model.config.to_dict(), "image_mean": expected.mean, "image_std": expected.std}

    # transformers 4 and 5 name the weights differently; the stock model has the names of 4
    prefix = "vision_model."
    weights = {prefix + name.removeprefix(prefix): value for name, value in expected.model.state_dict().items()}

    def handle(kind: str) -> memory.Handle:
        stock = comfy.clip_vision.ClipVisionModel({**config, "model_type": kind})
        for parameter in stock.model.parameters():  # stock layers come uninitialised
            parameter.data.normal_(std=0.1)
        if kind == "clip_vision_model":
            assert stock.load_sd(weights) == (["visual_projection.weight"], [])
        (made,) = VisionFromClipVision.execute(clip_vision=stock).result
        return made

    pictures = [torch.rand(size, 40, 3, generator=torch.Generator().manual_seed(size)) for size in (32, 50)]
    made = handle("clip_vision_model")

    def see(encoder: memory.Handle) -> VisionFeatures:
        memory.make_ready(encoder)
        return stages.see(encoder.part, pictures)

    with torch.inference_mode():
        seen, wanted = see(made), expected.encode(pictures)
        siglip = see(handle("siglip_vision_model"))
    naflex = {**config, "model_type": "siglip2_vision_model", "num_patches": 16}
    try:
        VisionFromClipVision.execute(clip_vision=comfy.clip_vision.ClipVisionModel(naflex))
        refusal = ""
    except ValueError as error:
        refusal = str(error)
    return {
        "levels": list(made.part.levels),
        "sizes": [made.part.hidden_size, made.part.image_size],
        "apart": [float((one - other).abs().max()) for one, other in
                  ((seen.levels, wanted.levels), (seen.pooled, wanted.pooled))],
        "scale": float(wanted.levels.std()),
        "siglip": [list(siglip.levels.shape), list(siglip.pooled.shape)],
        "managed": made.patcher in [each.model for each in management.current_loaded_models],
        "refusal": refusal,
    }  # fmt: skip


def clip_language(*makes: str) -> dict[str, Any]:
    """Write and read with stock text encoders of these families; and try one that cannot write."""
    from m2chat.nodes.adapters import NewAdapter
    from m2chat.nodes.clip_language import LanguageModelFromClip
    from m2chat.nodes.loading import LoadStarter
    from m2chat.nodes.stock import LoadStarterStock

    import stock_llms

    found: dict[str, Any] = {make: stock_llms.compared(make, LanguageModelFromClip) for make in makes}
    (handle,) = LanguageModelFromClip.execute(clip=stock_llms.clip("Qwen3")).result
    starter = dict(zip(NAMES, LoadStarter.execute().result[:4], strict=True)) | {"language_model": handle}
    fresh = {name: starter[name] for name in ("language_model", "vision_encoder", "decoder")}
    (starter["adapter"],) = NewAdapter.execute(**fresh, width=64, blocks=1, seed=0).result
    found["same"] = stock_llms.painted(starter)
    try:
        LanguageModelFromClip.execute(clip=LoadStarterStock.execute().result[1])
    except ValueError as error:
        found["refusal"] = str(error)
    return found


def clip_sight(*makes: str) -> dict[str, Any]:
    """Show pictures to stock text encoders of these families."""
    from m2chat.nodes.clip_language import LanguageModelFromClip

    import stock_vlms

    torch.set_num_threads(1)  # more only wait for each other, at such sizes
    return {make: stock_vlms.seen(make, LanguageModelFromClip) for make in makes}


def painters_words(captions: str, long: str) -> dict[str, Any]:
    """How the engine's tokenizer reads captions (a JSON list) as nodes give them, and what becomes of a long prompt."""
    import comfy.sd1_clip
    from m2chat.m3adapter.conversation.conversation import Conversation, Picture, Text
    from m2chat.nodes import memory, story_writing
    from m2chat.nodes.adapters import EncodeText
    from m2chat.nodes.adaptive_gate import AdaptiveGate
    from m2chat.nodes.loading import LoadStarter
    from m2chat.nodes.picture import EncodeSlot
    from m2chat.nodes.stock import LoadStarterStock

    starter = dict(zip(NAMES, LoadStarter.execute().result[:4], strict=True))
    parts = {name: starter[name] for name in NAMES[:3]}
    stock = comfy.sd1_clip.SDTokenizer(embedding_directory=[str(environment.REPO)])
    clip = LoadStarterStock.execute().result[1]
    story_writing.LiveText = mock.Mock(return_value=mock.Mock(ui={}))  # there is no server to show it
    read = []
    for caption in json.loads(captions):
        story = Conversation().user("Tell.").assistant([Text("x"), Picture(caption)])
        story_writing.write_story = lambda *_, story=story, **__: story
        written = story_writing.WriteStory.execute(parts["language_model"], "Tell.", 1, 0, 1).result
        encoded = EncodeSlot.execute(**parts, conversation=story, slot=0, references=0).result
        tokens = [pair for chunk in stock.tokenize_with_weights(encoded[1]) for pair in chunk]
        own = EncodeText.execute(starter["decoder"], encoded[1]).result[0]
        gates = AdaptiveGate.execute(caption, encoded[1], 1.0, {"rule": "off"}, clip=clip).result
        read.append(
            {
                "captions": [*written[1], encoded[1]],
                "kept": written[0].at(story.open_slots()[0]).caption,
                "ids": [token for token, _ in tokens if token not in (stock.start_token, stock.end_token)],
                "weights": sorted({weight for _, weight in tokens}),
                "words": stock.tokenizer(caption)["input_ids"][1:-1],
                "own": list(own.captions),
                "likeness": gates[1],
            }
        )
    memory.load_text_encoders(starter["decoder"])
    mine = starter["decoder"].part.encode_text([long], long[::-1])
    theirs, pooled = clip.encode_from_tokens(clip.tokenize(long), return_pooled=True)
    other, _ = clip.encode_from_tokens(clip.tokenize(long[::-1]), return_pooled=True)
    differences = [(mine.embeds, theirs), (mine.pooled, pooled), (mine.negative_embeds, other)]
    return {
        "read": read,
        "shapes": [list(one.shape) for pair in differences for one in pair],
        "difference": max(float((one.cpu() - two.cpu()).abs().max()) for one, two in differences),
    }


def early_end(premise: str) -> dict[str, Any]:
    """Tell and write stories of three panels that fail at the third; take a turn that does; and tell a long premise.

    Returns for each node its `ui` and the length of each of its lists, or its error; and what was logged.
    """
    from m2chat.m3adapter.conversation.conversation import Conversation
    from m2chat.m3adapter.conversation.segments import Picture, Text
    from m2chat.m3adapter.language.language_model import LanguageModel
    from m2chat.m3adapter.language.thoughts import ThoughtError
    from m2chat.nodes import running
    from m2chat.nodes.loading import LoadStarter
    from m2chat.nodes.picture import EncodeSlot
    from m2chat.nodes.reply import Reply
    from m2chat.nodes.story import TakeTurn, TellStory
    from m2chat.nodes.story_writing import WriteStory

    running.show_text = lambda text: None  # there is no server to show it
    running.PaintingProgress = mock.Mock()
    logged: list[str] = []
    running.logger.addFilter(lambda record: bool(logged.append(record.getMessage())))
    starter = dict(zip(NAMES, LoadStarter.execute().result[:4], strict=True))
    own, asked = LanguageModel.reply, []

    def reply(model: Any, conversation: Any, **how: Any) -> Any:
        asked.append(conversation)
        yield from own(model, conversation, **how)
        if len(asked) == failing:
            raise ThoughtError("The language model thought, and then said nothing: try another seed or model.")

    def ran(node: Any, *given: Any, **how: Any) -> dict[str, Any]:
        asked.clear()
        try:
            made = node.execute(*given, **how)
        except ValueError as error:
            return {"error": str(error)}
        return {"ui": made.ui, "lists": [len(each) for each in made.result if isinstance(each, list)]}

    paint = {"gate": 1.0, "seed": 1, "steps": 1, "guidance": 1.0}
    story = {**starter, "premise": "A fox on the beach.", "panels": 3, "max_length": 24, **paint}
    words = {"language_model": starter["language_model"], "seed": 1, "max_length": 24}
    found: dict[str, Any] = {}
    with mock.patch.object(LanguageModel, "reply", reply):
        for failing in (3, 1):
            found[f"told {failing}"] = ran(TellStory, **story)
            found[f"written {failing}"] = ran(WriteStory, **words, premise="A fox on the beach.", panels=3)
    long = Conversation().user(premise)
    found["turn"] = ran(TakeTurn, **starter, conversation=long, text="", **paint, max_length=24)
    found["reply"] = ran(Reply, starter["language_model"], long, 24, {"sampling_mode": "off"}, False)
    parts = [starter[name] for name in NAMES[:3]]
    replied = long.assistant([Text("It flies."), Picture("a fox with a kite")])
    found["slot"] = ran(EncodeSlot, *parts, replied, 0, 0)
    short = Conversation().user("A fox.").assistant(replied.turns[-1].segments)
    found["short slot"] = ran(EncodeSlot, *parts, short, 0, 0)
    found["story"] = ran(TellStory, **{**story, "premise": premise, "panels": 1})
    found["short"] = ran(TellStory, **{**story, "panels": 1})
    TellStory.SCHEMA = None
    with mock.patch.object(TellStory, "define_schema", side_effect=TellStory.define_schema) as built:
        found["wrong"] = ran(TellStory, **{**story, "premise": 5})
    return {**found, "logged": logged, "built": built.call_count}


def batches() -> dict[str, Any]:
    """Sweep gates in a memory that holds two pictures at once, and ask how many fit in memories of several sizes."""
    from m2chat.m3adapter.conversation.conversation import Conversation
    from m2chat.m3adapter.conversation.segments import Picture, Text
    from m2chat.m3adapter.diffusion.decoder import DiffusionDecoder
    from m2chat.nodes import batching, gate_sweep, running
    from m2chat.nodes.loading import LoadStarter
    from m2chat.nodes.picture import EncodeSlot
    from m2chat.nodes.story import TakeTurn

    bar = mock.Mock()
    gate_sweep.PaintingProgress = running.PaintingProgress = mock.Mock(return_value=bar)
    running.show_text = lambda text: None  # there is no server to show it
    starter = dict(zip(NAMES, LoadStarter.execute().result[:4], strict=True))
    told = Conversation().user("A fox.").assistant([Text("It flies."), Picture("a fox with a kite")])
    features = EncodeSlot.execute(*(starter[name] for name in NAMES[:3]), told, 0, 0).result[0]
    decode, tried = DiffusionDecoder.decode, []

    def cramped(decoder: Any, condition: Any, **how: Any) -> Any:
        tried.append(condition.batch)
        if condition.batch > fits:
            raise management.OOM_EXCEPTION("full")
        return decode(decoder, condition, **how)

    sweep = [starter["decoder"], "0, 1, 2", 1, 1, 2, 3.0, starter["adapter"], features]
    found, alone = {"tried": {}, "apart": {}}, None
    with mock.patch.object(DiffusionDecoder, "decode", cramped):
        for fits, size in ((9, 1), (9, 0), (1, 0)):
            tried.clear()
            images = gate_sweep.GateSweep.execute(*sweep, batch_size=size).result[1]
            alone = images if size else alone
            found["tried"][f"{fits} {size}"] = [*tried]
            found["apart"][f"{fits} {size}"] = float((images - alone).abs().max())
        found["bar"] = [call.args[0] for call in bar.update.call_args_list][-6:]
        tried.clear()
        fits, paint = 9, {"gate": 1.0, "seed": 1, "steps": 1, "guidance": 1.0}
        turn = TakeTurn.execute(**starter, conversation=told, text="", **paint, variants=3).result[0]
        found |= {"variants": [*tried], "versions": turn.versions(1, 1).count}
    sizes: dict[str, int] = {}
    with mock.patch.object(management, "get_torch_device", lambda: torch.device("cuda", 0)):
        for gigabytes in (0, 2, 3, 80):
            with mock.patch.object(management, "get_free_memory", lambda *_, free=gigabytes * 2**30: free):
                sizes[str(gigabytes)] = batching.batch_size(starter["decoder"], 1024, 1024)
    cpu = [batching.batch_size(starter["decoder"], side, side) for side in (0, 256, 1024)]
    return {**found, "sizes": sizes, "cpu": cpu}


def run(scenario: Callable[..., Any], arguments: list[str], result: Path, log: Path) -> int:
    """Run a scenario and return its exit code."""
    with log.open("w", encoding="utf-8", buffering=1) as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        try:
            result.write_text(json.dumps(scenario(*arguments)), "utf-8")
        except BaseException:
            traceback.print_exc()
            return 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
    return 0


def libraries() -> None:
    """Import what most scenarios need, once for all copies of this process: it takes longer than many of them."""
    for name in ("diffusers.StableDiffusionXLPipeline", "diffusers.UNet2DConditionModel", "diffusers.AutoencoderKL",
                 "transformers.AutoModelForCausalLM", "transformers.CLIPTextModelWithProjection",
                 "transformers.CLIPVisionModelWithProjection", "transformers.PreTrainedTokenizerFast"):  # fmt: skip
        library, _, attribute = name.partition(".")
        getattr(importlib.import_module(library), attribute)  # which imports the module that defines it


if __name__ == "__main__":
    pack()
    libraries()
    import ip_inside
    import painter_inside
    import reference_inside

    scenarios = {each.__name__: each for each in (alternate, announced, budget, clip_vision, clip_language)}
    scenarios["clip_sight"] = clip_sight
    scenarios |= {each.__name__: each for each in (painters_words, early_end, choices, batches)}
    scenarios |= ip_inside.SCENARIOS | painter_inside.SCENARIOS | reference_inside.SCENARIOS
    for line in sys.stdin:
        name, arguments, *paths = json.loads(line)
        child = os.fork() if COPIED else 0
        if not child:
            os._exit(run(scenarios[name], arguments, *map(Path, paths)))
        print("ENDED", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
