"""The gate on reference latents in a stock MODEL: a patch of what it is given, and of its attentions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import comfy.model_base
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..m3adapter.diffusion.reference_gate import GatedKeys, ReferenceGate
from .reference_tokens import Counted, Family, Layout, Options, Scene, family_of

KEY = "m2chat_reference_gate"
ACTING = "m2chat_references_act"  # in the running step
LISTS = ("ref_latents", "ref_contexts", "siglip_feats")  # one item for each reference
METHOD = "ref_latents_method"
NATIVE = "attention_pytorch"  # the engine's attention by torch's own kernels

Conds = list[list[dict[str, Any]] | None]
Attention = Callable[..., Tensor]


def gate_references(model: ModelPatcher, gate: ReferenceGate) -> ModelPatcher:
    """Return the model with a gate on its references, or the same model if the gate changes nothing.

    Gates on one model multiply. References that count 0 times are taken away before the model sees them, and so are
    all of them outside the gate's part of the schedule.

    Raises:
        ValueError: The model is of no class that reads references.
    """
    check_model(model)
    if gate.neutral:
        return model
    patched = model.clone()
    options = patched.model_options["transformer_options"]
    before = options.get(KEY, ())
    options[KEY] = (*before, gate)
    if not before:
        patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, _without_removed)
        patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, _with_gate)
    return patched


def check_model(model: ModelPatcher) -> Family:
    """Return what is known of a model that reads references.

    Raises:
        ValueError: It reads none.
    """
    inner = model.model
    found = family_of(inner.diffusion_model)
    if found is None:
        if isinstance(inner, comfy.model_base.SDXL):
            raise ValueError("model is an SDXL model, which reads no reference latents: use Apply IP-Adapter.")
        raise ValueError(
            f"model is of the kind {type(inner).__name__}, whose references have no gate: connect an edit model such "
            "as FLUX.2, FLUX.1 Kontext or Qwen-Image-Edit."
        )
    params = getattr(inner.diffusion_model, "params", None)
    if getattr(inner, "concat_keys", ()) or (params and params.in_channels > params.out_channels):
        raise ValueError(
            "model is for inpainting or guided by a picture, and takes no reference latents: connect an edit model "
            "such as FLUX.2 or FLUX.1 Kontext."
        )
    return found


def check_count(model: ModelPatcher, count: int) -> None:
    """Raise ValueError if a model that reads references cannot take so many."""
    family = check_model(model)
    _check_count(family, model.model.diffusion_model, count)


def _check_count(family: Family, inner: Any, count: int) -> None:
    most = family.most(inner)
    if most is not None and count > most:
        raise ValueError(
            f"Gate References: {family.name} takes {most} references at most, and the conditioning has {count}: "
            "remove some."
        )


def _acting(gates: Sequence[ReferenceGate], inner: Any, sigmas: Tensor) -> bool:
    """Return whether the references act at a noise level, which is read once, and only if a gate asks for it.

    To read a number from an accelerator waits for all work that has been queued there.
    """
    limited = [gate for gate in gates if not gate.always]
    if not limited:
        return True
    now = sigmas.flatten()[0].cpu()  # stays a tensor: so the engine compares it with the limits of conditions
    for gate in limited:
        high, low = (inner.model_sampling.percent_to_sigma(at) for at in (gate.start, gate.end))
        if gate.start >= gate.end or bool(now > high) or bool(now < low):
            return False
    return True


def _copies(gates: Sequence[ReferenceGate], acting: bool) -> Callable[[int], float]:
    """Return how often a reference counts."""

    def copies(reference: int) -> float:
        return prod(gate.copies(reference) for gate in gates) if acting else 0.0

    return copies


def _without_removed(
    executor: Any, model: Any, conds: Conds, x_in: Tensor, timestep: Tensor, model_options: Options
) -> Any:
    """Take references that count 0 times out of the conditions, before the engine puts these into batches."""
    options = model_options["transformer_options"]
    acting = _acting(options[KEY], model, timestep)
    copies = _copies(options[KEY], acting)
    kept = [cond if cond is None else [_kept(part, copies) for part in cond] for cond in conds]
    known = {**model_options, "transformer_options": {**options, ACTING: acting}}
    return executor(model, kept, x_in, timestep, known)


def _kept(part: dict[str, Any], copies: Callable[[int], float]) -> dict[str, Any]:
    """Return a condition without the references that count 0 times."""
    found = part["model_conds"]
    if "ref_latents" not in found:
        return part
    counts = [copies(index) > 0 for index in range(len(found["ref_latents"].cond))]
    if all(counts):
        return part
    left = dict(found)
    for name in LISTS:
        if name in left:
            items = [each for index, each in enumerate(left[name].cond) if index >= len(counts) or counts[index]]
            left[name] = type(left[name])(items)
    if not any(counts):
        for name in (*LISTS, METHOD):
            left.pop(name, None)
    return {**part, "model_conds": left}


def _with_gate(
    executor: Any,
    x: Tensor,
    t: Tensor,
    c_concat: Tensor | None = None,
    c_crossattn: Tensor | None = None,
    control: Any = None,
    transformer_options: Options | None = None,
    **conds: Any,
) -> Tensor:
    """Call the model with the gate in its attentions, if it is given references."""
    options = transformer_options or {}
    references = conds.get("ref_latents")
    if not references:
        return executor(x, t, c_concat, c_crossattn, control, options, **conds)
    gates, inner = options[KEY], executor.class_obj
    model = inner.diffusion_model
    family = family_of(model)
    assert family is not None  # or it would not have got this patch
    _check_count(family, model, len(references))
    acting = options[ACTING] if ACTING in options else _acting(gates, inner, options["sigmas"])
    if not acting or any(not gate.strength for gate in gates):  # who calls the model by other ways than the sampler
        left = {name: each for name, each in conds.items() if name not in (*LISTS, METHOD)}
        return executor(x, t, c_concat, c_crossattn, control, options, **left)
    counted = _counted(gates, len(references))
    if all(each.copies == 1 and not each.masks for each in counted):  # as the model was trained, to the bit
        return executor(x, t, c_concat, c_crossattn, control, options, **conds)
    scene = Scene(
        model, x, 0 if c_crossattn is None else c_crossattn.shape[1], references,
        conds.get("ref_contexts") or (), conds.get("siglip_feats") or (),
        counted,
    )  # fmt: skip
    gated = GatedAttention(family.layout(scene, family.side(model)), options.get("optimized_attention_override"))
    options = {**options, "optimized_attention_override": gated}
    found = executor(x, t, c_concat, c_crossattn, control, options, **conds)
    if gated.asked and not gated.acted:
        cure = "add Edit Model Reference Method to the conditioning" if family.needs_method else "remove other patches"
        raise ValueError(f"Gate References: the model does not look at its references: {cure}.")
    return found


def _counted(gates: Sequence[ReferenceGate], count: int) -> list[Counted]:
    """Return how often each of the references counts that were not taken away."""
    copies, index = _copies(gates, True), 0
    found: list[Counted] = []
    while len(found) < count:
        if copies(index) > 0:
            masks = (gate.mask(index) for gate in gates)
            found.append(Counted(copies(index), tuple(mask for mask in masks if mask is not None)))
        index += 1
    return found


class GatedAttention:
    """Computes attentions as the engine does, or as an earlier override does, with the references gated.

    Attributes:
        asked: Whether there was an attention.
        acted: Whether one had keys of a reference.
    """

    def __init__(self, layout: Layout, before: Attention | None) -> None:
        self.layout, self.before = layout, before
        self.asked = self.acted = False

    def __call__(self, function: Attention, *args: Any, **named: Any) -> Tensor:
        """Return the attention, for arguments as the engine's attention functions take them."""
        names = ("q", "k", "v", "heads", "mask", "attn_precision", "skip_reshape", "skip_output_reshape")
        given = {**dict(zip(names, args, strict=False)), **named}
        query, key, value, heads = (given.pop(name) for name in names[:4])
        split = given.get("skip_reshape", False)
        keys = self.layout.keys(key.shape[2 if split else 1], given.get("transformer_options") or {})
        self.asked = True
        if keys is None:
            return self._attend(function, query, key, value, heads, **given)
        self.acted = True
        if (mask := given.get("mask")) is not None:
            return self._attend(function, query, key, value, heads, **{**given, "mask": keys.masked(mask, query)})
        if not split:
            width = query.shape[-1] // heads
            query, key, value = (each.unflatten(-1, (-1, width)).transpose(1, 2) for each in (query, key, value))
        found = self._gated(function, keys, query, key, value, heads, given)
        return found.unflatten(-1, (heads, -1)).transpose(1, 2) if given.get("skip_output_reshape") else found

    def _gated(
        self,
        function: Attention,
        keys: GatedKeys,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        heads: int,
        given: Options,
    ) -> Tensor:
        """Return the gated attention [B, Q, H · d] of queries, keys and values with heads apart [B, ., ., d]."""
        scale = given.get("scale")
        if self.before is None and function.__name__ == NATIVE:
            repeats = query.shape[1] // key.shape[1]
            if repeats > 1:
                key, value = (each.repeat_interleave(repeats, 1) for each in (key, value))
            if (found := keys.merged(query, key, value, scale)) is not None:
                return found.transpose(1, 2).flatten(2)
        if scale is not None:
            query = query * (scale * query.shape[-1] ** 0.5)
        how = {name: each for name, each in given.items() if name not in ("mask", "scale", "skip_output_reshape")}
        how["skip_reshape"] = True

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return self._attend(function, query, key, value, query.shape[1], **how)

        return keys.padded(query, key, value, attend, whole=self.before is not None)

    def _attend(self, function: Attention, *args: Any, **named: Any) -> Tensor:
        """Call the earlier override with the engine's function, or the function."""
        return self.before(function, *args, **named) if self.before else function(*args, **named)
