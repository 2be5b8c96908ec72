"""M3FT: trains the starter's M³-Adapter in two stages that optimise disjoint groups of parameters.

These are the options with which the starter was made; what trains is `m3ft_run.py`, as by any recipe. Stage 1 is
image-text alignment (`stage1.py`), stage 2 visual instruction (`stage2.py`). Only the starter's language model needs
one thing more: the projection by which it sees users' pictures (`m3ft_visual.py`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..adapter.config import M3AdapterConfig
from . import options
from .loop import accelerator, add_cache_options, add_options, begin, make_folder
from .m3ft_models import open_models
from .m3ft_run import run_recipe
from .m3ft_visual import Portrait, fit, stand_in
from .recipe import Data, Loss, Models, Recipe, Run, Stage
from .sources import PARTS
from .tales import open_tales
from .worlds import add_world_option


def recipe_of(args: argparse.Namespace) -> Recipe:
    """Return the recipe that the options say."""
    chosen = Stage(
        steps=args.steps,
        minutes=float(args.minutes),
        samples=args.samples,
        batch=args.batch,
        lr=args.lr,
        align=args.align,
        denoise_from=args.denoise_from,
        denoise_share=0.5,
        settled=0.15 if args.stage == 1 else 0.0,  # as in the recipe storybook
        gate=not args.no_gate,
    )
    none = Stage(steps=0)
    return Recipe(
        Models(
            str(args.language),
            str(args.vision),
            str(args.decoder),
            str(args.init or ""),
            anchor=False,
            width=M3AdapterConfig.width,
            blocks=M3AdapterConfig.num_blocks,
            language_dtype="float32",
            decoder_dtype="float32",
        ),
        Data(args.world, validation="", options={name: getattr(args, name) for name in PARTS if getattr(args, name)}),
        chosen if args.stage == 1 else none,
        chosen if args.stage == 2 else none,
        Loss(early=0.6),
        run=Run(str(args.output), str(args.cache or ""), args.seed, threads=args.threads),
    )


def portraits(world: str) -> Portrait:
    """Return what draws a picture of a species in a world."""
    if world == "picturebook":
        from ..picturebook.pictures import portrait_of

        return portrait_of
    from ..storybook.pool import portrait

    return portrait


def main(argv: list[str] | None = None) -> None:
    """Run `python -m m3adapter train m3ft`; see `--help`."""
    parser = options.parser("m3ft", __doc__)
    add_options(parser, steps=1500, batch=32, lr=1e-3)
    add_cache_options(parser)
    add_world_option(parser)
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
    parser.add_argument(
        "--retyped",
        type=options.number(0, 1),
        default=0.0,
        help="storybook: part of the captions as people type them (default: %(default)s)",
    )
    parser.add_argument(
        "--foreign",
        type=options.number(0, 1),
        default=0.0,
        help="storybook: part of the references to one character that are drawn in other styles (default: %(default)s)",
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
    recipe = recipe_of(args)
    models = open_models(recipe)
    print(f"{sum(p.numel() for p in models.adapter.parameters()) / 1e6:.1f} M parameters", flush=True)
    if args.stage == 2 and models.language.visual_projection is not None:
        portrait = portraits(args.world)
        with options.opened("stand_in", args.stand_in):
            target = stand_in(args.stand_in) if args.stand_in else None
        fit(
            models.language,
            models.vision,
            target,
            portrait,
            open_tales(args.world),
            steps=args.projection_steps,
            next_token_steps=args.next_token_steps,
            seed=args.seed,
        )
        if accelerator().is_main_process:
            make_folder(args)
            models.language.save_pretrained(args.output / "language_model")
    run_recipe(recipe, models=models)
