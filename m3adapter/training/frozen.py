"""What the frozen models say of samples, each thing computed once and kept in a store.

    latents      what a sample's picture is for the decoder                        by picture
    captions     what the decoder's text encoders make of a caption                by caption
    references   the vision encoder's features of a picture                        by picture
    shown        those that the language model receives of it                      by picture
    looks        its pooled features, by which pictures are found alike            by picture
    states       what the language model knows of a slot                           by words, and image tokens
    semantic     what the adapter's first stage makes of these states              by the same, and its weights

Each is computed for one item at a time, or in groups of one size, so that what is computed for a sample does not depend
on what else a step needs: a training has the same losses with full stores and with empty ones.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..adapter.features import SlotFeatures
from ..conversation.segments import Picture
from ..datasets.buckets import Bucket, assign, buckets, fit
from ..datasets.sample import Sample
from ..diffusion.latents import latent_means
from ..diffusion.text_encoding import is_long
from ..language.language_model import SlotStates
from .decoder_pictures import embed
from .diffusion_loss import Framing
from .models_at_work import Models
from .stores import Store, Values, fingerprint
from .words import word_losses

LONGEST = 2.0  # ratio of the sides of the longest pictures
GROUP = 8  # captions that are computed together, however many are needed
LONG = "A caption is longer than the decoder's text encoders read: its end teaches nothing."


@contextmanager
def silenced() -> Iterator[None]:
    """Let the libraries tell errors only inside a `with` block."""
    import diffusers
    import transformers

    talking = diffusers.utils.logging, transformers.utils.logging
    before = [each.get_verbosity() for each in talking]
    for each in talking:
        each.set_verbosity_error()
    try:
        yield
    finally:
        for each, verbosity in zip(talking, before, strict=True):
            each.set_verbosity(verbosity)


def spelling(tokenizer: Any) -> str:
    """Return how a tokenizer divides texts, as far as it tells."""
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is None:
        told: Any = sorted(getattr(tokenizer, "get_vocab", dict)().items())
    else:  # how it pads and cuts is set at every call
        told = {**json.loads(core.to_str()), "padding": None, "truncation": None}
    return f"{told} {getattr(tokenizer, 'model_max_length', 0)}"


class Frozen:
    """Asks the frozen models, and remembers what they said.

    Args:
        models: The models.
        folder: Where it is kept; None keeps it in memory for this run.
        resolution: Side in pixels of square pictures.
    """

    def __init__(self, models: Models, folder: Path | None, resolution: int) -> None:
        self.models, self.folder, self.resolution = models, folder, resolution
        decoder, language, vision = models.decoder, models.language, models.vision
        if decoder.vae.dtype != torch.float32:
            decoder.vae.to(torch.float32)  # in half precision, the latents of some are black or coarse
        halvings = len(decoder.unet.config.block_out_channels) - 1
        step = decoder.pipeline.vae_scale_factor * 2**halvings  # what the sides of pictures are multiples of
        self.sizes = buckets(max(resolution, step) ** 2, step, ratio=LONGEST)
        self._sizes: dict[tuple[int, int], Bucket] = {}
        self._vae = fingerprint(decoder.vae, dict(decoder.vae.config), self.sizes)
        pipeline = decoder.pipeline
        texts = [spelling(each) for each in (pipeline.tokenizer, pipeline.tokenizer_2)]
        self._texts = fingerprint(decoder.text_encoder, decoder.text_encoder_2, *texts)
        self._eyes = fingerprint(vision.model, vision.levels, vision.mean, vision.std)
        template = getattr(language.tokenizer, "chat_template", "")
        words = spelling(language.tokenizer)
        self._reader = fingerprint(language.model, language.visual_projection, language.config, template, words)
        self.latents, self.captions = self._store("latents", self._vae), self._store("captions", self._texts)
        self.references, self.pictures = self._store("references", self._eyes), self._store("pictures", self._eyes)
        self.looks, self.shown = self._store("looks", self._eyes), self._store("shown", self._eyes)
        self.states: Store | None = None
        self.semantics: Store | None = None
        self.notes: dict[str, int] = {}
        self._changing: Callable[[Sample], bool] = lambda sample: False

    def _store(self, name: str, made_by: str) -> Store:
        return Store(None if self.folder is None else self.folder / name, made_by)

    def identities(self) -> dict[str, str]:
        """Return a digest of each frozen model, by the field of a recipe that names it."""
        painted = fingerprint(self._texts, self._vae, self.models.decoder.unet)
        return {"models.language": self._reader, "models.vision": self._eyes, "models.decoder": painted}

    def settle(self) -> None:
        """Take note that the adapter's image tokens stay as they are: states can be kept from now on."""
        self.models.adapter.image_tokens.requires_grad_(False)
        tokens = fingerprint(self.models.adapter.image_tokens)
        self.states = self._store("states", fingerprint(self._reader, self._eyes, tokens, self._precision()))

    def freeze_semantic(self) -> None:
        """Take note that all that stage 1 trains stays as it is, so that the semantic feature can be kept too."""
        self.settle()
        first = self.models.adapter.stage1_parameters()
        made_by = fingerprint(self._reader, self._eyes, *(first[name] for name in sorted(first)), self._precision())
        self.semantics = self._store("semantic", made_by)

    def read_anew(self, changing: Callable[[Sample], bool]) -> None:
        """Take note of which samples the language model is learning to read: their states are never kept."""
        self._changing = changing

    def flush(self) -> None:
        """Write what is not on disk yet."""
        eyes = (self.references, self.pictures, self.looks, self.shown)
        for store in (self.latents, self.captions, *eyes, self.states, self.semantics):
            if store is not None:
                store.flush()

    def prepare(self, samples: Sequence[Sample], stage: int, *, denoises: bool = True) -> None:
        """Ask each model in turn for all that a stage needs of these samples, as far as that is known before it."""
        with self._progress("references") as told:
            pictures = [r.picture for s in samples for r in s.references[: self.models.adapter.config.references]]
            self.references.fill(((p.digest, p) for p in pictures * (stage == 2)), self._see, told=told)
        with self._progress("latents") as told:
            pictures = [sample.picture for sample in samples] if denoises else []
            self.latents.fill(((p.digest, p) for p in pictures), self._encode, told=told)
        captions = dict.fromkeys(text for sample in samples for text in self._meanings(sample))
        long = sum(is_long(self.models.decoder.pipeline, text) for text in captions)
        if long:
            self.notes[LONG] = long
        with self._progress("captions") as told:
            self.captions.fill(((fingerprint(text), text) for text in captions), self._embed, together=GROUP, told=told)
        with self._progress("pictures of users") as told:
            shown = [picture for sample in samples for picture in self._user_pictures(sample)]
            self.shown.fill(((p.digest, p) for p in shown), self._show, told=told)
        steady = [sample for sample in samples if not self._changing(sample)]
        if self.states is not None:
            with self._progress("states") as told:
                self.states.fill(((s.words_key, s) for s in steady), self._states, told=told)
        if self.semantics is not None:
            with self._progress("semantic features") as told:
                self.semantics.fill(((s.words_key, s) for s in steady), self._semantic, told=told)
        for note, count in self.notes.items():
            print(f"{note} ({count} times)", flush=True)

    # What the decoder is to paint

    def latents_of(self, pictures: Sequence[Picture]) -> tuple[list[Tensor], Framing]:
        """Return scaled latents [C, h, w] of each picture, in float32, and their framing."""
        self.latents.fill(((picture.digest, picture) for picture in pictures), self._encode)
        found = [self.latents[picture.digest] for picture in pictures]
        ids = torch.stack([values["time_ids"] for values in found])
        latents = [values["latents"].to(self.models.device, torch.float32) for values in found]
        return latents, Framing(ids[:, :2], ids[:, 2:4], ids[:, 4:])

    def size_of(self, size: tuple[int, int]) -> Bucket:
        """Return the size at which a picture of this width and height is learned from."""
        if size not in self._sizes:
            self._sizes[size] = assign(size, self.sizes)
        return self._sizes[size]

    def latent_shape(self, picture: Picture) -> tuple[int, int, int]:
        """Return the shape [C, h, w] of a picture's latents without reading it."""
        bucket = self.size_of(picture.size)
        factor = self.models.decoder.pipeline.vae_scale_factor
        return (self.models.decoder.unet.config.in_channels, bucket.height // factor, bucket.width // factor)

    @torch.no_grad()
    def _encode(self, pictures: list[Picture]) -> list[Values]:
        self.models.at_work("vae")
        made = []
        for picture in pictures:
            fitted = fit(picture.pixels, self.size_of(picture.size))
            image = fitted.pixels.permute(2, 0, 1)[None] * 2 - 1
            latents = latent_means(self.models.decoder.vae, image)[0].bfloat16()
            made.append({"latents": latents, "time_ids": torch.tensor(fitted.time_ids)})
        return made

    # What captions mean for the decoder

    def embeddings_of(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return embeddings [B, N, D] and pooled ones [B, P] of captions."""
        self.captions.fill(((fingerprint(caption), caption) for caption in captions), self._embed, together=GROUP)
        found = [self.captions[fingerprint(caption)] for caption in captions]
        device = self.models.device
        embeds, pooled = (torch.stack([values[name] for values in found]).to(device) for name in ("embeds", "pooled"))
        return embeds.float(), pooled.float()

    def _meanings(self, sample: Sample) -> Sequence[str]:
        """Return all words of a sample that the decoder's text encoders are asked about, each once."""
        own = (sample.caption,) if self.models.adapter.config.anchor else ()  # where its adapter begins
        return tuple(dict.fromkeys((*own, sample.meaning, sample.whole_caption)))

    def _embed(self, captions: list[str]) -> list[Values]:
        self.models.at_work("texts")
        pipeline = self.models.decoder.pipeline
        filled = [*captions, *[captions[-1]] * (GROUP - len(captions))]
        with silenced():  # it would say so for each
            embeds, pooled = embed(pipeline, filled)
        return [{"embeds": embeds[row], "pooled": pooled[row]} for row in range(len(captions))]

    # What references look like

    def references_of(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return features [B, R, L, P, D] of the samples' references, their mask [B, R], and weights [B, R] or None.

        Each has at most as many references as the adapter takes.
        """
        most = self.models.adapter.config.references
        shown = [sample.references[:most] for sample in samples]
        pictures = [reference.picture for references in shown for reference in references]
        self.references.fill(((picture.digest, picture) for picture in pictures), self._see)
        widest = max(map(len, shown), default=0)
        mask = torch.zeros(len(samples), widest, dtype=torch.bool)
        weights = torch.ones(len(samples), widest)
        features: Tensor | None = None
        for row, references in enumerate(shown):
            for column, (picture, weight) in enumerate(references):
                levels = self.references[picture.digest]["levels"]
                if features is None:
                    features = torch.zeros(len(samples), widest, *levels.shape, dtype=levels.dtype)
                features[row, column], mask[row, column], weights[row, column] = levels, True, weight
        if features is None:
            config = self.models.adapter.config
            features = torch.zeros(len(samples), 0, config.vision_levels, 1, config.vision_width)
        device = self.models.device
        weighted = None if bool((weights == 1).all()) else weights.to(device)
        return features.to(device, torch.float32), mask.to(device), weighted

    def _see(self, pictures: list[Picture]) -> list[Values]:
        self.models.at_work("vision")
        with torch.no_grad():
            levels = self.models.vision.encode([picture.pixels for picture in pictures]).levels.bfloat16()
        return [{"levels": value} for value in levels]

    def looks_of(self, pictures: Sequence[Picture]) -> Tensor:
        """Return the vision encoder's pooled features [N, D] of pictures, float32 on the CPU."""
        with self._progress("looks") as told:
            self.looks.fill(((picture.digest, picture) for picture in pictures), self._look, told=told)
        return torch.stack([self.looks[picture.digest]["pooled"].float() for picture in pictures])

    @torch.no_grad()
    def _look(self, pictures: list[Picture]) -> list[Values]:
        self.models.at_work("vision")
        return [{"pooled": state} for state in self.models.vision.embed([picture.pixels for picture in pictures])]

    def _user_pictures(self, sample: Sample) -> list[Picture]:
        """Return the pictures that the language model sees through its projection before a sample's slot."""
        told = sample.conversation
        sees = self.models.language.sees == "projection"
        return [told.picture(at) for at in told.user_slots(before=sample.slot)] if sees else []

    def shown_to(self, sample: Sample) -> list[Tensor]:
        """Return the features [K, D] of each picture that the language model sees before a sample's slot."""
        pictures = self._user_pictures(sample)
        self.shown.fill(((picture.digest, picture) for picture in pictures), self._show)
        return [self.shown[picture.digest]["pooled"] for picture in pictures]

    @torch.no_grad()
    def _show(self, pictures: list[Picture]) -> list[Values]:
        self.models.at_work("vision")
        return [{"pooled": value} for value in self.models.vision.encode([p.pixels for p in pictures]).pooled.float()]

    def picture_text_of(self, picture: Picture, embed: Callable[[Picture], Tensor]) -> Tensor:
        """Return a picture's own embedding [P] in the space of the decoder's text, as `embed` makes it."""
        self.pictures.fill([(picture.digest, picture)], lambda given: [{"text": embed(one)} for one in given])
        return self.pictures[picture.digest]["text"].to(self.models.device)

    # What the language model knows

    def read(self, sample: Sample) -> SlotStates:
        """Return the language model's states of a sample's slot, as the pipeline reads them; gradients may flow."""
        visual = self.shown_to(sample)
        self.models.at_work("language")
        self.models.recompute(torch.is_grad_enabled())
        tokens = self.models.adapter.image_tokens
        states = self.models.language.encode_slot(sample.conversation, sample.slot, tokens, visual=visual)
        if states.note:
            self.notes[states.note] = self.notes.get(states.note, 0) + 1
        return states

    def word_losses(self, samples: Sequence[Sample], shown: Sequence[Sequence[Tensor]] | None = None) -> Tensor:
        """Return the losses [B] on what the assistant says in samples; gradients may flow.

        Args:
            samples: The samples.
            shown: Other features than those of the users' own pictures.
        """
        shown = [self.shown_to(sample) for sample in samples] if shown is None else shown
        self.models.at_work("language")
        self.models.recompute(torch.is_grad_enabled())
        return word_losses(self.models.language, samples, shown)

    def features_of(self, samples: Sequence[Sample]) -> SlotFeatures:
        """Return the adapter's input for samples, without references; from the store once `settle` was called."""
        if self.states is None:
            return SlotFeatures.collate([(self._float(self.read(sample)), None) for sample in samples])
        self.states.fill(((sample.words_key, sample) for sample in samples), self._states)
        found = [self.states[sample.words_key] for sample in samples]
        device = self.models.device
        items = [
            SlotStates(values["context"].to(device), values["text"].to(device), sample.caption)
            for values, sample in zip(found, samples, strict=True)
        ]
        return SlotFeatures.collate([(self._float(item), None) for item in items])

    @staticmethod
    def _float(states: SlotStates) -> SlotStates:
        return replace(states, context=states.context.float(), text=states.text.float())

    @torch.no_grad()
    def _states(self, samples: list[Sample]) -> list[Values]:
        made = []
        for sample in samples:
            with self.models.autocast():
                states = self.read(sample)
            kind = torch.bfloat16 if states.context.dtype == torch.bfloat16 else torch.float16
            made.append({"context": states.context.to(kind), "text": states.text.to(kind)})
        return made

    def semantic_of(self, samples: Sequence[Sample]) -> Tensor:
        """Return the semantic feature h [B, N, W] of samples, once `freeze_semantic` was called.

        Gradients may flow to what the language model is learning of them.
        """
        assert self.semantics is not None
        steady = ((sample.words_key, sample) for sample in samples if not self._changing(sample))
        self.semantics.fill(steady, self._semantic)
        return torch.stack(
            [
                self._read_semantic(sample)
                if self._changing(sample)
                else self.semantics[sample.words_key]["h"].to(self.models.device)
                for sample in samples
            ]
        )

    def _read_semantic(self, sample: Sample) -> Tensor:
        with self.models.autocast():
            features = SlotFeatures.collate([(self._float(self.read(sample)), None)])
            return self.models.adapter.semantic(features)[0].float()

    @torch.no_grad()
    def _semantic(self, samples: list[Sample]) -> list[Values]:
        made = []
        for sample in samples:
            features = self.features_of([sample])
            with self.models.autocast():
                made.append({"h": self.models.adapter.semantic(features)[0].float()})
        return made

    def _precision(self) -> str:
        with self.models.autocast():
            kind = self.models.device.type
            return str(torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32)

    @contextmanager
    def _progress(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Give a function that tells how much of something is made, and prints it twice a minute."""
        began = last = time.time()

        def told(done: int, count: int) -> None:
            nonlocal last
            self.models.tell(f"preparing {name}", done, count)
            if time.time() - last > 30:
                last = time.time()
                left = (last - began) / done * (count - done)
                print(f"preparing {name}: {done} of {count}, {left / 60:.1f} min left", flush=True)

        yield told
        if last > began:
            print(f"prepared {name} in {(time.time() - began) / 60:.1f} min", flush=True)
