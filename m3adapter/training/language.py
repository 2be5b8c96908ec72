"""Trains the starter's language model on the storybook's stories.

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
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..language.config import LanguageModelConfig
from ..language.language_model import LanguageModel
from ..language.sampling import Sampling
from ..language.visual_projection import VisualProjection
from ..storybook.world import SPECIES
from . import options
from .language_check import check_replies, failures
from .language_data import Batch, Stories, story_texts, train_tokenizer
from .loop import Average, accelerator, add_options, autocast, begin, make_folder, train
from .muon import Muon

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

# With this scale, the stand-in's output is about as large as the embeddings of words.
STAND_IN_SCALE = 0.1
STAND_IN_NOISE = 0.15


class Learner(nn.Module):
    """The language model and the stand-in for its visual projection; called with a batch, it returns the loss.

    Args:
        model: The language model.
        words: The token for each of SPECIES.
    """

    words: Tensor

    def __init__(self, model: LlamaForCausalLM, words: list[int]) -> None:
        """Take the model and begin with an untrained norm."""
        super().__init__()
        self.model = model
        self.register_buffer("words", torch.tensor(words), persistent=False)
        self.norm = nn.LayerNorm(model.config.hidden_size)
        nn.init.constant_(self.norm.weight, STAND_IN_SCALE)

    def see(self, glimpses: Tensor) -> Tensor:
        """Return embeddings [..., hidden] of (noisy) one-hot rows [..., species].

        They are made of the embeddings of words: what the model can do with "fox" it can do with a picture of one.
        """
        return self.norm(glimpses @ self._word_embeddings())

    def _word_embeddings(self) -> Tensor:
        return self.model.model.embed_tokens.weight[self.words]

    @torch.no_grad()
    def stand_in(self) -> VisualProjection:
        """Return the present `see` in the form of the real visual projection."""
        projection = VisualProjection(len(self.words), self.norm.normalized_shape[0]).to(self.words.device)
        projection.linear.weight.copy_(self._word_embeddings().T)
        projection.linear.bias.zero_()
        projection.norm.load_state_dict(self.norm.state_dict())
        return projection

    def forward(self, batch: Batch) -> Tensor:
        """Return the weighted mean of the cross entropies of the next tokens."""
        embeds = self.model.model.embed_tokens(batch.ids)
        if len(batch.pictures):
            rows, columns, species = batch.pictures.T
            embeds = embeds.index_put((rows, columns), self.see(glimpses(species)).to(embeds.dtype))
        hidden = self.model.model(inputs_embeds=embeds, use_cache=False).last_hidden_state[:, :-1]
        targets, weights = batch.ids[:, 1:], batch.weights[:, 1:]
        counted = weights > 0
        logits = self.model.lm_head(hidden[counted])
        losses = functional.cross_entropy(logits.float(), targets[counted], reduction="none")
        return (losses * weights[counted]).sum() / weights.sum()


def glimpses(species: Tensor) -> Tensor:
    """Return noisy one-hot rows [N, species] for picture tokens [N], each of another strength."""
    clear = functional.one_hot(species, len(SPECIES)).float()
    strength = torch.empty(len(species), 1).uniform_(0.4, 1.2) * (torch.rand(len(species), 1) > 0.15)
    strength = strength.to(species.device)
    return clear * strength + STAND_IN_NOISE * torch.randn_like(clear)


def new_model(tokenizer: PreTrainedTokenizerBase, *, width: int, layers: int, heads: int) -> LlamaForCausalLM:
    """Build a small Llama with random weights.

    Args:
        tokenizer: Of the stories.
        width: Of the hidden states.
        layers: Number of layers.
        heads: Number of attention heads.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    # Small residual branches allow a high learning rate from the first step.
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers))
    return model


def main(argv: list[str] | None = None) -> None:
    """Run `python -m m3adapter train language`; see `--help`."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    parser = options.parser("language", __doc__)
    add_options(parser, steps=1800, batch=8, lr=5e-3)
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
    parser.add_argument("--vocabulary", type=options.whole(300, 10**6), default=2048)
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
    args = parser.parse_args(argv)
    if args.keep_features and not args.init:
        parser.error("--keep-features needs a language model whose features to keep: name it with --init")
    if args.grow and not args.init:
        parser.error("--grow needs a language model to add layers to: name it with --init")
    if args.width % (2 * args.heads):
        parser.error(f"--width is {args.width} but must be a multiple of twice the --heads, {2 * args.heads}")
    options.check_folders(args, "init")
    begin(args, "language", "language_model", "picture_stand_in.safetensors")
    tokens = args.init or args.output / "tokenizer"
    with accelerator().main_process_first():
        if not tokens.is_dir():
            make_folder(args)
            train_tokenizer(story_texts(args.tokenizer_stories, args.seed), args.vocabulary).save_pretrained(tokens)
    with options.opened("init" if args.init else "output", tokens):
        tokenizer = AutoTokenizer.from_pretrained(tokens, local_files_only=True, trust_remote_code=False)
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
    words = [tokenizer(" " + species)["input_ids"][0] for species in SPECIES]
    learner = Learner(model, words).to(device).train()
    if projection is not None:
        learner.norm.load_state_dict(projection.norm.state_dict())
    if args.keep_features:
        keep_features(learner, config.feature_layer)
    optimizer = Muon(learner.named_parameters(), lr=args.lr, plain=("embed", "lm_head"))
    average = Average(learner, decay=0.99)
    stories = Stories(tokenizer, args.batch, args.length)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(tokenizer)} tokens", flush=True)

    def step_loss(rng: random.Random, _: float) -> tuple[Tensor, dict[str, float]]:
        with autocast():
            return learner(stories.draw(rng).to(device)), {}

    def check() -> dict[str, float]:
        return report(learner, tokenizer, average, args.checks)

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
    ):
        average.write()
        save(learner, tokenizer, args, config, projection if args.keep_features else None)
        print(report(learner, tokenizer, average, 3 * args.checks, show=8))


def grow(model: LlamaForCausalLM, layers: int) -> None:
    """Add layers between the last one and the final norm; they change nothing until they are trained."""
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

    decoder = model.model
    for index in range(len(decoder.layers), len(decoder.layers) + layers):
        added = LlamaDecoderLayer(model.config, index).to(model.device)
        for name, parameter in added.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
        decoder.layers.append(added)
    model.config.num_hidden_layers += layers


def report(
    learner: Learner, tokenizer: PreTrainedTokenizerBase, average: Average, count: int, show: int = 2
) -> dict[str, float]:
    """Check how the averaged model answers held-out messages, and print some of its failures.

    Args:
        learner: The model in training.
        tokenizer: Its tokenizer.
        average: Of its parameters.
        count: Number of messages.
        show: Number of failures to print.

    Returns:
        The fractions of ReplyReport.
    """
    with average.applied():
        learner.eval()
        model = LanguageModel(learner.model, tokenizer, learner.stand_in(), LanguageModelConfig())
        with torch.no_grad():
            replies = check_replies(model, "validation", count, sampling=Sampling(do_sample=False))
        learner.train()
    print(*failures(replies, show), sep="\n", flush=True)
    return {name: getattr(replies, name) for name in ("parsed", "told", "complete", "followed")}


def keep_features(learner: Learner, feature_layer: int) -> None:
    """Freeze all that the hidden states at `feature_layer`, counted from the end, depend on."""
    decoder = learner.model.model
    learner.requires_grad_(False)
    for module in (*decoder.layers[feature_layer + 1 :], decoder.norm):
        module.requires_grad_(True)


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
