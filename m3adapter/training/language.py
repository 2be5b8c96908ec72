"""Trains the starter's language model on the stories of a world.

It learns from text alone. Where a user shows a picture, its four tokens carry a stand-in for vision features: the
embedding of the word for what the picture shows, normalised and with noise. So the language model learns what to do
with a picture before there is a vision encoder. Later, with the language model frozen, the real visual projection is
fitted to give for a picture of a fox what the stand-in gives for "fox". The stand-in is saved beside the checkpoint
(picture_stand_in.safetensors) as the target of that fit; the folder of the model gets an untrained projection of the
vision encoder's width instead.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..language.config import LanguageModelConfig
from ..language.language_model import LanguageModel
from ..language.sampling import Sampling
from ..language.visual_projection import VisualProjection
from . import options
from .language_check import check_replies, failures
from .language_data import Batch, Stories, story_texts, train_tokenizer
from .language_feeding import Steps, batches
from .language_learner import Learner, grow, keep_features, new_model
from .loop import Average, accelerator, add_options, autocast, begin, make_folder, train
from .marked_tokenizer import quieten
from .muon import Muon
from .tales import Tales, open_tales
from .worlds import add_world_option

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def main(argv: list[str] | None = None) -> None:
    """Run `python -m m3adapter train language`; see `--help`."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    parser = options.parser("language", __doc__)
    add_options(parser, steps=1800, batch=8, lr=5e-3)
    add_world_option(parser)
    parser.add_argument("--init", type=Path, help="folder of a language model to start from")
    parser.add_argument(
        "--keep-features",
        action="store_true",
        help="train only the layers after the one that the adapter reads, so that adapter and projection stay valid",
    )
    parser.add_argument(
        "--grow",
        type=options.whole(0, 1024),
        default=0,
        help="number of layers to add to the model of --init",
    )
    parser.add_argument("--length", type=options.whole(16), default=512, help="tokens in each row of a batch")
    parser.add_argument(
        "--tokenizer-stories",
        type=options.whole(1, 10**7),
        default=12000,
        help="stories to train the tokenizer on",
    )
    parser.add_argument(
        "--vocabulary",
        type=options.whole(300, 10**6),
        help="tokens of the tokenizer (default: 2048 for the storybook, 4096 for the picture book)",
    )
    parser.add_argument("--width", type=options.whole(1, options.WIDEST), default=256)
    parser.add_argument("--layers", type=options.whole(1, 1024), default=4)
    parser.add_argument("--heads", type=options.whole(1, 1024), default=4)
    parser.add_argument(
        "--vision-width",
        type=options.whole(1, options.WIDEST),
        default=192,
        help="width of the features of its vision encoder",
    )
    parser.add_argument("--check-every", type=options.whole(1), default=300, help="steps between two checks of replies")
    parser.add_argument(
        "--checks", type=options.whole(1, 10**6), default=40, help="replies per check; three times as many at the end"
    )
    parser.add_argument(
        "--workers",
        type=options.whole(0, 1024),
        default=0,
        help="number of processes that draw stories (default: none)",
    )
    args = parser.parse_args(argv)
    if args.keep_features and not args.init:
        parser.error("--keep-features needs a language model whose features to keep: name it with --init")
    if args.grow and not args.init:
        parser.error("--grow needs a language model to add layers to: name it with --init")
    if args.width % (2 * args.heads):
        parser.error(f"--width is {args.width} but must be a multiple of twice the --heads, {2 * args.heads}")
    options.check_folders(args, "init")
    tales = open_tales(args.world)
    begin(args, "language", "language_model", "picture_stand_in.safetensors")
    tokens = args.init or args.output / "tokenizer"
    with accelerator().main_process_first():
        if not tokens.is_dir():
            make_folder(args)
            texts = story_texts(args.tokenizer_stories, args.seed, tales)
            size = args.vocabulary or tales.vocabulary
            train_tokenizer(texts, size, marked=tales.marked).save_pretrained(tokens)
    with options.opened("init" if args.init else "output", tokens):
        tokenizer = AutoTokenizer.from_pretrained(tokens, local_files_only=True, trust_remote_code=False)
    if not tales.marked and tokenizer.backend_tokenizer.normalizer is None:
        quieten(tokenizer.backend_tokenizer)
    config, projection = LanguageModelConfig(), None
    if args.init:
        with options.opened("init", args.init):
            started = LanguageModel.from_pretrained(args.init, dtype=torch.float32)
            if not isinstance(started.model, LlamaForCausalLM):
                raise ValueError(f"it is a {started.model.config.model_type} model, but only llama is trained here")
        model, projection = started.model, started.visual_projection
        model.requires_grad_(True)
        grow(model, args.grow)
        # The layer that the adapter reads is counted from the end, and remains the same layer.
        config = replace(started.config, feature_layer=started.config.feature_layer - args.grow)
    else:
        model = new_model(tokenizer, width=args.width, layers=args.layers, heads=args.heads)
    device = accelerator().device
    words = [tokenizer(" " + species)["input_ids"][0] for species in tales.species]
    learner = Learner(model, words).to(device).train()
    if projection is not None:
        learner.norm.load_state_dict(projection.norm.state_dict())
    if args.keep_features:
        keep_features(learner, config.feature_layer)
    optimizer = Muon(learner.named_parameters(), lr=args.lr, plain=("embed", "lm_head"))
    average = Average(learner, decay=0.99)
    steps = Steps(
        Stories(tokenizer, args.batch, args.length, tales), "language", args.seed, accelerator().process_index
    )
    drawn: Iterator[Batch] = iter(())

    def begin_at(first: int) -> None:
        nonlocal drawn
        drawn = batches(steps, first, args.steps, args.workers)

    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(tokenizer)} tokens", flush=True)

    def step_loss(*_: Any) -> tuple[Tensor, dict[str, float]]:
        with autocast():
            return learner(next(drawn).to(device)), {}

    def check() -> dict[str, float]:
        return report(learner, tokenizer, average, args.checks, tales)

    if train(
        args,
        "language",
        learner,
        optimizer,
        average,
        step_loss,
        warmup=60,
        every=args.check_every,
        save_every=100,
        measure=check,
        started=begin_at,
    ):
        average.write()
        save(learner, tokenizer, args, config, projection if args.keep_features else None)
        print(report(learner, tokenizer, average, 3 * args.checks, tales, show=8))


def report(
    learner: Learner,
    tokenizer: PreTrainedTokenizerBase,
    average: Average,
    count: int,
    tales: Tales,
    show: int = 2,
) -> dict[str, float]:
    """Check how the averaged model answers held-out messages, and print some of its failures.

    Args:
        learner: The model in training.
        tokenizer: Its tokenizer.
        average: Of its parameters.
        count: Number of messages.
        tales: The stories that it learns.
        show: Number of failures to print.

    Returns:
        The fractions of ReplyReport.
    """
    with average.applied():
        learner.eval()
        model = LanguageModel(learner.model, tokenizer, learner.stand_in(), LanguageModelConfig())
        with torch.no_grad():
            replies = check_replies(model, "validation", count, sampling=Sampling(do_sample=False), tales=tales)
        learner.train()
    print(*failures(replies, show), sep="\n", flush=True)
    return {name: getattr(replies, name) for name in ("parsed", "told", "complete", "followed")}


def save(
    learner: Learner,
    tokenizer: PreTrainedTokenizerBase,
    args: argparse.Namespace,
    config: LanguageModelConfig,
    projection: VisualProjection | None = None,
) -> None:
    """Write the language model (bfloat16) and the stand-in to --output.

    Args:
        learner: What was trained.
        tokenizer: Of the language model.
        args: The options of the training.
        config: Of the language model.
        projection: The visual projection; an untrained one by default.
    """
    from safetensors.torch import save_file

    save_file(
        {name: value.contiguous() for name, value in learner.stand_in().state_dict().items()},
        args.output / "picture_stand_in.safetensors",
    )
    if projection is None:
        projection = VisualProjection(args.vision_width, learner.model.config.hidden_size)
        # The output of the projection should be as large as the input that the model was trained on.
        projection.norm.load_state_dict(learner.norm.state_dict())
    half = copy.deepcopy(learner.model).bfloat16()
    LanguageModel(half, tokenizer, projection, config).save_pretrained(args.output / "language_model")
