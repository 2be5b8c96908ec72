"""What tests of the gate on reference latents run in a ComfyUI process: see inside_comfy.py, which has set it up."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def apart(one: Tensor, other: Tensor) -> float:
    """Maximum absolute difference."""
    return float((one - other).abs().max())


def toys_paint() -> dict[str, Any]:
    """Encode a picture, sample with it as a reference and without one, and decode, with a toy of each family."""
    import toy_painters as toys

    found: dict[str, Any] = {}
    with torch.inference_mode():
        for family in toys.FAMILIES:
            toy = toys.painter(family)
            reference, latent = toy.vae.encode(torch.rand(1, 64, 64, 3)), toys.noise_like(toy)
            with_it, without = (
                toys.sample(toy.model, toys.prompt(toy, "a fox", seen), toys.prompt(toy, ""), latent=latent, cfg=2.0)
                for seen in ([reference], [])
            )
            picture = toy.vae.decode(with_it)
            found[family] = {
                "size": [*picture.shape[-3:]],
                "finite": bool(picture.isfinite().all()),
                "moved": apart(with_it, without),
                "latent": with_it.shape == latent.shape,
            }
    return found


METHODS = {  # that the engine can, whatever a model was trained for
    "flux_kontext": ("offset", "index", "uxo"),
    "flux2_klein": ("offset", "index", "index_timestep_zero"),
    "qwen_edit": ("offset", "index", "negative_index", "index_timestep_zero"),
    "krea2": ("index", "index_timestep_zero"),
}
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


class Bench:
    """A toy, prompts with references of unequal sizes and without them, and what it predicts or samples."""

    def __init__(self, family: str, **sizes: Any) -> None:
        from m2chat.m3adapter.diffusion.reference_gate import ReferenceGate
        from m2chat.nodes import reference_gate

        import toy_painters as toys

        self.toys, self.gate, self.patch = toys, ReferenceGate, reference_gate.gate_references
        self.toy = toys.painter(family, **sizes)
        # Beside references, Z-Image puts padding at another distance from the rest: these sizes need none.
        self.words = "a small red fox"
        self.latent = toys.noise_like(self.toy, 4, 8)
        self.references = [toys.noise_like(self.toy, 4, 4, seed=1), toys.noise_like(self.toy, 8, 2, seed=2)]

    def model(self, **gate: Any) -> Any:
        """The model with a gate."""
        return self.patch(self.toy.model, self.gate(**gate))

    def sample(self, model: Any, references: Any = None, **how: Any) -> Tensor:
        """Sample with references, by default both."""
        prompt, seen = self.toys.prompt, self.references if references is None else references
        more = {name: how.pop(name) for name in ("method", "seen_too", "control") if name in how}
        negative = prompt(self.toy, "a bad old picture", seen if more.pop("seen_too", True) else [], **more)
        given = {"latent": self.latent, "cfg": 2.0, "steps": 2, **how}
        return self.toys.sample(model, prompt(self.toy, self.words, seen, **more), negative, **given)


def mean(one: Tensor, other: Tensor) -> float:
    """Root of the mean square of the difference."""
    return float((one - other).square().mean().sqrt())


class Control:
    """A ControlNet that adds a half to the picture's tokens after the first block."""

    multigpu_clones: dict[Any, Any] = {}
    extra_hooks = previous_controlnet = None

    def get_control(self, *_: Any) -> dict[str, list[Tensor]]:
        """Return what to add."""
        return {"input": [torch.linspace(-1, 1, 32).expand(2, 8, 32)], "output": []}

    def get_models(self) -> list[Any]:
        """Return its models, of which it has none."""
        return []

    get_instance_for_device = get_extra_hooks = get_models

    def pre_run(self, *_: Any) -> None:
        """Get ready."""

    cleanup = pre_run

    def inference_memory_requirements(self, _: Any) -> int:
        """Return the bytes that it needs."""
        return 0


def gate_contract(family: str) -> dict[str, Any]:
    """What the gate does to what a toy samples in one step."""
    bench = Bench(family)
    plain = bench.toy.model

    def sample(model: Any, references: Any = None, cfg: float = 1.0) -> Tensor:
        return bench.sample(model, references, steps=1, cfg=cfg)

    with torch.inference_mode():
        stock, without, first = sample(plain), sample(plain, []), sample(plain, bench.references[:1])
        at = {s: sample(bench.model(strength=s)) for s in (*STRENGTHS, 1e-7, 0.999999)}
        scale = float(stock.std())
        zeros, ones = torch.zeros(3, 5), torch.ones(3, 5)
        found = {
            "moved": apart(stock, without),
            "one": apart(at[1.0], stock),
            "zero": apart(at[0.0], without),
            "zero in pairs": apart(sample(bench.model(strength=0.0), cfg=2.0), sample(plain, [], cfg=2.0)),
            "left out": apart(at[1e-7], without) / scale,
            "nearly one": apart(at[0.999999], stock) / scale,
            "from none": [mean(at[s], without) for s in STRENGTHS],
            "from stock": [mean(at[s], stock) for s in STRENGTHS],
            "second off": apart(sample(bench.model(weights=(1.0, 0.0))), first),
            "second masked": apart(sample(bench.model(masks=(None, zeros))), first),
            "all masked": apart(sample(bench.model(masks=(zeros, zeros))), without),
            "shown whole": apart(sample(bench.model(masks=(ones, ones))), stock),
            "weights": apart(sample(bench.model(weights=(0.5, 0.5))), at[0.5]),
            "untouched": apart(sample(plain), stock),
        }
    return found


def reference_keys(family: str) -> dict[str, Any]:
    """Change one reference at a time while nothing else looks at it, and compare the keys of all attentions.

    Returns how many keys changed that were not taken for the reference's, and how many attentions on all tokens there
    were in which another number of its keys changed than it has tokens of.
    """
    from unittest import mock

    from m2chat.nodes import reference_gate

    bench, found = Bench(family), {"wrong": 0, "missed": 0, "attentions": 0}
    attention = reference_gate.GatedAttention

    def noted(references: list[Tensor], weights: tuple[float, ...]) -> list[tuple[Tensor, Any, Any]]:
        seen: list[tuple[Tensor, Any, Any]] = []

        class Noting(attention):
            def _gated(self, function: Any, keys: Any, query: Tensor, key: Tensor, *rest: Any) -> Tensor:
                seen.append((key.clone(), keys, self.layout))
                return super()._gated(function, keys, query, key, *rest)

        with mock.patch.object(reference_gate, "GatedAttention", Noting):
            bench.sample(bench.model(weights=weights), references, steps=1, cfg=1.0)
        return seen

    with torch.inference_mode():
        for changed in (0, 1):
            weights = tuple(1e-7 if index == changed else 0.5 for index in (0, 1))
            others = [each + (index == changed) * 1.0 for index, each in enumerate(bench.references)]
            one, other = noted(bench.references, weights), noted(others, weights)
            most = max(key.shape[2] for key, *_ in one)
            for (key, keys, layout), (another, *_) in zip(one, other, strict=True):
                moved, own = (key - another).abs().amax((0, 1, 3)) > 1e-4, keys.keys.copies() < 1e-6
                found["wrong"] += int((moved & ~own).sum())
                found["missed"] += key.shape[2] == most and int((moved & own).sum()) != layout.lengths[changed]
                found["attentions"] += key.shape[2] == most
    return found


def reference_together(family: str) -> dict[str, Any]:
    """The gate with methods, batches, conditions, masks, windows and other patches."""
    from unittest import mock

    import node_helpers
    from comfy.ldm.modules import attention

    bench = Bench(family)
    toy, toys, found = bench.toy, bench.toys, {}
    half = torch.zeros(4, 4)
    half[:2] = 1
    with torch.inference_mode():
        stock, gated = bench.sample(toy.model), bench.sample(bench.model(strength=0.5))
        without = bench.sample(toy.model, [])
        found["acts"] = min(apart(gated, stock), apart(gated, without))
        for method in METHODS.get(family, ()):
            kept = bench.sample(bench.model(strength=1.0), method=method)
            there = bench.sample(toy.model, method=method)
            half_there = bench.sample(bench.model(strength=0.5), method=method)
            off = bench.sample(bench.model(strength=0.0), method=method)
            found[f"method {method}"] = [apart(kept, there), apart(off, without), apart(half_there, there)]
        # Conditions of unequal length, and one without references
        plain, mixed = bench.sample(toy.model, seen_too=False), bench.sample(bench.model(strength=0.5), seen_too=False)
        off = bench.sample(bench.model(strength=0.0), seen_too=False)
        found["one without"] = [apart(mixed, plain), apart(off, without)]
        two = toys.noise_like(toy, 4, 8, batch=2)
        found["batch"] = apart(bench.sample(bench.model(strength=0.5), latent=two)[:1], gated)
        # Two gates multiply
        twice = bench.patch(bench.model(strength=0.5), bench.gate(strength=0.5))
        found["twice"] = apart(bench.sample(twice), bench.sample(bench.model(strength=0.25)))
        # What a mask hides of a reference does not matter
        hidden = [each.clone() for each in bench.references]
        hidden[0][..., 2:, :] += 1.0
        masked = bench.model(masks=(half,))
        found["masked"] = [
            apart(bench.sample(masked, hidden), bench.sample(masked)),
            apart(bench.sample(masked), stock),
        ]
        # A window: as conditions with and without references, each for its part of the schedule
        steps = {"steps": 4, "cfg": 1.0}
        prompt = toys.prompt(toy, bench.words, bench.references)
        windows = [
            *node_helpers.conditioning_set_values(prompt, {"start_percent": 0.0, "end_percent": 0.5}),
            *node_helpers.conditioning_set_values(
                toys.prompt(toy, bench.words), {"start_percent": 0.51, "end_percent": 1.0}
            ),
        ]
        expected = toys.sample(toy.model, windows, latent=bench.latent, **steps)
        window = bench.sample(bench.model(end=0.5), **steps)
        found["window"] = [apart(window, expected), apart(window, bench.sample(toy.model, **steps))]
        sampling = toy.model.get_model_object("model_sampling")
        asked: list[float] = []

        def percent_to_sigma(percent: float, limit: Any = sampling.percent_to_sigma) -> Any:
            asked.append(percent)
            return limit(percent)

        with mock.patch.object(sampling, "percent_to_sigma", percent_to_sigma):
            bench.sample(bench.model(end=0.5, strength=0.5), seen_too=False, steps=3)
        found["limits asked"] = len(asked)
        found["never"] = apart(bench.sample(bench.model(start=0.7, end=0.2)), without)
        # On an override that was there, and under one that comes later
        calls: list[int] = []

        def override(function: Any, q: Tensor, k: Tensor, v: Tensor, *rest: Any, **named: Any) -> Tensor:
            calls.append(1)
            return function(q, k, v * 0.5, *rest, **named)

        def overridden(model: Any) -> Any:
            model = model.clone()
            model.model_options["transformer_options"]["optimized_attention_override"] = override
            return model

        under = bench.sample(bench.patch(overridden(toy.model), bench.gate(strength=0.5)))
        found["override"] = [
            apart(under, bench.sample(overridden(bench.model(strength=0.5)))), apart(under, gated),
            apart(under, bench.sample(overridden(toy.model))), float(len(calls) > 0),
        ]  # fmt: skip
        # Every attention function of the engine
        named = {"basic": attention.attention_basic, "split": attention.attention_split,
                 "sub_quad": attention.attention_sub_quad, "pytorch": attention.attention_pytorch}  # fmt: skip
        found["kernels"] = {}
        for name, chosen in named.items():
            model = toy.model.clone()
            model.model_options["transformer_options"]["optimized_attention_override"] = (
                lambda function, *args, chosen=chosen, **how: chosen.__wrapped__(*args, **how)
            )
            found["kernels"][name] = apart(bench.sample(bench.patch(model, bench.gate(strength=0.5))), gated)
        # LoRA, a ControlNet, and weights that do not all fit
        lora = toy.model.clone()
        for name, weight in toy.model.model.diffusion_model.named_parameters():
            if weight.dim() == 2:
                change = 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
                lora.add_patches({f"diffusion_model.{name}": ("diff", (change * weight.shape[1] ** -0.5,))})
        found["lora"] = apart(bench.sample(bench.patch(lora, bench.gate(strength=0.5))), gated)
        found["lora shut"] = apart(bench.sample(bench.patch(lora, bench.gate(strength=0.0))), bench.sample(lora, []))
        found["after lora"] = apart(bench.sample(toy.model), stock)
        if family in ("flux2_klein", "qwen_edit"):
            control = Control()
            found["control"] = [
                apart(bench.sample(bench.model(strength=0.5), control=control), gated),
                apart(
                    bench.sample(bench.model(strength=0.0), control=control),
                    bench.sample(toy.model, [], control=control),
                ),
            ]
        found["untouched"] = "m2chat_reference_gate" not in toy.model.model_options["transformer_options"]
    return found


def gate_memory() -> dict[str, Any]:
    """The most bytes that live while a model of FLUX's widths samples with a gate, of those of the stock model."""
    import comfy.ldm.flux.math as flux
    from comfy.ldm.modules import attention
    from m2chat.m3adapter.diffusion.reference_gate import ReferenceGate
    from m2chat.nodes.reference_gate import gate_references

    import toy_painters as toys
    from live_bytes import LiveBytes

    sizes = {"hidden_size": 512, "num_heads": 4, "mlp_ratio": 4.0, "depth": 1, "depth_single_blocks": 1}
    mask = torch.ones(8, 8)
    mask[:4, :4], mask[4:] = 0.5, 0
    found: dict[str, Any] = {}
    for family, axes, side in (("flux_kontext", [16, 56, 56], 48), ("flux2_klein", [32] * 4, 24)):
        toy = toys.painter(family, axes_dim=axes, **sizes)
        reference, latent = toys.noise_like(toy, side, side, seed=1), toys.noise_like(toy, side, side)
        prompt = toys.prompt(toy, "a fox " * 50, [reference])

        def most(model: Any, toy: Any = toy, prompt: Any = prompt, latent: Tensor = latent) -> tuple[int, Tensor]:
            with torch.inference_mode():
                toys.sample(toy.model, prompt, latent=latent, steps=1)  # loads it
                with LiveBytes() as live:
                    sampled = toys.sample(model, prompt, latent=latent, steps=1)
            return live.most, sampled

        for name, kernel, masks in (
            ("merged", attention.attention_pytorch, ()),
            ("padded", attention.attention_sub_quad, ()),
            ("masked", attention.attention_pytorch, (mask,)),
        ):
            flux.optimized_attention = kernel
            stock, plain = most(toy.model)
            gated, other = most(gate_references(toy.model, ReferenceGate(strength=0.5, masks=masks)))
            found[f"{family}, {name}"] = [gated / stock, apart(plain, other)]
    return found


def gate_streamed(family: str) -> dict[str, Any]:
    """What the gate paints with weights that are streamed, beside the same with all of them loaded.

    The device is the CPU by another name, which the engine takes for an accelerator with little memory.
    """
    from unittest import mock

    import comfy.model_management as management
    from comfy.model_patcher import ModelPatcherDynamic

    import toy_painters as toys

    bench, device = Bench(family), torch.device("cpu:0")
    plain, found = bench.toy.model, {}

    def sampled(model: Any) -> list[Tensor]:
        gates = [bench.gate(strength=strength) for strength in (0.0, 0.5, 1.0)]
        lora = model.clone()
        for name, weight in sorted(model.model.diffusion_model.named_parameters()):
            if weight.dim() == 2 and weight.numel():
                change = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
                lora.add_patches({f"diffusion_model.{name}": ("diff", (0.3 * weight.shape[1] ** -0.5 * change,))})
        models = (model,) if model.is_dynamic() else (model, lora)  # without its library, it has no LoRA
        return [bench.sample(bench.patch(each, gate), cfg=1.0) for each in models for gate in gates]

    def compared(name: str, model: Any) -> None:
        found[name] = [apart(one, other) for one, other in zip(loaded, sampled(model), strict=False)]

    def roomy(_: Any = None, torch_free_too: bool = False) -> Any:
        return (2**40, 0) if torch_free_too else 2**40  # of which the engine's attention makes chunks

    with torch.inference_mode():
        with mock.patch.object(management, "get_free_memory", roomy):
            loaded = sampled(plain)
        found["acts"] = [apart(loaded[index], loaded[index + 1]) for index in (0, 1, 3, 4)] + [
            apart(loaded[1], loaded[4])
        ]
        made = toys.painter(family).model.model  # the same weights, which no loading has touched
        room = plain.model_size() * 4 // 5

        def free(_: Any = None, torch_free_too: bool = False) -> Any:
            if torch_free_too:
                return roomy(torch_free_too=True)
            return room - made.model_loaded_weight_memory

        with (
            mock.patch.object(management, "vram_state", management.VRAMState.NORMAL_VRAM),
            mock.patch.object(management, "get_torch_device", lambda: device),
            mock.patch.object(management, "is_device_cpu", lambda other: other != device),
            mock.patch.object(management, "minimum_inference_memory", lambda: 0),
            mock.patch.object(management, "extra_reserved_memory", lambda: 0),
            mock.patch.object(management, "MIN_WEIGHT_MEMORY_RATIO", 1.0),
            mock.patch.object(management, "get_free_memory", free),
        ):
            streamed = type(plain)(made, load_device=device, offload_device=torch.device("cpu"))
            compared("streamed", streamed)
            found["part"] = made.model_loaded_weight_memory / plain.model_size()
        made = toys.painter(family).model.model
        import dynamic_vram  # noqa: F401 - it changes this process

        with mock.patch.object(management, "get_free_memory", roomy):
            compared("dynamic", ModelPatcherDynamic(made, load_device=device, offload_device=torch.device("cpu")))
    return found


def edit_parity() -> dict[str, Any]:
    """An edit model of the library in the engine, with the nodes' gate, and in the library with its own."""
    import comfy.latent_formats
    import comfy.sample
    import comfy.samplers
    from m2chat.m3adapter.diffusion import edit_model
    from m2chat.m3adapter.diffusion.reference_gate import ReferenceGate
    from m2chat.nodes.reference_gate import gate_references

    import toy_painters as toys

    ours = edit_model.build(8, 20, 12, width=128, double=1, single=2).eval().requires_grad_(False)
    toys.fill(ours, 3)
    model = toys.model(
        "flux_kontext", hidden_size=128, num_heads=2, axes_dim=[*edit_model.AXES], mlp_ratio=4.0, in_channels=8,
        out_channels=8, context_in_dim=20, vec_in_dim=12, guidance_embed=False, depth=1, depth_single_blocks=2,
    )  # fmt: skip
    weights = model.model.model_config.process_unet_state_dict(edit_model.published(ours))
    model.model.diffusion_model.load_state_dict(weights)
    model.model.latent_format = comfy.latent_formats.LatentFormat()
    model.model.latent_format.scale_factor, model.model.latent_format.latent_channels = 0.4, 8
    source = torch.Generator().manual_seed(1)
    embeds, pooled = torch.randn(2, 5, 20, generator=source), torch.randn(2, 12, generator=source)
    reference = torch.randn(1, 8, 8, 8, generator=source)
    empty = torch.zeros(2, 8, 8, 8)
    given = {"reference_latents": [reference]}
    positive = [[embeds, {"pooled_output": pooled, **given}]]
    negative = [[embeds * 0, {"pooled_output": pooled * 0, **given}]]
    times = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 4)
    noise = comfy.sample.prepare_noise(empty, 5)
    found: dict[str, Any] = {"schedule": apart(times, edit_model.schedule(4)), "apart": {}, "moved": []}
    before = None
    with torch.inference_mode():
        for strength in STRENGTHS:
            gate = ReferenceGate(strength=strength)
            engine = toys.sample(
                gate_references(model, gate), positive, negative, latent=empty, seed=5, steps=4, cfg=3.0
            )
            library = edit_model.paint(
                ours, embeds, pooled, reference.expand(2, -1, -1, -1) * 0.4, noise, gate=gate, times=times, guidance=3.0
            )
            found["apart"][str(strength)] = apart(engine, library / 0.4) / float(engine.std())
            found["moved"] += [] if before is None else [apart(engine, before)]
            before = engine
    return found


def reference_refusals() -> dict[str, Any]:
    """What is said of models without a gate on references, and of references that a model cannot take."""
    from types import SimpleNamespace

    from m2chat.m3adapter.diffusion.reference_gate import ReferenceGate
    from m2chat.m3adapter.weights.starter import STARTER
    from m2chat.nodes import stock_models
    from m2chat.nodes.reference_gate import gate_references

    import toy_painters as toys

    def said(run: Any) -> str:
        try:
            run()
        except ValueError as error:
            return str(error)
        return ""

    class WAN21:
        diffusion_model = torch.nn.Linear(1, 1)

    omni, krea, lumina = Bench("omnigen2"), Bench("krea2"), Bench("z_image")
    dozen = [toys.noise_like(omni.toy, 2, 2, seed=seed) for seed in range(12)]
    narrow = [toys.noise_like(lumina.toy, 25, 1, seed=1)]
    flux, none = Bench("flux_kontext"), toys.prompt(krea.toy, "a fox")
    ignored = [[none[0][0], {**none[0][1], "reference_latents": krea.references}]]
    half = ReferenceGate(0.5)
    with torch.inference_mode():
        return {
            "sdxl": said(lambda: gate_references(stock_models.model(STARTER / "decoder"), half)),
            "video": said(lambda: gate_references(SimpleNamespace(model=WAN21()), half)),
            "inpainting": said(lambda: gate_references(toys.model("flux_kontext", in_channels=96), half)),
            "twelve": said(lambda: omni.sample(omni.model(strength=0.5), dozen)),
            "narrow": said(lambda: lumina.sample(lumina.model(strength=0.5), narrow)),
            "ignored": said(
                lambda: toys.sample(krea.model(strength=0.5), ignored, none, latent=krea.latent, steps=1)
            ),
            "many": bool(flux.sample(flux.model(strength=0.5), dozen * 2).isfinite().all()),
            "tiny and narrow": bool(
                flux.sample(
                    flux.model(strength=0.5, masks=(torch.ones(1, 1), torch.ones(7, 9))),
                    [toys.noise_like(flux.toy, 1, 1), toys.noise_like(flux.toy, 1000, 1)],
                ).isfinite().all()
            ),
        }  # fmt: skip


def adaptive_gates() -> dict[str, Any]:
    """The adaptive gate by text encoders with pooled embeddings and without them, and by a language model."""
    from m2chat.nodes.adaptive_gate import AdaptiveGate
    from m2chat.nodes.gate_references import GateReferences
    from m2chat.nodes.loading import LoadStarter

    import toy_painters as toys

    class Unpooled(type(toys.clip())):  # type: ignore[misc]
        """As of FLUX.2 and Qwen-Image."""

        def encode_from_tokens(self, *given: Any, **how: Any) -> Any:
            states, _ = super().encode_from_tokens(*given, **how)
            return states, None

    pooled, bare = toys.clip(), toys.clip()
    bare.__class__ = Unpooled
    found: dict[str, Any] = {}
    with torch.inference_mode():
        starter = LoadStarter.execute().result
        for name, given in {
            "pooled": {"clip": pooled}, "bare": {"clip": bare}, "language model": {"language_model": starter[0]},
        }.items():  # fmt: skip
            found[name] = [
                AdaptiveGate.execute("a fox on the beach", caption, 0.8, {"rule": "adaptive"}, **given).result
                for caption in ("a fox in the forest", "a whale in the forest")
            ]
        bench = Bench("flux_kontext")
        (gated,) = GateReferences.execute(bench.toy.model, 0.5, 0.0, 1.0, "1, 0", torch.ones(1, 4, 4)).result
        (expected,) = (bench.sample(bench.model(strength=0.5), bench.references[:1]),)
        found["node"] = apart(bench.sample(gated), expected)
    return found


def adaptive_painter() -> dict[str, Any]:
    """Stock Painter with references of the same subject and of another one."""
    from m2chat.m3adapter.conversation.conversation import Conversation, Picture, ReferencePolicy, Slot
    from m2chat.m3adapter.painter import PaintRequest
    from m2chat.m3adapter.settings import TurnSettings
    from m2chat.nodes.running import LiveText

    import painter_inside
    import toy_painters as toys

    toy, events = toys.painter("flux_kontext"), []
    shown = torch.rand(3, 64, 64, 3, generator=torch.Generator().manual_seed(4))
    drawn = [Picture(text, pixels) for text, pixels in zip(("a fox on the beach", "a whale"), shown, strict=False)]
    told = Conversation().user("Look.", shown[2:]).assistant(drawn).user("Go on.")
    told = told.assistant([Picture("the fox at night")])
    with torch.inference_mode():
        plain, adaptive = (
            painter_inside.painter(*toy[1:], 64, references="reference latents", adaptive_gate=how)
            for how in ("off", "on")
        )

        def paint(painter: Any, weights: Any = (), on_event: Any = lambda _: None) -> Tensor:
            policy = ReferencePolicy("chosen", 3, (1, 2, 3), weights)
            asked = PaintRequest(told, Slot(3, 0), TurnSettings(gate=0.8, references=policy), 5)
            return painter.paint(asked, on_event=on_event)

        adapted = paint(adaptive, on_event=events.append)
        live = LiveText()
        for event in events:
            live.hear(event)
        return {
            "apart": apart(adapted, paint(plain, (1.0, 1.0, 0.0))),
            "acts": apart(adapted, paint(plain)),
            "notes": live.notes,
        }


_ALL = (
    toys_paint,
    gate_contract,
    reference_keys,
    reference_together,
    gate_memory,
    gate_streamed,
    edit_parity,
    reference_refusals,
    adaptive_gates,
    adaptive_painter,
)
SCENARIOS = {each.__name__: each for each in _ALL}
