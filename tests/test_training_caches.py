"""What trainings compute once: the same results with and without caches, bounded, and kept between runs."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import toys
from m3adapter.arguments import UserError
from m3adapter.diffusion.decoder import DiffusionDecoder
from m3adapter.storybook.world import random_scene
from m3adapter.training import caches, kept
from m3adapter.training.caches import CaptionEmbeddings, SceneLatents, Table
from m3adapter.training.decoder_pictures import FromCache, Pictures, embed
from m3adapter.training.worlds import open_world


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> object:
    return DiffusionDecoder.from_pretrained(toys.save_decoder(tmp_path_factory.mktemp("toy"))).pipeline


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many captions or pictures were computed at a time."""
    calls: list[int] = []
    for name, place in (("embed", 1), ("encode_pictures", 1)):
        original = getattr(caches, name)

        def count(*given: object, original=original, place: int = place) -> object:
            calls.append(len(given[place]))
            return original(*given)

        monkeypatch.setattr(caches, name, count)
    return calls


def test_a_table_keeps_what_fits_and_gives_everything() -> None:
    table = Table(3 * 8 / 2**20)  # three rows of two floats
    rows = torch.arange(10.0).view(5, 2)
    table.add("ab", rows[:2])
    table.add("cde", rows[2:])
    assert [*table.rows] == ["a", "b", "c"] and len(table.tensors[0]) == 3
    assert torch.equal(table.take("cab", {})[0], rows[[2, 0, 1]])
    found = table.take("eaedc", {"d": 0, "e": 1}, rows[3:])[0]
    assert torch.equal(found, rows[[4, 0, 4, 3, 2]])
    nothing = Table(0)
    nothing.add("a", rows[:1])
    assert not nothing.rows


@pytest.mark.parametrize("megabytes", [0, 0.05, 64])
def test_captions_are_embedded_as_the_decoder_does_whatever_is_kept(
    megabytes: float, pipeline: object, counted: list[int]
) -> None:
    captions = [f"a {look} fox" for look in ("red", "blue", "green", "black", "white")]
    embeddings = CaptionEmbeddings(pipeline, megabytes)
    wanted = embed(pipeline, captions)
    rng = random.Random(0)
    for _ in range(4):
        index = [rng.randrange(5) for _ in range(7)]
        for found, whole in zip(embeddings([captions[i] for i in index]), wanted, strict=True):
            torch.testing.assert_close(found, whole[index], rtol=1e-5, atol=1e-5)
    assert set(counted) == {caches.GROUP} and len(counted) <= (2 if megabytes == 64 else 4)
    assert len(embeddings.table.rows) == {0: 0, 0.05: 4, 64: 5}[megabytes]


@pytest.mark.slow
def test_latents_are_those_of_the_same_renders_and_come_back_in_the_next_run(
    pipeline: object, tmp_path: Path, counted: list[int]
) -> None:
    scenes = [random_scene(random.Random(number)) for number in range(3)]
    path = tmp_path / "latents.safetensors"

    def draw(latents: SceneLatents) -> Tensor:
        rng = random.Random(5)
        return torch.cat([latents(scenes, rng) for _ in range(3)])

    plain = draw(SceneLatents(pipeline, 0, path))
    assert plain.shape[:2] == (9, 4) and plain.dtype == torch.bfloat16 and not path.exists()
    first = SceneLatents(pipeline, 64, path)
    torch.testing.assert_close(draw(first), plain, rtol=0.01, atol=0.01)
    first.save()
    before = len(counted)
    again = SceneLatents(pipeline, 64, path)
    assert torch.equal(draw(again), draw(first)) and len(counted) == before
    changed = path.stat().st_mtime_ns
    again.save()
    assert path.stat().st_mtime_ns == changed, "nothing is new"
    other = nn.Module()
    other.vae = nn.Linear(2, 2)  # another autoencoder: its latents are others
    assert not SceneLatents(other, 0.001, path).table.rows


def test_a_digest_is_that_of_contents(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1", "utf-8")
    (tmp_path / "a.pyc").write_text("1", "utf-8")
    first = kept.digest(tmp_path)
    (tmp_path / "a.pyc").write_text("2", "utf-8")
    assert kept.digest(tmp_path) == first
    (tmp_path / "a.py").write_text("2", "utf-8")
    assert kept.digest(tmp_path) != first
    layer, same = nn.Linear(2, 2), nn.Linear(2, 2)
    same.load_state_dict(layer.state_dict())
    assert kept.digest(layer, 1) == kept.digest(same, 1) != kept.digest(same, 2)
    assert kept.digest(layer.weight) != kept.digest(layer.weight.view(4)) != kept.digest(layer.weight.view(4).half())
    assert kept.digest("a", "b") != kept.digest("ab")


def test_what_was_made_from_the_same_is_not_made_again(tmp_path: Path) -> None:
    path, made = tmp_path / "new" / "kept.safetensors", []

    def make() -> dict[str, Tensor]:
        made.append(torch.full((2,), float(len(made))))
        return {"values": made[-1]}

    for key, count in (("one", 1), ("one", 1), ("two", 2), ("one", 3)):
        assert torch.equal(kept.kept(path, key, make)["values"], made[-1]) and len(made) == count
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"--output: .*kept\.safetensors cannot be used"):
        kept.kept(path, "one", make)
    from safetensors.torch import save_file

    save_file({"values": torch.zeros(2)}, path)
    with pytest.raises(UserError, match="no training has written it"):
        kept.kept(path, "one", make)
    assert len(made) == 3 and kept.kept(None, "one", make)["values"] is made[-1]


def test_a_step_of_the_decoder_draws_the_same_with_and_without_the_cache(pipeline: object) -> None:
    world = open_world("storybook")
    scenes = [random_scene(random.Random(number)) for number in range(5)]
    pictures = Pictures(scenes, torch.randn(5, 4, 16, 16).bfloat16(), torch.rand(5, 1, 16, 16).bfloat16())
    drawn = []
    for megabytes in (64, 0):
        draw = FromCache(CaptionEmbeddings(pipeline, megabytes), pictures, 6, world, seed=1)
        drawn.append([draw(random.Random(step)) for step in range(3)])
    for kept_step, fresh_step in zip(*drawn, strict=True):
        assert torch.equal(kept_step[0], fresh_step[0]) and torch.equal(kept_step[1], fresh_step[1])
        for one, other in zip(kept_step[2:4], fresh_step[2:4], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert drawn[0][0][0].dtype == torch.float32 and drawn[0][0][2].shape == (6, toys.TOKENS, toys.EMBED_WIDTH)
