"""The starter's language model in training, with a stand-in for its visual projection."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..language.visual_projection import VisualProjection
from .language_data import Batch

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

# With this scale, the stand-in's output is about as large as the embeddings of words.
STAND_IN_SCALE = 0.1
STAND_IN_NOISE = 0.15


class Learner(nn.Module):
    """The language model and the stand-in for its visual projection; called with a batch, it returns the loss.

    Args:
        model: The language model.
        words: The token for each species of the world.
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
            embeds = embeds.index_put((rows, columns), self.see(glimpses(species, len(self.words))).to(embeds.dtype))
        hidden = self.model.model(inputs_embeds=embeds, use_cache=False).last_hidden_state[:, :-1]
        targets, weights = batch.ids[:, 1:], batch.weights[:, 1:]
        counted = weights > 0
        logits = self.model.lm_head(hidden[counted])
        losses = functional.cross_entropy(logits.float(), targets[counted], reduction="none")
        return (losses * weights[counted]).sum() / weights.sum()


def glimpses(species: Tensor, kinds: int) -> Tensor:
    """Return noisy one-hot rows [N, kinds] for picture tokens [N], each of another strength."""
    clear = functional.one_hot(species, kinds).float()
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


def keep_features(learner: Learner, feature_layer: int) -> None:
    """Freeze all that the hidden states at `feature_layer`, counted from the end, depend on."""
    decoder = learner.model.model
    learner.requires_grad_(False)
    for module in (*decoder.layers[feature_layer + 1 :], decoder.norm):
        module.requires_grad_(True)
