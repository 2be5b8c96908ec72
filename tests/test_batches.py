"""Pictures painted at once: the same as one by one, in batches that shrink when memory runs out."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
import torch

import toys
from m3adapter import stages
from m3adapter.conversation.conversation import Conversation, Picture, ReferencePolicy, Slot, Text
from m3adapter.diffusion import batches
from m3adapter.diffusion.batches import is_out_of_memory
from m3adapter.diffusion.decoder import DiffusionDecoder
from m3adapter.events import Interrupted, NotFinite, OutOfMemory, PictureStarted, Step, TurnDone
from runs import inside
from standins import SAMPLING, ToyAdapterStandIn, chat, events_of

ROUNDING = 3e-5  # how far a picture of a batch may be from the same picture alone


@pytest.fixture(scope="module")
def decoder(tmp_path_factory) -> DiffusionDecoder:
    return DiffusionDecoder.from_pretrained(toys.save_decoder(tmp_path_factory.mktemp("decoder")))


def conditions(count: int) -> list:
    """Conditions of one picture each."""
    return [toys.condition(1, seed=number) for number in range(count)]


def heard(painting: list[range], pictures: range, step: int, total: int, preview) -> None:
    painting.append(pictures)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_batch_paints_what_singles_paint(
    decoder: DiffusionDecoder, scheduler: str, guidance: float, monkeypatch
) -> None:
    import diffusers

    if guidance == 1:  # as for large pictures, whose VAE takes much memory
        monkeypatch.setattr(batches, "SLICED", 1)

    own, kind = decoder.pipeline.scheduler, getattr(diffusers, scheduler)
    decoder.pipeline.scheduler = kind.from_config(own.config)
    try:
        given, seeds = conditions(5), [3, 1, 4, 1, 5]
        how = {"steps": 3, "guidance": guidance}
        alone = [
            stages.paint(decoder, each, seed=seed, **how) for each, seed in zip(given, seeds, strict=True)
        ]  # fmt: skip
        for size in (1, 2, 4, 64):
            painting: list[range] = []
            note = partial(heard, painting)
            painted = list(stages.paint_all(decoder, given, seeds, batch_size=size, on_step=note, **how))
            apart = max(float((one - other).abs().max()) for one, other in zip(painted, alone, strict=True))
            assert apart == 0 if size == 1 else apart <= ROUNDING
            assert [len(each) for each in dict.fromkeys(painting)] == {1: [1] * 5, 2: [2, 2, 1], 4: [4, 1], 64: [5]}[
                size
            ]
    finally:
        decoder.pipeline.scheduler = own


class Cramped:
    """A decoder whose memory only holds a few pictures at once: with the VAE in tiles, or not at all."""

    def __init__(self, decoder: DiffusionDecoder, fits: int, error: BaseException, *, tiles: bool = True) -> None:
        self.vae, self.decoder, self.fits, self.error, self.tiles = decoder.vae, decoder, fits, error, tiles
        self.unet, self.native_size = decoder.unet, decoder.native_size
        self.tried: list[tuple[int, bool]] = []

    def decode(self, condition, **how):
        self.tried.append((condition.batch, self.vae.use_tiling))
        if condition.batch > self.fits and not (self.vae.use_tiling and self.tiles):
            raise self.error
        return self.decoder.decode(condition, **how)


class EngineError(Exception):
    """Another library's error for running out of memory."""


FULL = [
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("MPS backend out of memory"),
    MemoryError(),
]


def test_a_batch_that_does_not_fit_is_halved_until_it_does(decoder: DiffusionDecoder) -> None:
    cramped = Cramped(decoder, 1, EngineError("full"))
    painted = list(
        stages.paint_all(cramped, conditions(3), range(3), steps=1, batch_size=8, out_of_memory=(EngineError,))
    )
    assert cramped.tried == [(3, False), *[(1, False)] * 3]
    alone = [stages.paint(decoder, each, seed=seed, steps=1) for seed, each in enumerate(conditions(3))]
    assert all(torch.equal(one, other) for one, other in zip(painted, alone, strict=True))


@pytest.mark.slow
def test_what_does_not_fit_alone_is_decoded_in_tiles_and_then_says_so(decoder: DiffusionDecoder, caplog) -> None:
    cramped = Cramped(decoder, 0, FULL[0])
    assert len(list(stages.paint_all(cramped, conditions(2), [0, 1], steps=1, batch_size=2))) == 2
    assert cramped.tried == [(2, False), (1, False), (1, True), (1, False), (1, True)]
    assert "in tiles" in caplog.text and not decoder.vae.use_tiling and not decoder.vae.use_slicing
    cramped = Cramped(decoder, 0, FULL[0], tiles=False)
    with pytest.raises(OutOfMemory, match="choose a smaller width and height") as caught:
        list(stages.paint_all(cramped, conditions(1), [0], steps=1))
    assert toys.one_sentence(caught.value) and not decoder.vae.use_tiling
    with pytest.raises(RuntimeError, match="shapes"):
        list(stages.paint_all(Cramped(decoder, 0, RuntimeError("shapes")), conditions(1), [0], steps=1))
    assert all(map(is_out_of_memory, FULL))
    assert not is_out_of_memory(RuntimeError("shapes")) and not is_out_of_memory(EngineError("full"))


def test_tiles_that_were_on_stay_on(decoder: DiffusionDecoder) -> None:
    decoder.split_vae(tiling=True, slicing=True)
    list(stages.paint_all(decoder, conditions(2), [0, 1], steps=1, batch_size=2))
    assert decoder.vae.use_tiling and decoder.vae.use_slicing
    decoder.split_vae()


def test_pictures_before_one_that_overflows_are_painted(decoder: DiffusionDecoder) -> None:
    given = conditions(4)
    broken = given[2]
    given[2] = type(broken)(broken.embeds * float("nan"), *list(vars(broken).values())[1:])
    painted = stages.paint_all(decoder, given, range(4), steps=1, batch_size=4)
    assert next(painted).shape == next(painted).shape
    with pytest.raises(NotFinite):
        next(painted)


def test_a_batch_is_interrupted_within_a_step(decoder: DiffusionDecoder) -> None:
    seen: list[int] = []

    def on_step(pictures: range, step: int, total: int, preview) -> None:
        seen.append(step)
        assert callable(preview)
        if step == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        list(stages.paint_all(decoder, conditions(4), range(4), steps=5, batch_size=4, on_step=on_step))
    assert seen == [1, 2] and not decoder.vae.use_slicing


class ToyBatches:
    """A stand-in for the decoder that records its batches; a picture is as grey as its seed says."""

    vae, native_size = None, 4

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def decode(self, condition, *, seed, steps, on_step, **how):
        seeds = [seed] if isinstance(seed, int) else list(seed)
        self.batches.append(seeds)
        for step in range(1, steps + 1):
            on_step(step, steps, lambda: "so far")
        return torch.stack([torch.full((4, 4, 3), each % 97 / 97) for each in seeds])


def toy_chat(*replies: list[str]):
    model = chat(*replies)
    model.decoder = ToyBatches()
    model.adapter = ToyAdapterStandIn()
    return model


TWO = ["Words. <image>one</image><image>two</image>"]
GREY = torch.full((2, 2, 3), 0.5)


@pytest.mark.parametrize(
    ("references", "size", "counts"),
    [
        (ReferencePolicy(count=0), 1, [1] * 6),
        (ReferencePolicy(count=0), 4, [4, 2]),
        (ReferencePolicy(count=0), 64, [6]),
        (ReferencePolicy(), 4, [1] * 6),
        (ReferencePolicy("chosen", chosen=(1,)), 4, [4, 2]),  # what the user showed
        (ReferencePolicy("chosen", chosen=(2,)), 4, [1, 4, 1]),
        (ReferencePolicy("chosen", chosen=(3,)), 4, [2, 4]),
        (ReferencePolicy("first", count=1), 4, [4, 2]),
        (ReferencePolicy("first", count=2), 4, [1, 4, 1]),
        (ReferencePolicy("last", count=1), 4, [1] * 6),
        (ReferencePolicy("character", count=1), 4, [4, 2]),
    ],
    ids=str,
)
def test_panels_that_do_not_look_at_each_other_are_painted_at_once(references, size: int, counts: list[int]) -> None:
    start = Conversation().user("Look.", [GREY]).assistant([Text("A grey one.")])
    how = {"steps": 2, "seed": 5, "sampling": SAMPLING, "start": start, "references": references}
    model, single = toy_chat(TWO), toy_chat(TWO)
    events = events_of(model.story, "A fox.", 3, batch_size=size, **how)
    assert [len(batch) for batch in model.decoder.batches] == counts
    told = events[-1].conversation
    assert told == single.story("A fox.", 3, **how)
    assert [len(event.conversation.turns) for event in events if isinstance(event, TurnDone)] == [4, 6, 8]
    painted = [event.slot for event in events if isinstance(event, Step) and event.step == 2]
    assert painted == list(told.slots()) == [event.slot for event in events if isinstance(event, PictureStarted)]


def test_who_looks_at_the_cast_alone_waits_for_nobody() -> None:
    fox = Conversation().with_character("fox", [GREY])
    replies = ["<image>a fox</image><image>the fox again</image><image>a bear</image><image>the fox</image>"]
    model = toy_chat(replies)
    model.story("Go.", 1, steps=1, sampling=SAMPLING, start=fox, batch_size=4, references=ReferencePolicy(count=1))
    assert [len(batch) for batch in model.decoder.batches] == [2, 2], "the bear has only earlier pictures to look at"


@pytest.mark.parametrize("size", [1, 8])
def test_variants_of_a_picture_are_its_versions(size: int) -> None:
    model = toy_chat(TWO)
    told = model.turn(Conversation().user("Tell."), seed=5, steps=1, sampling=SAMPLING)
    slot = told.slots()[1]
    model.decoder.batches.clear()
    how = {"seed": 9, "steps": 1, "sampling": SAMPLING, "batch_size": size, "variants": 3}
    again = model.turn(told.without_picture(slot), **how)
    assert [len(batch) for batch in model.decoder.batches] == ([3] if size == 8 else [1, 1, 1])
    seeds = sum(model.decoder.batches, [])
    versions = again.versions(*slot)
    assert (versions.count, versions.place) == (4, 1) and len(set(seeds)) == 3 and seeds[0] == 9
    assert [again.with_version(number, *slot).at(slot).seed for number in range(4)] == [6, *seeds]
    single = model.turn(told.without_picture(slot), **how | {"variants": 1})
    assert single.at(slot) == again.at(slot), "the first variant is what is painted alone"
    assert again.at(told.slots()[0]) == told.at(told.slots()[0])


@pytest.mark.parametrize("field", ["batch_size", "variants"])
def test_impossible_numbers_are_refused(field: str) -> None:
    for wrong in (0, -1, 65, 1.5, True):
        with pytest.raises(ValueError, match=f"{field} is .*: give a whole number from 1"):
            chat().story("A fox.", 1, **{field: wrong})


def test_a_story_ends_before_the_panel_that_the_memory_does_not_hold() -> None:
    model = chat(TWO)
    paint, model.decoder = model.decoder, SimpleNamespace(vae=None, unet=model.decoder.unet, native_size=4)

    def decode(*arguments, **how):
        if len(paint.painted) == 4:
            raise torch.OutOfMemoryError("full")
        return paint.decode(*arguments, **how)

    model.decoder.decode = decode
    end = events_of(model.story, "A fox.", 3, steps=1, sampling=SAMPLING)[-1]
    assert (end.told, len(end.conversation.turns)) == (2, 4) and "does not fit in memory" in end.text


def test_a_picture_waits_for_open_ones_that_it_may_refer_to() -> None:
    story = Conversation().user("a", [GREY]).assistant([Picture("b"), Picture("c")])
    slots = {Slot(1, 0), Slot(1, 1)}
    for policy, waits in (
        (ReferencePolicy(count=1), False),
        (ReferencePolicy(), True),
        (ReferencePolicy(count=0), False),
    ):
        assert story.awaits(Slot(1, 1), policy, slots) is waits
        assert not story.awaits(Slot(1, 0), policy, slots) and not story.awaits(Slot(1, 1), policy, ())


@pytest.mark.exhaustive
@pytest.mark.comfy
def test_nodes_paint_as_many_at_once_as_comfyui_has_memory_for() -> None:
    found = inside("batches")
    assert found["tried"] == {"9 1": [1, 1, 1], "9 0": [3], "1 0": [3, 1, 1, 1]}, "what does not fit is halved"
    assert found["apart"]["9 1"] == found["apart"]["1 0"] == 0 and found["apart"]["9 0"] <= ROUNDING
    assert found["bar"] == [1, 2, 3, 4, 5, 6], "the bar goes on, whatever the batches"
    assert found["variants"] == [3] and found["versions"] == 3
    sizes = list(found["sizes"].values())
    assert sizes[0] == 1 and sizes == sorted(sizes) and 1 < sizes[-1] <= 16
    assert found["cpu"] == [16, 8, 1], "a CPU gains nothing by more"
