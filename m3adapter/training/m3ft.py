"""M3FT: trains the M³-Adapter in two stages that optimise disjoint groups of parameters.

Stage 1, image-text alignment: queries, image tokens, blocks, text fusion, heads. From the language model's hidden
states alone, the adapter learns to produce what the decoder's text encoders produce for the caption.

Stage 2, visual instruction: the low-level path, the gate, and the language model's visual projection. The semantic path
is frozen. What only the references show is put into words that the model never sees in use ("..., the fox is blue").
The text encoders' embedding of those words is the target, so the low-level path learns to tell the decoder what it has
seen. If a picture shows other characters, or if the caption names a new colour, the target contains nothing of the
reference, and the gate learns to stay closed.

Both stages end with denoising steps through the frozen decoder.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..adapter.auto import load_adapter, save_adapter
from ..adapter.config import M3AdapterConfig
from ..adapter.features import SlotFeatures
from ..adapter.m3_adapter import M3Adapter
from ..adapter.vision_encoder import VisionEncoder
from ..conversation.conversation import Conversation, Slot
from ..diffusion.condition import Condition
from ..diffusion.decoder import DiffusionDecoder
from ..language.auto import load_language_model
from ..language.language_model import LanguageModel
from ..storybook.dataset import Sample
from . import options
from .caches import SceneLatents, near
from .decoder import schedule_terms, v_loss
from .kept import digest, kept, world_digest
from .loop import (
    Average,
    StepLoss,
    accelerator,
    add_cache_options,
    add_options,
    autocast,
    begin,
    cache_folder,
    make_folder,
    train,
)
from .m3ft_alignment import Alignment, Target, by_length
from .m3ft_data import Pool, picture, pool
from .m3ft_visual import fit, stand_in
from .muon import Muon

# What an adapter to start from must have in common with one for these models.
OUTER = ("llm_width", "vision_width", "vision_levels", "embed_width", "pooled_width")
SETTLED = 0.15  # stage 1 of a new adapter: after this part its image tokens are frozen, and hidden states are cached
TEXT_DROPPED = 0.1  # stage 1: part of the samples whose text condition T is hidden
VISION_DROPPED = 0.1  # stage 2: part of the samples without references
EXCHANGED = 0.3  # stage 2: part of the samples with another sample's references
PARTIAL_STRENGTH = 0.3  # stage 2: part of the batches at a gate strength between 0 and 1
# Weights of the mean gate where references are useful and where they are not: a gate that is not needed stays closed.
GATE_COST, IDLE_GATE_COST = 0.01, 0.25
DENOISE_WEIGHT = 0.5
LATENTS = "latents.safetensors"  # in the folder of what is kept between runs
OPEN_SAMPLES = 512  # stage 2: number of samples on which the opening of the trained gate is measured


def mean_of(values: Tensor, chosen: Tensor) -> float:
    """Return the mean of the chosen values, or 0 if none is chosen."""
    return float((values.detach() * chosen).sum() / chosen.sum().clamp_min(1))


def denoising(decoder: DiffusionDecoder, condition: Condition, latents: Tensor) -> Tensor:
    """Return the decoder's loss on latents [B, C, h, w] under `condition`; only the condition gets a gradient."""
    latents = latents.to(condition.embeds.device, torch.float32)
    signal, noise_part = schedule_terms()
    return v_loss(decoder.unet, latents, condition.embeds, condition.pooled, signal, noise_part).mean()


def opening(adapter: M3Adapter, semantic: Tensor, features: SlotFeatures) -> float:
    """Return how far the learned gate opens: the constant gate that would pass as much of l, by its norm."""
    low = adapter.low_level(semantic, features)
    through = (adapter.learned_gate(semantic, low) * low).norm() / low.norm().clamp_min(1e-9)
    return float(through.clamp(1e-3, 1))


def group_of(adapter: M3Adapter, stage: int) -> dict[str, nn.Parameter]:
    """Return the parameters that a stage trains, and freeze all others.

    Raises:
        AssertionError: The two stages share a parameter or leave one out.
    """
    first, second = adapter.stage1_parameters(), adapter.stage2_parameters()
    assert not first.keys() & second.keys(), "the stages share parameters"
    assert first.keys() | second.keys() == dict(adapter.named_parameters()).keys(), "a parameter belongs to no stage"
    adapter.requires_grad_(False)
    group = first if stage == 1 else second
    for parameter in group.values():
        parameter.requires_grad_(True)
    return group


def run(
    args: argparse.Namespace,
    stage: int,
    adapter: M3Adapter,
    step_loss: StepLoss,
    latents: SceneLatents | None = None,
    measure: Callable[[], float] | None = None,
) -> None:
    """Train one stage; resumes from and writes the checkpoint of the stage.

    Args:
        args: Options.
        stage: 1 or 2.
        adapter: What is trained.
        step_loss: As `train` takes it.
        latents: What it uses, which is kept for the next run however this one ends.
        measure: Returns the trained adapter's `open_gate`.
    """
    group = group_of(adapter, stage)
    optimizer = Muon(group.items(), lr=args.lr, weight_decay=0.01, plain=("tokens", "queries", "pool_query", "vision_"))
    average = Average(adapter, 0.995)
    try:
        if not train(args, f"stage{stage}", adapter, optimizer, average, step_loss, warmup=50):
            return
    finally:
        if latents is not None and accelerator().is_main_process:
            latents.save()
    average.write()
    if measure:
        adapter.config = replace(adapter.config, open_gate=measure())
    save_adapter(args.output / f"adapter_stage{stage}.safetensors", adapter)


def stage1(args: argparse.Namespace, adapter: M3Adapter, language: LanguageModel, decoder: DiffusionDecoder) -> None:
    """Train image-text alignment."""
    data = pool(random.Random(args.seed + 1), args.samples, exchanges=(1, 1, 2), users_pictures=False, said=True)
    target = Target(decoder, [sample.caption for sample in data.samples[:512]], args.cache_mb)
    folder = cache_folder(args)
    alignment = Alignment(data, adapter, language, target, args.cache_mb, folder / "stage1_states.safetensors")
    latents = SceneLatents(decoder.pipeline, args.cache_mb, folder / LATENTS)

    def loss(rng: random.Random, progress: float) -> tuple[Tensor, dict[str, float]]:
        index = rng.sample(range(len(data.samples)), args.batch)
        settled = args.init is not None or progress >= SETTLED
        features, embeds, pooled = alignment.batch(index, settled=settled)
        hidden = (torch.rand(args.batch, 1) < TEXT_DROPPED).to(features.text_mask.device)
        with autocast():
            condition = adapter(replace(features, text_mask=features.text_mask & ~hidden))
        aligned = target.distance(condition, embeds, pooled)
        printed = {"align": aligned.item()}
        if progress < args.denoise_from:
            return aligned * args.align, printed
        part = condition.split()[: args.batch // 2]
        scenes = [data.samples[i].scene for i in index[: args.batch // 2]]
        painted = denoising(decoder, Condition.concatenate(part), latents(scenes, rng))
        return args.align * aligned + DENOISE_WEIGHT * painted, {**printed, "denoise": painted.item()}

    run(args, 1, adapter, loss, latents)


@torch.no_grad()
def semantic_features(
    data: Pool, adapter: M3Adapter, language: LanguageModel, encoder: VisionEncoder, rng: random.Random
) -> Tensor:
    """Return the h [samples, N, W] of the frozen semantic path; the language model sees the users' pictures."""

    def request(sample: Sample) -> tuple[Conversation, Slot, list[Tensor]]:
        pictures = [picture(scene, rng) for scene in sample.user_scenes]
        return sample.conversation, sample.slot, list(encoder.encode(pictures).pooled) if pictures else []

    def read(chosen: list[Sample]) -> list[Tensor]:
        with autocast():
            states = language.encode_slots([request(sample) for sample in chosen], adapter.image_tokens)
            return list(adapter.semantic(SlotFeatures.collate([(state, None) for state in states])).float().cpu())

    return torch.stack(by_length(data.samples, read))


def stage2(args: argparse.Namespace, adapter: M3Adapter, language: LanguageModel, decoder: DiffusionDecoder) -> None:
    """Train visual instruction."""
    rng = random.Random(args.seed + 2)
    data = pool(rng, args.samples, exchanges=(1, 2, 2, 3), drifting=True, hard=True)
    device = adapter.image_tokens.device
    encoder = VisionEncoder.from_pretrained(args.vision, device=device)
    target = Target(decoder, [sample.caption for sample in data.samples[:512]], args.cache_mb)
    folder = cache_folder(args)
    latents = SceneLatents(decoder.pipeline, args.cache_mb, folder / LATENTS)

    def prepare() -> dict[str, Tensor]:
        began = time.time()
        semantic = semantic_features(data, adapter, language, encoder, rng)
        vision, mask = data.vision(encoder, rng)
        print(f"prepared {len(data.samples)} samples in {time.time() - began:.0f} s", flush=True)
        return {"semantic": semantic, "vision": vision, "mask": mask}

    models = [language.model, language.visual_projection, encoder.model, *adapter.stage1_parameters().values()]
    key = digest(world_digest("storybook"), args.samples, args.seed, encoder.levels, *models)
    make_folder(args)
    with accelerator().main_process_first():
        prepared = kept(folder / "stage2_samples.safetensors", key, prepare)
    semantic, vision = (near(prepared[name], device, args.cache_mb) for name in ("semantic", "vision"))
    vision_mask = prepared["mask"]

    def loss(rng: random.Random, progress: float) -> tuple[Tensor, dict[str, float]]:
        index = rng.sample(range(len(data.samples)), args.batch)
        pairs = [data.exchanged(i, rng) if rng.random() < EXCHANGED else (data.samples[i], i) for i in index]
        chosen, seen = [sample for sample, _ in pairs], torch.tensor([other for _, other in pairs])
        mask = (vision_mask[seen] & (torch.rand(args.batch, 1) >= VISION_DROPPED)).to(device)
        h = semantic[torch.tensor(index, device=semantic.device)].to(device)
        some = mask.any(1)
        features = SlotFeatures(
            context=h, context_mask=some[:, None], text=h, text_mask=some[:, None],
            vision=vision[seen.to(vision.device)].to(device, torch.float32), vision_mask=mask, captions=(),
        )  # fmt: skip
        strength = rng.random() if rng.random() < PARTIAL_STRENGTH else 1.0
        with autocast():
            low = adapter.low_level(h, features)
            gate = adapter.learned_gate(h, low) if not args.no_gate else torch.ones_like(low)
            outputs = adapter.prompt_embeddings(h + strength * gate * low * some[:, None, None])
            with torch.no_grad():
                semantic_only = adapter.prompt_embeddings(h)
        condition = Condition(*outputs, None, None)  # type: ignore[arg-type]
        # The target of this path is only what the references add, so the gate has no other reason to open. At a
        # strength between 0 and 1 the target lies in between: the strength becomes the probability of a kept look.
        weight = strength * some.float()
        told_embeds, told_pooled = target.told(chosen)
        embeds = semantic_only[0] + weight[:, None, None] * told_embeds
        pooled = semantic_only[1] + weight[:, None] * told_pooled
        aligned = target.distance(condition, embeds, pooled)
        useful = torch.tensor([bool(sample.known) for sample in chosen], device=device)
        opened = gate.mean((1, 2)) * some
        cost = torch.where(useful, GATE_COST, IDLE_GATE_COST)
        printed = {
            "align": aligned.item(),
            "open": mean_of(opened, useful & some),
            "idle": mean_of(opened, ~useful & some),
        }
        total = args.align * aligned + (cost * opened).mean()
        if progress >= args.denoise_from and strength == 1.0:
            count = args.batch // 2
            part = Condition(condition.embeds[:count], condition.pooled[:count], None, None)  # type: ignore[arg-type]
            painted = denoising(decoder, part, latents([data.painted(s) for s in chosen[:count]], rng))
            total = total + DENOISE_WEIGHT * painted
            printed["denoise"] = painted.item()
        return total, printed

    @torch.no_grad()
    def measure() -> float:
        useful = [i for i, sample in enumerate(data.samples) if sample.known and vision_mask[i].any()][:OPEN_SAMPLES]
        opened = []
        for index in torch.tensor(useful).split(args.batch):
            h, mask = semantic[index.to(semantic.device)].to(device), vision_mask[index].to(device)
            features = SlotFeatures(
                context=h, context_mask=mask, text=h, text_mask=mask,
                vision=vision[index.to(vision.device)].to(device, torch.float32), vision_mask=mask, captions=(),
            )  # fmt: skip
            opened.append(opening(adapter, h, features))
        return round(sum(opened) / len(opened), 4)

    run(args, 2, adapter, loss, latents, None if args.no_gate else measure)


def main(argv: list[str] | None = None) -> None:
    """Run `python -m m3adapter train m3ft`; see `--help`."""
    parser = options.parser("m3ft", __doc__)
    add_options(parser, steps=1500, batch=32, lr=1e-3)
    add_cache_options(parser)
    parser.add_argument("--stage", type=int, choices=(1, 2), required=True)
    parser.add_argument("--init", type=Path, help="adapter to start from; stage 2 needs stage 1's")
    parser.add_argument("--language", type=Path, required=True, help="folder of the language model")
    parser.add_argument("--vision", type=Path, required=True, help="folder of the vision encoder")
    parser.add_argument("--decoder", type=Path, required=True, help="folder of the decoder")
    parser.add_argument(
        "--samples",
        type=options.whole(2, 10**7),
        default=6000,
        help="number of pictures of stories (default: %(default)s)",
    )
    parser.add_argument("--align", type=options.number(0), default=1.0, help="weight of the text alignment loss")
    parser.add_argument("--denoise-from", type=options.number(0, 1), default=0.7, help="when denoising begins (0..1)")
    parser.add_argument("--stand-in", type=Path, help="picture_stand_in.safetensors written by `train language`")
    parser.add_argument("--projection-steps", type=options.whole(0), default=300)
    parser.add_argument("--next-token-steps", type=options.whole(0), default=100)
    parser.add_argument("--no-gate", action="store_true", help="ablation: keep the gate at 1")
    args = parser.parse_args(argv)
    if args.stage == 2 and not args.init:
        parser.error("stage 2 needs the adapter of stage 1: name it with --init")
    if not 2 <= args.batch <= args.samples:
        parser.error(f"--batch is {args.batch}: give a number from 2 to that of the --samples, {args.samples}")
    options.check_folders(args, "language", "vision", "decoder")
    options.check_files(args, "init", "stand_in")
    results = [f"adapter_stage{args.stage}.safetensors", *["language_model"][: args.stage - 1]]
    begin(args, f"stage{args.stage}", *results)
    device = accelerator().device
    with options.opened("language", args.language):
        language = load_language_model(args.language, dtype=torch.float32, device=device)
    language.model.requires_grad_(False)
    with options.opened("decoder", args.decoder):
        decoder = DiffusionDecoder.from_pretrained(args.decoder, device=device)
    with options.opened("vision", args.vision):
        vision = VisionEncoder.from_pretrained(args.vision, device=device)
    fitting = M3AdapterConfig(
        llm_width=language.hidden_size,
        vision_width=vision.hidden_size,
        vision_levels=len(vision.levels),
        embed_width=decoder.unet.config.cross_attention_dim,
        pooled_width=decoder.text_encoder_2.config.projection_dim,
        num_tokens=decoder.pipeline.tokenizer.model_max_length,
    )
    if args.init:
        with options.opened("init", args.init):
            adapter = load_adapter(args.init)
            options.check_same(adapter.config, fitting, *OUTER)
    else:
        adapter = M3Adapter(fitting)
    adapter.to(device)
    print(f"{sum(p.numel() for p in adapter.parameters()) / 1e6:.1f} M parameters", flush=True)
    if args.stage == 1:
        stage1(args, adapter, language, decoder)
        return
    if language.visual_projection is not None:
        with options.opened("stand_in", args.stand_in):
            target = stand_in(args.stand_in) if args.stand_in else None
        fit(
            language,
            vision,
            target,
            steps=args.projection_steps,
            next_token_steps=args.next_token_steps,
            seed=args.seed,
        )
        if accelerator().is_main_process:
            make_folder(args)
            language.save_pretrained(args.output / "language_model")
    stage2(args, adapter, language, decoder)
