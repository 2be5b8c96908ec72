"""What tests of Stock Painter run in a ComfyUI process: see inside_comfy.py, which has set it up."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor

STEPS, CFG = 2, 3.0


def stock_graph(model: Any, clip: Any, vae: Any, caption: str, seed: int, side: int, **how: Any) -> Tensor:
    """What the stock nodes paint: CLIP Text Encode twice, an empty latent, KSampler and VAE Decode."""
    import nodes

    positive = how.get("positive") or nodes.CLIPTextEncode().encode(clip, caption)[0]
    negative = how.get("negative") or nodes.CLIPTextEncode().encode(clip, how.get("words", ""))[0]
    latent = how.get("latent") or nodes.EmptyLatentImage().generate(how.get("width", side), side)[0]
    sampled = nodes.KSampler().sample(
        model, seed, how.get("steps", STEPS), how.get("cfg", CFG), how.get("sampler", "euler"),
        how.get("scheduler", "simple"), positive, negative, latent, how.get("denoise", 1.0),
    )[0]  # fmt: skip
    return nodes.VAEDecode().decode(vae, sampled)[0][0]


def painter(model: Any, clip: Any, vae: Any, side: int, **how: Any) -> Any:
    """A Stock Painter with the same settings."""
    from m2chat.nodes.stock_painter import StockPainterNode

    given = {"steps": STEPS, "cfg": CFG, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    given |= {"width": side, "height": side, "negative": "", "references": "none"}
    return StockPainterNode.execute(model=model, clip=clip, vae=vae, **{**given, **how}).result[0]


def request(caption: str, seed: int, *, pictures: Any = (), **settings: Any) -> Any:
    """A request for a picture, after earlier ones."""
    from m2chat.m3adapter.conversation.conversation import Conversation, Picture, Slot
    from m2chat.m3adapter.painter import PaintRequest
    from m2chat.m3adapter.settings import TurnSettings

    told = Conversation().user("Tell me.", pictures).assistant([Picture(caption)])
    return PaintRequest(told, Slot(1, 0), TurnSettings(**settings), seed)


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def families() -> dict[str, float]:
    """How far Stock Painter is from the stock graph with a toy of every family, and with the starter."""
    from m2chat.nodes.stock import LoadStarterStock

    import toy_painters as toys

    caption = "a red fox on the beach"
    found = {}
    with torch.inference_mode():
        made = {family: toys.painter(family)[1:] for family in toys.FAMILIES}
        made["starter"] = LoadStarterStock.execute().result[:3]
        for family, parts in made.items():
            side = 128 if family == "starter" else 64
            painted = painter(*parts, side).paint(request(caption, 5))
            found[family] = apart(painted, stock_graph(*parts, caption, 5, side))
    return found


def settings() -> dict[str, Any]:
    """The same on the starter with other samplers, sizes, negatives, a LoRA, a ControlNet, a picture to start from."""
    from m2chat.nodes.stock import LoadStarterStock

    import nodes
    import toy_painters as toys

    caption, found = "a red fox (small) on the beach", {}
    with torch.inference_mode():
        parts = LoadStarterStock.execute().result[:3]
        model, clip, vae = parts
        name = next(key for key in model.model.state_dict() if key.endswith("attn2.to_q.weight"))
        shape = model.model.state_dict()[name].shape
        patched = model.clone()
        patched.add_patches({name: ("diff", (torch.randn(shape, generator=torch.Generator().manual_seed(1)),))})
        text = "a red fox \\(small\\) on the beach"

        def both(key: str, stock: dict[str, Any], ours: dict[str, Any], who: Any = model, **of: Any) -> None:
            painted = painter(who, clip, vae, 128, **ours).paint(request(caption, 5, **of))
            expected = stock_graph(who, clip, vae, text, 5, 128, **stock)
            found[key] = [apart(painted, expected), apart(expected, plain)]

        plain = stock_graph(*parts, text, 5, 128)
        both("ancestral", {"sampler": "euler_ancestral", "scheduler": "karras"},
             {"sampler_name": "euler_ancestral", "scheduler": "karras"})  # fmt: skip
        both("negative", {"words": "blurry"}, {"negative": "blurry"})
        both("negative of the turn", {"words": "dark"}, {"negative": "blurry"}, negative="dark")
        both("denoise", {"denoise": 0.5}, {"denoise": 0.5})
        both("steps of the turn", {"steps": 3, "cfg": 2.0}, {"steps": 0, "cfg": 0.0}, steps=3, guidance=2.0)
        start = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(2))
        encoded = nodes.VAEEncode().encode(vae, start)[0]
        both("picture", {"latent": encoded, "denoise": 0.6}, {"image": start, "denoise": 0.6})
        both("lora", {}, {}, who=patched)
        words, unwanted = (nodes.CLIPTextEncode().encode(clip, each)[0] for each in (text, "dull"))
        other = nodes.CLIPTextEncode().encode(clip, "something else")[0]
        hint = torch.ones(1, 128, 128, 3)
        apply = nodes.ControlNetApplyAdvanced().apply_controlnet
        control = toys.ToyControl()
        positive, negative = apply(words, unwanted, control, hint, 0.5, 0.0, 1.0)
        like, unlike = apply(other, unwanted, control, hint, 0.5, 0.0, 1.0)
        both("control", {"positive": positive, "negative": negative}, {"positive_like": like, "negative_like": unlike})
        size = painter(*parts, 128).paint(request(caption, 5, width=96, height=120))
        found["size"] = [apart(size, stock_graph(*parts, text, 5, 120, width=96)), list(size.shape)]
    return found


def told() -> dict[str, Any]:
    """Stories, turns and sheets: Stock Painter against the stock graph, the starter's painter against its parts."""
    import server
    from m2chat.m3adapter.conversation.conversation import Conversation, Picture
    from m2chat.m3adapter.conversation.seeds import story_seeds
    from m2chat.m3adapter.diffusion.prompt_syntax import escaped
    from m2chat.nodes.adapters import EncodeText
    from m2chat.nodes.gate_sweep import GateSweep
    from m2chat.nodes.loading import LoadStarter
    from m2chat.nodes.next_picture import NextPicture
    from m2chat.nodes.picture import EncodeSlot
    from m2chat.nodes.stock import LoadStarterStock
    from m2chat.nodes.story import TakeTurn, TellStory

    found: dict[str, Any] = {}
    nobody = SimpleNamespace(client_id=None, sockets={})
    with torch.inference_mode(), mock.patch.object(server.PromptServer, "instance", nobody, create=True):
        words, vision, adapter, decoder, starter = LoadStarter.execute().result
        parts = LoadStarterStock.execute().result[:3]
        stock = painter(*parts, 128)
        how = {"premise": "A fox on the beach.", "panels": 2, "gate": 1.0, "seed": 7, "steps": STEPS, "guidance": CFG}
        story, *_, captions, seeds, _, _ = TellStory.execute(language_model=words, decoder=stock, **how).result
        painted = [story.picture(slot).pixels for slot in story.slots()]
        expected = [
            stock_graph(*parts, escaped(caption), seed, 128) for caption, seed in zip(captions, seeds, strict=True)
        ]
        found["story"] = [apart(one, other) for one, other in zip(painted, expected, strict=True)]
        whole = {"vision_encoder": vision, "adapter": adapter, "decoder": decoder}
        four = TellStory.execute(language_model=words, **whole, **how).result[0]
        two = TellStory.execute(language_model=words, decoder=starter, **how).result[0]
        found["two wires"] = [four == two, four.turns[-1].text == story.turns[-1].text, len(story.slots())]

        open_again = story.without_picture(story.slots()[-1])
        caption, _, number, batch, pictures, weights, line, slot, left, count = NextPicture.execute(
            conversation=open_again, slot=0, seed=7
        ).result
        found["next"] = [caption == escaped(captions[-1]), number == seeds[-1], seeds == story_seeds(story, 7)]
        found["next"] += [[*batch.shape], len(pictures), weights, line, slot, left, count]
        turned, images, *_ = TakeTurn.execute(
            language_model=words, decoder=stock, conversation=open_again, text="", gate=1.0, seed=number,
            steps=STEPS, guidance=CFG, variants=2,
        ).result  # fmt: skip
        found["turn"] = [apart(images[0][0], expected[-1]), turned.versions(*story.slots()[-1]).count]

        first = Conversation().user("hi").assistant([Picture("a fox (red)")])
        lone = NextPicture.execute(conversation=first, slot=0, seed=3, style="ink").result
        found["first"] = [lone[0], lone[2], [*lone[3].shape], lone[5], lone[8]]
        sheet = {"gates": "0, 1", "seeds": 2, "seed": 3, "steps": STEPS, "guidance": CFG, "conversation": open_again}
        _, cells, alike = GateSweep.execute(decoder=stock, vision_encoder=vision, **sheet).result
        graph = [stock_graph(*parts, caption, seed, 128) for seed in (3, 3, 4, 4)]
        found["sheet"] = [apart(one, other) for one, other in zip(cells, graph, strict=True)]
        found["alike"] = [0 < each <= 1 for each in alike]
        features = EncodeSlot.execute(
            language_model=words, vision_encoder=vision, adapter=adapter, conversation=open_again, slot=0, references=2
        ).result[0]
        plain = {name: value for name, value in sheet.items() if name != "conversation"}
        before = GateSweep.execute(adapter=adapter, decoder=decoder, features=features, batch_size=1, **plain).result[1]
        now = GateSweep.execute(decoder=starter, language_model=words, batch_size=1, **sheet).result[1]
        found["starter sheet"] = torch.equal(before, now)

        def refusal(act: Any) -> str:
            try:
                act()
            except ValueError as error:
                return str(error)
            return ""

        turn = {
            "conversation": Conversation().user("hi"),
            "text": "",
            "gate": 1.0,
            "seed": 1,
            "steps": 1,
            "guidance": 1.0,
        }
        shown = Conversation().user("look", [torch.rand(32, 32, 3)])
        found["refusals"] = [
            refusal(lambda: TakeTurn.execute(language_model=words, decoder=decoder, **turn)),
            refusal(lambda: TakeTurn.execute(language_model=words, decoder=stock, **{**turn, "conversation": shown})),
            refusal(lambda: GateSweep.execute(decoder=stock, **plain)),
            refusal(lambda: GateSweep.execute(decoder=decoder, **sheet)),
            refusal(lambda: GateSweep.execute(decoder=starter, **sheet)),
            refusal(lambda: EncodeText.execute(decoder=stock, text="a fox")),
            refusal(lambda: TakeTurn.execute(language_model=words, decoder=stock, **turn, width=4)),
        ]
    return found


def misfits() -> dict[str, str]:
    """What Stock Painter says of parts that do not fit."""
    import comfy.latent_formats
    from m2chat.nodes.loading import LoadStarter
    from m2chat.nodes.stock import LoadStarterStock

    import toy_painters as toys

    found: dict[str, str] = {}
    with torch.inference_mode():
        model, clip, vae, vision = LoadStarterStock.execute().result
        _, encoder, adapter, *_ = LoadStarter.execute().result
        flux = toys.painter("flux_kontext")[1:]
        lumina = toys.painter("z_image")[1:]
        inpainting = model.clone()
        inner = SimpleNamespace(concat_keys=("mask",), model_config=model.model.model_config)
        inner.diffusion_model, inner.latent_format = model.model.diffusion_model, model.model.latent_format
        inpainting.model = inner
        video = flux[0].clone()
        video.get_model_object = lambda name: comfy.latent_formats.HunyuanVideo()
        wrong = {
            "inpainting": lambda: painter(inpainting, clip, vae, 128),
            "video": lambda: painter(video, *flux[1:], 64),
            "clip": lambda: painter(flux[0], clip, flux[2], 64),
            "clip of another": lambda: painter(model, flux[1], vae, 128),
            "vae": lambda: painter(model, clip, flux[2], 128),
            "no vae": lambda: painter(model, clip, None, 128),
            "no clip": lambda: painter(model, None, vae, 128),
            "pictures": lambda: painter(model, clip, vae, 128, image=torch.rand(2, 64, 64, 3)),
            "ip-adapter alone": lambda: painter(model, clip, vae, 128, clip_vision=vision),
            "adapter alone": lambda: painter(model, clip, vae, 128, adapter=adapter),
            "adapter of another": lambda: painter(*lumina, 64, adapter=adapter, vision_encoder=encoder),
            "references of SDXL": lambda: painter(model, clip, vae, 128, references="reference latents"),
            "references": lambda: painter(model, clip, vae, 128, references="all"),
            "sampler": lambda: painter(model, clip, vae, 128, sampler_name="none such"),
        }
        for name, act in wrong.items():
            try:
                act()
                found[name] = ""
            except ValueError as error:
                found[name] = str(error)
        edit = painter(*flux, 64, references="reference latents")
        for name, size in (("tiny", (1, 1)), ("narrow", (10, 8000))):
            asked = request("a fox", 1, pictures=[torch.rand(*size, 3)])
            try:
                edit.check(asked.settings, asked.conversation)
                found[name] = ""
            except ValueError as error:
                found[name] = str(error)
    return found | {"references of twelve": str(edit.max_references)}


def references() -> dict[str, Any]:
    """Earlier pictures as reference latents, and through an M3-Adapter, against the stock graphs."""
    import comfy.ops
    import node_helpers
    from diffusers import UNet2DConditionModel
    from m2chat.m3adapter.conversation.conversation import Conversation, Picture, ReferencePolicy, Slot
    from m2chat.m3adapter.diffusion.reference_gate import ReferenceGate
    from m2chat.m3adapter.ip_adapter.ip_adapter import load_ip_adapter
    from m2chat.m3adapter.painter import PaintRequest
    from m2chat.m3adapter.settings import TurnSettings
    from m2chat.m3adapter.weights.starter import STARTER
    from m2chat.nodes import memory
    from m2chat.nodes.ip_adapter import ApplyIPAdapter, IPAdapterReference
    from m2chat.nodes.loading import LoadStarter
    from m2chat.nodes.picture import EncodeSlot, FuseM3Adapter
    from m2chat.nodes.reference_gate import gate_references
    from m2chat.nodes.stock import LoadStarterStock, ToConditioning
    from m2chat.nodes.story import TakeTurn
    from safetensors.torch import save_file

    import nodes
    import toy_painters as toys
    import toys as library_toys

    caption, found = "a red fox", {}
    shown = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(4))
    told = Conversation().user("look", shown).assistant([Picture(caption)])
    with torch.inference_mode():
        toy = toys.painter("flux_kontext")
        parts = toy[1:]
        stock = painter(*parts, 64, references="reference latents")
        words, nothing = (nodes.CLIPTextEncode().encode(toy.clip, text)[0] for text in (caption, ""))
        latents = [toy.vae.encode(picture[None]) for picture in shown]
        given = {"reference_latents": latents}
        positive, negative = (
            node_helpers.conditioning_set_values(each, given, append=True) for each in (words, nothing)
        )
        plain = stock_graph(*parts, caption, 5, 64)
        for gate in (0.0, 0.5, 1.0):
            policy = ReferencePolicy(weights=(1.0, 0.5 if gate == 0.5 else 1.0))
            ask = PaintRequest(told, Slot(1, 0), TurnSettings(gate=gate, references=policy), 5)
            setting = ReferenceGate(gate, weights=(1.0, 0.5) if gate == 0.5 else ())
            model = gate_references(toy.model, setting)
            expected = stock_graph(model, toy.clip, toy.vae, caption, 5, 64, positive=positive, negative=negative)
            painted = stock.paint(ask)
            found[f"latents {gate}"] = [apart(painted, expected), apart(painted, plain)]

        starter = LoadStarterStock.execute().result
        writes, sees, adapter, decoder, _ = LoadStarter.execute().result
        with tempfile.TemporaryDirectory() as folder:
            unet = UNet2DConditionModel.from_pretrained(STARTER / "decoder" / "unet")
            save_file(library_toys.ip_adapter_weights(unet, "plus", image_width=192), Path(folder, "ip.safetensors"))
            weights = load_ip_adapter(Path(folder, "ip.safetensors"), operations=comfy.ops.manual_cast)
        ip_adapter = memory.handle(weights, streams=True, model=weights)
        looking = painter(*starter[:3], 128, ip_adapter=ip_adapter, clip_vision=starter[3])
        for gate in (0.0, 0.7):
            references = IPAdapterReference.execute(ip_adapter, starter[3], shown, 1.0).result[0]
            model = ApplyIPAdapter.execute(starter[0], references, gate, 0.0, 1.0, {"weight_type": "all"}).result[0]
            ask = PaintRequest(told, Slot(1, 0), TurnSettings(gate=gate), 5)
            expected = stock_graph(model, *starter[1:3], caption, 5, 128)
            painted, plain = looking.paint(ask), stock_graph(*starter[:3], caption, 5, 128)
            found[f"ip-adapter {gate}"] = [apart(painted, expected), apart(painted, plain)]
        through = painter(*starter[:3], 128, adapter=adapter, vision_encoder=sees)
        ask = {"gate": 1.0, "seed": 5, "steps": STEPS, "guidance": CFG}
        nobody = SimpleNamespace(client_id=None, sockets={})
        import server

        with mock.patch.object(server.PromptServer, "instance", nobody, create=True):
            turned = TakeTurn.execute(
                language_model=writes, vision_encoder=sees, decoder=through, conversation=told, text="", **ask
            ).result[0]
            features = EncodeSlot.execute(
                language_model=writes, vision_encoder=sees, adapter=adapter, conversation=told, slot=0, references=2
            ).result[0]
        condition = FuseM3Adapter.execute(
            adapter=adapter, features=features, gate=1.0, mode={"mode": "learned"}
        ).result[0]
        positive, negative = ToConditioning.execute(condition=condition, width=128, height=128).result
        expected = stock_graph(*starter[:3], caption, 5, 128, positive=positive, negative=negative)
        plain = stock_graph(*starter[:3], caption, 5, 128)
        painted = turned.picture(Slot(1, 0)).pixels
        found["m3"] = [apart(painted, expected), apart(painted, plain)]
    return found


def ahead() -> dict[str, Any]:
    """In what order a story's models are loaded, and what is told when its painting ends early."""
    import comfy.model_management as management
    from m2chat.m3adapter.conversation.conversation import Conversation, Picture
    from m2chat.m3adapter.events import Interrupted, OutOfMemory, PictureDone
    from m2chat.m3adapter.painter import Painter
    from m2chat.m3adapter.pipeline import M2Chat

    import toy_painters as toys

    captions = ["a red fox", "an owl in the snow", "a red fox and an owl", "a bear"]
    shown = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(4))
    told = Conversation().user("look", shown).assistant([Picture(caption) for caption in captions])
    toy = toys.painter("flux_kontext")
    names = {id(toy.clip.patcher): "clip", id(toy.vae.patcher): "vae", id(toy.model): "model"}
    loads: list[str] = []
    load = management.load_models_gpu

    def counted(models: Any, *given: Any, **how: Any) -> Any:
        for each in models:
            origin = getattr(each, "parent", None) or each
            name = (
                names.get(id(each)) or names.get(id(origin)) or ("model" if each.model is toy.model.model else "clip")
            )
            loads.append(name)
        return load(models, *given, **how)

    def tell(painter_: Any, **how: Any) -> Any:
        return M2Chat(None, painter=painter_).turn(told, seed=3, steps=STEPS, guidance=CFG, **how)

    def pixels(story: Any) -> list[Tensor]:
        return [story.picture(slot).pixels for slot in story.slots() if not story.picture(slot).is_open]

    found: dict[str, Any] = {}
    with torch.inference_mode():
        for name, how in (
            ("words", {}),
            ("latents", {"references": "reference latents"}),
            ("adaptive", {"references": "reference latents", "adaptive_gate": "on"}),
        ):
            made = painter(*toy[1:], 64, **how)
            with mock.patch.object(type(made), "read_ahead", Painter.read_ahead):
                before = pixels(tell(made, gate=0.7))
            made = painter(*toy[1:], 64, **how)  # another, which remembers nothing
            with mock.patch.object(management, "load_models_gpu", counted):
                loads.clear()
                after = pixels(tell(made, gate=0.7))
                order = [each for each in loads if each != "vae"]
            switches = sum(one != other for one, other in pairwise(order))
            encodes = loads[: loads.index("model")].count("vae")
            found[name] = [max(map(apart, before, after)), switches, encodes, len(made._kept._known)]

        made, done = painter(*toy[1:], 64), []
        try:
            tell(made, on_event=lambda event: done.append(event) if isinstance(event, PictureDone) else None,
                 should_stop=lambda: len(done) == 2)  # fmt: skip
        except Interrupted as stopped:
            found["stopped"] = len(pixels(stopped.conversation))
        original = toy.clip.encode_from_tokens_scheduled

        def fails(tokens: Any, *given: Any, **how: Any) -> Any:
            if "toy" in tokens and tokens == toy.clip.tokenize(captions[2]):
                raise torch.OutOfMemoryError("CUDA out of memory")
            return original(tokens, *given, **how)

        done.clear()
        with mock.patch.object(toy.clip, "encode_from_tokens_scheduled", fails):
            try:
                tell(made, on_event=lambda event: done.append(event) if isinstance(event, PictureDone) else None)
            except OutOfMemory as error:
                found["full"] = [len(done), str(error)]
        asked: list[str] = []  # four times for the slots, then for each caption before it is encoded
        with mock.patch.object(toy.clip, "encode_from_tokens_scheduled", wraps=original) as encodes:
            try:
                tell(made, should_stop=lambda: asked.append("") or len(asked) == 7)
            except Interrupted:
                found["stopped while it reads"] = encodes.call_count
    return found


def sight() -> dict[str, Any]:
    """Edit models whose text encoders see references too: Stock Painter against the graph with the engine's node."""
    from importlib import import_module

    import comfy.utils
    from m2chat.m3adapter.conversation.conversation import ReferencePolicy
    from m2chat.m3adapter.diffusion.reference_gate import ReferenceGate
    from m2chat.nodes import stock_sight
    from m2chat.nodes.reference_gate import gate_references
    from m2chat.nodes.stock import LoadStarterStock

    import toy_painters as toys

    caption, unwanted, found = "a red fox", "blurry", {}
    shown = torch.rand(2, 32, 48, 3, generator=torch.Generator().manual_seed(4))

    def both(node: Any, clip: Any, **how: Any) -> list[Any]:
        return [node.execute(clip=clip, prompt=text, **how).result[0] for text in (caption, unwanted)]

    def two(node: Any, clip: Any, **how: Any) -> list[Any]:
        return [*node.execute(clip=clip, prompt=caption, negative_prompt=unwanted, **how).result[:2]]

    def numbered(name: str) -> dict[str, Tensor]:
        return {name.format(number): picture[None] for number, picture in enumerate(shown, 1)}

    first = {"image": shown[:1]}
    plus, one = ("nodes_qwen", "TextEncodeQwenImageEditPlus"), ("nodes_qwen", "TextEncodeQwenImageEdit")
    cases: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "qwen_edit": (plus, both, numbered("image{}")),
        "qwen_edit first": (one, both, first),
        "qwen_edit_2511": (plus, both, numbered("image{}")),
        "longcat": (one, both, first),
        "boogu": (("nodes_boogu", "TextEncodeBooguEdit"), two, {"images": numbered("image_{}")}),
        "mage_flow": (("nodes_mage", "TextEncodeMageFlowEdit"), two,
                      {"images": numbered("image_{}"), "width": 64, "height": 64}),
        "joyimage": (("nodes_joyimage", "TextEncodeJoyImageEdit"), both, {"images": numbered("image{}")}),
        "z_image_omni": (("nodes_zimage", "TextEncodeZImageOmni"), both, numbered("image{}")),
    }  # fmt: skip
    # Toys need no pictures of a megapixel: references are scaled to one of 32 x 32 places, in either way.
    upscale = comfy.utils.common_upscale

    def small(samples: Tensor, width: int, height: int, *how: Any, **named: Any) -> Tensor:
        most = max(width, height)
        sides = (max(16, side * 64 // most // 16 * 16) for side in (width, height))
        return upscale(samples, *(sides if most > 128 else (width, height)), *how, **named)

    with torch.inference_mode(), mock.patch.object(comfy.utils, "common_upscale", small):
        for name, (where, call, how) in cases.items():
            toy = toys.painter(name.split()[0])
            node = getattr(import_module(f"comfy_extras.{where[0]}"), where[1])
            sees = "first reference" if name.endswith("first") else "references"
            made = painter(*toy[1:], 64, references="reference latents", negative=unwanted, text_encoder_sees=sees)
            plain = stock_graph(*toy[1:], caption, 5, 64, words=unwanted)
            positive, negative = call(node, toy.clip, vae=toy.vae, **how)
            apart_by_gate = []
            for gate in (0.0, 0.5, 1.0):
                model = gate_references(toy.model, ReferenceGate(gate)) if gate else toy.model
                expected = (
                    stock_graph(model, toy.clip, toy.vae, caption, 5, 64, positive=positive, negative=negative)
                    if gate
                    else plain
                )
                painted = made.paint(request(caption, 5, pictures=shown, gate=gate))
                apart_by_gate.append(apart(painted, expected))
            blind = painter(
                *toy[1:], 64, references="reference latents", negative=unwanted, text_encoder_sees="captions only"
            )
            asked = request(caption, 5, pictures=shown, gate=1.0)
            moved = apart(made.paint(asked), blind.paint(asked))
            nobody = request(caption, 5, pictures=shown, references=ReferencePolicy(weights=(0.0, 0.0)))
            found[name] = [*apart_by_gate, apart(made.paint(nobody), plain), moved]
        blind, toy = LoadStarterStock.execute().result[1], toys.clip()
        found["takes pictures"] = [stock_sight.takes_pictures(each) for each in (blind, toy)]
        toy.cond_stage_model.visual = torch.nn.LayerNorm(4)  # a vision tower, for which a file had no weights
        toy.cond_stage_model.visual.weight.zero_()
        found["takes pictures"].append(stock_sight.takes_pictures(toy))
    return found


def loop() -> dict[str, Any]:
    """A loop as newer engines have them, a conversation its carried value: it goes on while `left`, or for `open`."""
    from m2chat.m3adapter.conversation.conversation import Conversation, Picture
    from m2chat.m3adapter.conversation.seeds import story_seeds
    from m2chat.nodes.conversation import PlacePicture
    from m2chat.nodes.next_picture import NextPicture

    captions = ["a fox", "an owl", "a bear"]
    start = Conversation().user("Tell me.").assistant([Picture(caption) for caption in captions[:2]])
    start = start.user("And then?").assistant([Picture(captions[2])])

    def round_(carried: Any) -> tuple[Any, list[Any]]:
        given = NextPicture.execute(conversation=carried, slot=0, seed=7).result
        caption, _, seed, references, *_, slot, left, count = given
        image = torch.full((1, 8, 8, 3), (1 + captions.index(caption)) / 4)
        placed = PlacePicture.execute(conversation=carried, slot=slot, image=image, seed=seed).result[0]
        return placed, [caption, seed, float(references.mean()), left, count]

    carried, rounds = start, []
    while True:  # a simple loop ends behind the first round without `left`
        carried, said = round_(carried)
        rounds.append(said)
        if not said[3]:
            break
    counted = start
    for _ in range(NextPicture.execute(conversation=start, slot=0, seed=7).result[-1]):  # a loop of so many rounds
        counted, _ = round_(counted)
    try:
        round_(carried)
        after = ""
    except ValueError as error:
        after = str(error)
    seeds = [carried.picture(slot).seed for slot in carried.slots()]
    return {
        "rounds": rounds,
        "alike": counted == carried,
        "open": len(carried.open_slots()),
        "seeds": seeds == story_seeds(start, 7),
        "after": after,
    }


SCENARIOS = {
    f"painter_{each.__name__}": each for each in (families, settings, told, misfits, references, ahead, sight, loop)
}
