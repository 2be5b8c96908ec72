"""Who is in which picture: found by name, by neighbourhood and by likeness, without any labels; and data at scale."""

from __future__ import annotations

import random
import time
import tracemalloc
from pathlib import Path

import pytest
import torch

import scenes
from m3adapter.datasets.mining import Pair, Paired, by_likeness, by_name, by_neighbourhood, named_in, ordinary_words
from m3adapter.datasets.opening import open_dataset
from m3adapter.datasets.sample import Dataset
from test_datasets import captions, draw


@pytest.mark.parametrize(
    ("caption", "names"),
    [
        ("Rosa on the beach", ("Rosa",)),
        ("a fox, Rosa, and Tom Tulip at Rosa's house", ("Rosa", "Tom Tulip")),
        ("A fox. The owl? In Rome! Dogs", ("Rome", "Dogs")),
        ("Rosa's Kite flies", ("Rosa", "Kite")),
        ("RED FOX in the USA", ()),
        ("“Then Élise saw Jean-Luc.”", ("Élise", "Jean-Luc")),
        ("a red fox", ()),
        ("", ()),
        ("狐狸在森林里", ()),
    ],
)
def test_names_are_the_capitalised_words_that_begin_no_sentence(caption: str, names: tuple[str, ...]) -> None:
    assert named_in(caption) == names


def test_a_word_that_others_write_small_is_no_name() -> None:
    ordinary = ordinary_words(["two dogs run", "a boat"])
    assert named_in("Dogs and Rosa", ordinary) == ("Rosa",) and named_in("Boat. Rosa", ordinary) == ("Rosa",)


def test_pairs_by_name_and_neighbourhood_stay_in_their_conversations() -> None:
    names = [("Rosa",), ("Rosa", "Tom"), (), ("Rosa",), ("Tom",), ("Rosa",)]
    conversations = [0, 0, 0, 0, 1, 1]
    assert list(by_name(names, conversations)) == [
        Pair(0, 1, "Rosa"), Pair(0, 3, "Rosa"), Pair(1, 3, "Rosa"),
    ]  # fmt: skip
    assert list(by_neighbourhood(conversations)) == [Pair(0, 1), Pair(1, 2), Pair(2, 3), Pair(4, 5)]


def test_pairs_by_likeness_are_those_that_an_encoder_finds_alike() -> None:
    generator = torch.Generator().manual_seed(1)
    kinds = torch.randn(7, 32, generator=generator)
    index = torch.tensor([number % 7 for number in range(600)])
    features = kinds[index] * 5 + 0.3 * torch.randn(600, 32, generator=generator)
    found = list(by_likeness(features, 0.9))
    assert len(found) > 1100 and all(pair.one < pair.other and index[pair.one] == index[pair.other] for pair in found)
    within = list(by_likeness(features, 0.9, [number // 10 for number in range(600)]))
    assert within and all(pair.one // 10 == pair.other // 10 for pair in within)
    assert list(by_likeness(features[:1])) == list(by_likeness(features[:0])) == []
    with pytest.raises(ValueError, match="^features have the shape"):
        next(by_likeness(torch.zeros(3)))


def test_captioned_pictures_of_one_character_are_references_of_each_other(tmp_path: Path) -> None:
    folder = captions(tmp_path / "set", "Rosa on the beach", "a boat", "a fox, Rosa, in snow", "Tom with Rosa", "Tom")
    for number in range(3):
        draw(folder / f"my cat/{number}.png", (0, number * 50, 0)).with_suffix(".txt").write_text("a cat")
    found = open_dataset(folder)
    shown = [[reference.picture.caption for reference in found[index].references] for index in range(len(found))]
    assert shown[:5] == [
        ["Tom with Rosa", "a fox, Rosa, in snow"], [], ["Rosa on the beach"],
        ["Rosa on the beach", "a fox, Rosa, in snow"] if found[3].known == ("Rosa",) else ["Tom"], ["Tom with Rosa"],
    ]  # fmt: skip
    assert found[0].known == ("Rosa",) and found[1].known == () and not found[1].useful
    assert [len(one) for one in shown[5:]] == [2, 1, 2], "the folder says that it is one cat"
    levels = [[round(ref.picture.pixels[0, 0, 1].item() * 255) for ref in found[i].references] for i in (5, 6, 7)]
    assert levels == [[100, 50], [0], [0, 50]]
    for index in range(8):
        mine = [reference.picture.digest for reference in found[index].references]
        exchanged = found.exchanged(index, random.Random(index))
        assert exchanged.told == "" and not exchanged.useful
        assert all(reference.picture.digest not in mine for reference in exchanged.references)


def test_pictures_without_references_get_those_of_their_pairs(tmp_path: Path) -> None:
    data = open_dataset(captions(tmp_path / "set", "a red fox", "a boat", "the fox again"))
    found = Paired(data, by_likeness(torch.tensor([[1.0, 0], [0, 1], [0.99, 0.1]]), 0.9))
    assert isinstance(found, Dataset) and len(found) == 3 and found.size(2) == data.size(2)
    assert [reference.picture.caption for reference in found[2].references] == ["a red fox"] and found[2].useful
    assert not found[0].references and found.key(0) == data.key(0) and found.key(2) != data.key(2)
    for seed in range(8):
        assert "a red fox" not in [ref.picture.caption for ref in found.exchanged(2, random.Random(seed)).references]


def test_conversations_about_scenes_say_who_is_in_which_picture(tmp_path: Path) -> None:
    found = open_dataset(scenes.write(tmp_path, 6, 8, side=32), split="train")
    assert len(found) == 40 and found.report.conversations == 5 and not found.report.left_out
    pairs = list(found.pairs())
    named = [pair for pair in pairs if pair.name]
    assert len(named) > 40 and {pair.name for pair in named} <= set(scenes.NAMES)
    for pair in named:
        assert pair.name in found.caption(pair.one) and pair.name in found.caption(pair.other)
        assert found.conversation_of(pair.one) == found.conversation_of(pair.other)
    later = [found[index] for index in range(40) if index % 8 > 3]
    assert all(sample.known and len(sample.references) == 2 for sample in later)
    exchanged = [found.exchanged(index, random.Random(index)) for index in range(40)]
    assert all(sample.told == "" for sample in exchanged) and sum(bool(sample.references) for sample in exchanged) > 10


@pytest.mark.slow
def test_thousands_of_turns_are_opened_in_seconds_and_little_memory(tmp_path: Path) -> None:
    path = scenes.write(tmp_path, 50, 20)
    began = time.process_time()
    assert len(open_dataset(path)) == 1000
    assert time.process_time() - began < 10, "it takes 1 second of an idle processor, with every picture decoded"
    tracemalloc.start()
    found = open_dataset(path, check=False)
    assert found.report.pictures == 1000 and tracemalloc.get_traced_memory()[1] < 10 * 2**20
    tracemalloc.stop()
    began = time.process_time()
    rng = random.Random(1)
    keys = {found[rng.randrange(1000)].words_key for _ in range(500)}
    assert len(keys) > 350 and time.process_time() - began < 10
