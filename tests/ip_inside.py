"""What tests of the IP-Adapter patch run inside a ComfyUI process: see inside_comfy.py, which has set it up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

import toys


def apart(one: Tensor, other: Tensor) -> float:
    """Maximum absolute difference."""
    return float((one - other).abs().max())


class Bench:
    """A toy SDXL in a folder, as a stock MODEL and as diffusers' UNet, with the same inputs for both."""

    def __init__(self, folder: str, side: int = 8) -> None:
        from diffusers import UNet2DConditionModel
        from m2chat.nodes import stock_models

        self.folder = Path(folder)
        self.unet = UNet2DConditionModel.from_pretrained(self.folder / "unet").eval()
        self.model = stock_models.model(self.folder)
        config, source = self.unet.config, toys.generator(5)
        pooled = config.projection_class_embeddings_input_dim - 6 * 256
        self.noisy = torch.randn(2, config.in_channels, side, side, generator=source)
        self.context = torch.randn(2, toys.TOKENS, config.cross_attention_dim, generator=source)
        self.pooled = torch.randn(2, pooled, generator=source)
        self.times, self.ids = torch.tensor([500, 500]), torch.tensor([[128.0, 128, 0, 0, 128, 128]] * 2)

    def adapter(self, kind: str, seed: int = 0) -> tuple[Any, dict[str, Any]]:
        """A random IP-Adapter, loaded by the pack from a file, and its weights as diffusers takes them."""
        import comfy.ops
        from m2chat.m3adapter.ip_adapter.ip_adapter import load_ip_adapter

        weights = toys.ip_adapter_weights(self.unet, kind, seed=seed)
        path = self.folder / f"{kind}{seed}.safetensors"
        save_file(weights, path)
        nested: dict[str, Any] = {"image_proj": {}, "ip_adapter": {}}
        for name, value in weights.items():
            part, _, rest = name.partition(".")
            nested[part][rest] = value
        return load_ip_adapter(path, operations=comfy.ops.manual_cast), nested

    def features(self, kind: str, seed: int = 9) -> Tensor:
        """What a vision encoder might return for no picture and for a picture [2, ...]."""
        shape = (2, toys.VISION_WIDTH) if kind == "base" else (2, 17, toys.VISION_WIDTH)
        found = torch.randn(*shape, generator=toys.generator(seed))
        return found if kind == "plus" else torch.cat([torch.zeros_like(found[:1]), found[1:]])

    def reference(self, adapter: Any, seed: int = 9, **how: Any) -> Any:
        from m2chat.m3adapter.ip_adapter.image_prompt import Reference

        negative, tokens = adapter.encode(self.features(adapter.config.kind, seed))
        return Reference(adapter, tokens, negative, **how)

    def patched(self, *references: Any, model: Any = None, **gate: Any) -> Any:
        from m2chat.m3adapter.ip_adapter.image_prompt import ImageGate, ImagePrompt
        from m2chat.nodes.attention_patch import apply

        return apply(model or self.model, ImagePrompt(references, ImageGate(**gate)))

    def stock(
        self,
        model: Any,
        sigma: float | Tensor = 3.0,
        conditions: tuple[int, ...] = (1, 0),
        kind: type[Tensor] = Tensor,
    ) -> Tensor:
        """The stock model's prediction for a batch of the unconditional and the conditional one."""
        sigmas = sigma if isinstance(sigma, Tensor) else torch.tensor([sigma, sigma])
        times = self.unet.add_time_proj(self.ids.flatten()).reshape(2, -1)
        options = {
            **model.model_options["transformer_options"],
            "cond_or_uncond": list(conditions),
            "sigmas": sigmas.as_subclass(kind),
        }
        y = torch.cat([self.pooled, times], 1)
        unet = model.model.diffusion_model
        return unet(self.noisy, self.times, self.context, y=y, transformer_options=options)

    def diffusers(self, nested: dict[str, Any], features: Tensor, strength: float) -> Tensor:
        """The prediction of diffusers' own IP-Adapter."""
        from diffusers import UNet2DConditionModel

        unet = UNet2DConditionModel.from_pretrained(self.folder / "unet").eval()
        unet._load_ip_adapter_weights([nested], low_cpu_mem_usage=False)
        for processor in unet.attn_processors.values():
            if hasattr(processor, "scale"):
                processor.scale = [strength]
        added = {"text_embeds": self.pooled, "time_ids": self.ids, "image_embeds": [features[:, None]]}
        return unet(self.noisy, self.times, self.context, added_cond_kwargs=added).sample


class Counted(Tensor):
    """A tensor that counts how often one of its values is read, which an accelerator would have to wait for."""

    reads = 0

    def __getitem__(self, index: Any) -> Tensor:
        Counted.reads += 1
        return self.as_subclass(Tensor)[index]


@torch.inference_mode()
def parity(folder: str) -> dict[str, Any]:
    """Our patch against diffusers' IP-Adapter, and against no patch where it is shut."""
    bench = Bench(folder)
    plain = bench.stock(bench.model)
    found: dict[str, Any] = {"apart": {}, "acts": {}, "same": {}}
    for kind in ("base", "plus"):
        adapter, nested = bench.adapter(kind)
        reference = bench.reference(adapter)
        for strength in (0.3, 1.0):
            ours = bench.stock(bench.patched(reference, strength=strength))
            found["apart"][f"{kind} {strength}"] = apart(ours, bench.diffusers(nested, bench.features(kind), strength))
            found["acts"][f"{kind} {strength}"] = apart(ours, plain)
        for name, gate in {
            "strength 0": {"strength": 0.0},
            "empty window": {"start": 0.5, "end": 0.5},
            "outside its window": {"start": 0.9},  # the noise is still high
            "all blocks 0": {"blocks": "down = 0"},
        }.items():
            ours = bench.stock(bench.patched(reference, **gate))
            found["same"][f"{kind} {name}"] = torch.equal(ours, plain)
    late = bench.patched(reference, start=0.5)  # of as many layers as there are cross-attentions
    noisy, clear = (bench.stock(late, sigma, kind=Counted) for sigma in (14.0, 0.1))
    found["reads"] = Counted.reads
    found["window"] = [torch.equal(noisy, plain), torch.equal(clear, plain)]
    sigmas = torch.tensor([14.0, 14.0])
    kept = [torch.equal(bench.stock(late, sigmas.fill_(sigma)), plain) for sigma in (14.0, 0.1, 14.0)]
    found["in place"] = kept
    found["plain"] = apart(plain, bench.unet(
        bench.noisy, bench.times, bench.context, added_cond_kwargs={"text_embeds": bench.pooled, "time_ids": bench.ids}
    ).sample)  # fmt: skip
    return found


def order(sdxl: str) -> dict[str, Any]:
    """The cross-attentions of SDXL itself, on the meta device, as the patch counts them and as diffusers does."""
    import comfy.ops
    import comfy.utils
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from diffusers import UNet2DConditionModel
    from m2chat.m3adapter.ip_adapter.image_prompt import place_of
    from m2chat.m3adapter.ip_adapter.ip_adapter import cross_attentions as published
    from m2chat.nodes import stock_models
    from m2chat.nodes.attention_patch import cross_attentions

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(sdxl))
    config = stock_models.unet_config(unet.config)
    stock = UNetModel(**config, num_heads=-1, device="meta", operations=comfy.ops.disable_weight_init)
    ours = cross_attentions(SimpleNamespace(model=SimpleNamespace(diffusion_model=stock)))
    names = comfy.utils.unet_to_diffusers(config)
    wrong = []
    for (name, width), ((way, number, inner), place, stock_width) in zip(published(unet).items(), ours, strict=True):
        key = names[f"{name}.to_k.weight"]
        wanted = f"{way}_block{'' if way == 'middle' else 's'}.{1 if way == 'middle' else number}."
        if (
            (place, stock_width) != (place_of(name), width)
            or not key.startswith(wanted)
            or (f".transformer_blocks.{inner}." not in key)
        ):
            wrong.append([name, key, way, number, inner, place])
    return {"wrong": wrong, "count": len(ours), "widths": [width for *_, width in ours],
            "places": list(dict.fromkeys(place for _, place, _ in ours))}  # fmt: skip


@torch.inference_mode()
def together(folder: str) -> dict[str, Any]:
    """Patches on patches, masks, LoRA, ControlNet, batches; and the model is left as it was."""
    bench = Bench(folder)
    base, plus = bench.adapter("base")[0], bench.adapter("plus")[0]
    one, other = bench.reference(base), bench.reference(plus, seed=10)
    plain = bench.stock(bench.model)
    first = bench.patched(one, strength=0.7)
    alone, both = bench.stock(first), bench.stock(bench.patched(other, model=first, strength=0.4))
    swapped = bench.patched(one, model=bench.patched(other, strength=0.4), strength=0.7)
    foreign = bench.model.clone()
    foreign.set_model_attn2_replace(lambda query, key, value, extra: 0.5 * query, "middle", 0)  # in the whole block
    foreign.set_model_attn2_replace(lambda query, key, value, extra: 0.2 * query, "output", 1, 0)
    found = {
        "second acts": apart(both, alone),
        "either order": apart(both, bench.stock(swapped)),
        "first is kept": torch.equal(bench.stock(first), alone),
        "theirs": apart(bench.stock(foreign), plain),
        "ours on theirs": apart(bench.stock(bench.patched(one, model=foreign)), bench.stock(foreign)),
        "theirs under ours": apart(bench.stock(bench.patched(one, model=foreign)), bench.stock(bench.patched(one))),
        "references": apart(bench.stock(bench.patched(one, bench.reference(base, seed=11))), alone),
        "twice the same": apart(bench.stock(bench.patched(one, one, strength=0.7)), alone),
        "blocks": apart(bench.stock(bench.patched(one, blocks="style")), bench.stock(bench.patched(one))),
        "only named blocks": apart(bench.stock(bench.patched(one, blocks="up.0.1 = 1")),
                                   bench.stock(bench.patched(one, blocks="style"))),
        **masks(bench, base, one, alone, plain),
        **sampled(bench, first),
        "refusals": refusals(bench, one),
        "unchanged": torch.equal(bench.stock(bench.model), plain),
        "no patch on the original": "patches_replace" not in bench.model.model_options["transformer_options"],
    }  # fmt: skip
    return found


def refusals(bench: Bench, reference: Any) -> list[str]:
    """The errors for models that are not SDXL base models, and for one of another size."""
    import comfy.model_base
    from m2chat.m3adapter.ip_adapter.image_prompt import Reference
    from m2chat.m3adapter.ip_adapter.ip_adapter import new_base
    from m2chat.nodes.memory import managed

    config = bench.model.model.model_config
    inpainting = comfy.model_base.SDXL(config)
    inpainting.set_inpaint()
    other = new_base(toys.VISION_WIDTH, bench.context.shape[-1], [32])
    said = []
    for model, one in (
        (managed(comfy.model_base.SDXLRefiner(config)), reference),
        (managed(inpainting), reference),
        (managed(comfy.model_base.BaseModel(config)), reference),
        (bench.model, Reference(other, reference.tokens, reference.negative)),
    ):
        try:
            bench.patched(one, model=model)
        except ValueError as error:
            said.append(str(error))
    return said


def masks(bench: Bench, adapter: Any, whole: Any, alone: Tensor, plain: Tensor) -> dict[str, Any]:
    """What masks do to one reference, in the prediction and in one layer."""
    from m2chat.m3adapter.ip_adapter.image_prompt import Reference

    def of(mask: Tensor, *more: Any) -> Tensor:
        return bench.stock(bench.patched(bench.reference(adapter, mask=mask), *more, strength=0.7))

    half = torch.zeros(64, 64)
    half[:, 32:] = 1
    reference = bench.reference(adapter, mask=half)
    patch = bench.patched(reference).model_options["transformer_options"]["patches_replace"]["attn2"]["middle", 0, 0]
    width = adapter.config.layer_widths[-1]
    query = torch.randn(2, 16, width, generator=toys.generator())
    extra = {"n_heads": width // 32, "attn_precision": None, "original_shape": [2, 4, 8, 8], "cond_or_uncond": [1, 0]}
    added = patch.looks[0](query, extra).unflatten(1, (4, 4))
    # After the last cross-attention every place is on its own, up to the model's last norm
    seen: list[Tensor] = []
    hook = bench.model.model.diffusion_model.out.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for model in (bench.model, bench.patched(reference, blocks="up.1.1 = 1")):
        bench.stock(model)
    hook.remove()
    change = seen[1] - seen[0]
    return {
        "zeros": apart(of(torch.zeros(9, 5)), plain),
        "ones": apart(of(torch.ones(9, 5)), alone),
        "zeros beside": apart(of(torch.zeros(9, 5), whole), alone),
        "half in a layer": [float(added[:, :, :2].abs().max()), float(added[:, :, 2:].abs().max())],
        "half in the model": [float(change[..., :4].abs().max()), float(change[..., 4:].abs().max())],
        "weight": apart(bench.stock(bench.patched(Reference(
            adapter, whole.tokens, whole.negative, weight=0.35))), bench.stock(bench.patched(whole, strength=0.35))),
    }  # fmt: skip


def sampled(bench: Bench, patched: Any) -> dict[str, Any]:
    """Whole samplings by ComfyUI: LoRA, ControlNet, unequal conditions, batches, two queues."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops
    import comfy.sample

    def condition(tokens: int, seed: int, **more: Any) -> list[list[Any]]:
        source = toys.generator(seed)
        embeds = torch.randn(1, tokens, bench.context.shape[-1], generator=source)
        return [[embeds, {"pooled_output": torch.randn(1, bench.pooled.shape[-1], generator=source), **more}]]

    def sample(model: Any, tokens: int = toys.TOKENS, batch: int = 1, **more: Any) -> Tensor:
        latent = torch.zeros(batch, 4, 8, 8)
        noise = torch.randn(1, 4, 8, 8, generator=toys.generator(2)).repeat(batch, 1, 1, 1)
        how = (3, 4.0, "euler", "normal", condition(toys.TOKENS, 3, **more), condition(tokens, 4, **more), latent)
        return comfy.sample.sample(model, noise, *how, seed=1)

    lora = patched.clone()
    weight = "diffusion_model.output_blocks.1.1.transformer_blocks.0.attn2.to_v.weight"
    lora.add_patches({weight: ("diff", (torch.ones_like(patched.get_model_object(weight)),))}, 0.5)
    config = {name: value for name, value in patched.model.model_config.unet_config.items() if name != "out_channels"}
    how = {"hint_channels": 3, "dtype": torch.float32, "device": "cpu", "operations": comfy.ops.manual_cast}
    net = comfy.cldm.cldm.ControlNet(**{**config, **how})
    for number, parameter in enumerate(net.parameters()):
        parameter.data = 0.05 * torch.randn(parameter.shape, generator=toys.generator(number))
    control = comfy.controlnet.ControlNet(net, load_device=torch.device("cpu"))
    control.set_cond_hint(torch.rand(1, 3, 64, 64, generator=toys.generator()), 1.0, (0.0, 1.0))

    plain, looked = sample(bench.model), sample(patched)
    return {
        "sampled": apart(plain, looked),
        "again": torch.equal(sample(patched), looked) and torch.equal(sample(bench.model), plain),
        "lora": apart(sample(lora), looked),
        "look under a lora": apart(sample(lora), sample(_with_lora(bench.model, lora))),
        "control": apart(sample(patched, control=control), looked),
        "look under control": apart(sample(patched, control=control), sample(bench.model, control=control)),
        # 31 tokens cannot be batched with 32, 64 can
        "unequal": [apart(sample(patched, tokens), sample(bench.model, tokens)) for tokens in (31, 64)],
        "batch": apart(sample(patched, batch=3), looked.repeat(3, 1, 1, 1)),
    }


def _with_lora(model: Any, other: Any) -> Any:
    """The model with the weight patches of another one."""
    model = model.clone()
    model.patches, model.patches_uuid = other.patches, other.patches_uuid
    return model


@torch.inference_mode()
def streamed(folder: str) -> dict[str, Any]:
    """Encode and sample with unlimited memory, and with a fraction of it, on a fictitious device."""
    import comfy.model_management as management
    import comfy.sample
    from m2chat.nodes import memory

    device, room = torch.device("cpu:0"), [2**40]

    def loaded() -> int:
        return sum(each.model_loaded_memory() for each in management.current_loaded_models if each.device == device)

    def free(dev: Any = None, torch_free_too: bool = False) -> Any:
        left = room[0] - loaded()
        return (left, left) if torch_free_too else left

    management.vram_state = management.VRAMState.NORMAL_VRAM
    management.get_torch_device = lambda: device
    management.is_device_cpu = lambda other: other != device
    management.minimum_inference_memory = management.extra_reserved_memory = lambda: 0
    management.get_free_memory = free
    bench = Bench(folder)
    adapter = bench.adapter("base")[0]
    handle = memory.handle(adapter, streams=True, model=adapter)

    def paint() -> tuple[Tensor, dict[str, list[int]]]:
        memory.load(handle.patcher, streams=True)
        sizes = {"adapter": [handle.patcher.loaded_size(), handle.patcher.model_size()]}
        patched = bench.patched(bench.reference(adapter))
        condition = [[bench.context[:1], {"pooled_output": bench.pooled[:1]}]]
        noise = torch.randn(1, 4, 8, 8, generator=toys.generator(2))
        how = (3, 4.0, "euler", "normal", condition, condition, torch.zeros(1, 4, 8, 8))
        image = comfy.sample.sample(patched, noise, *how, seed=1)
        return image, {**sizes, "model": [patched.loaded_size(), patched.model_size()]}

    plenty, whole = paint()
    management.unload_all_models()
    room[0] = handle.patcher.model_size() // 2
    little, part = paint()
    return {"apart": apart(plenty, little) / float(plenty.abs().max()), "whole": whole, "part": part}


SCENARIOS = {"ip_parity": parity, "ip_order": order, "ip_together": together, "ip_streamed": streamed}
