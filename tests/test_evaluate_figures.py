"""The figures of `evaluate --data` agree with their reference implementations."""

from __future__ import annotations

import io
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

import toys
from m3adapter.arguments import UserError
from m3adapter.conversation.pictures import to_pil
from m3adapter.datasets.opening import open_dataset
from m3adapter.evaluation import data as evaluation
from m3adapter.evaluation import evaluators, figures
from m3adapter.evaluation.networks import Embedder, Perceptual, TextEmbedder
from m3adapter.storybook.judge import Judge
from m3adapter.storybook.pictures import Storybook
from toy_evaluation import picture, save_clip, save_preprocessor, save_stories


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip") / "toy-clip")


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> TextEmbedder:
    return TextEmbedder(clip_folder)


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_stories(tmp_path_factory.mktemp("stories") / "tales")


# Figures agree with their reference implementations


@pytest.mark.slow  # imports torchmetrics
def test_the_frechet_distance_is_that_of_scipy() -> None:
    from scipy.linalg import sqrtm

    real, painted = (
        torch.randn(60, 5, generator=toys.generator()),
        torch.randn(50, 5, generator=toys.generator(1)) + 0.3,
    )
    means = [values.double().mean(0).numpy() for values in (real, painted)]
    spreads = [numpy.cov(values.double().numpy(), rowvar=False) for values in (real, painted)]
    root = sqrtm(spreads[0] @ spreads[1]).real
    expected = ((means[0] - means[1]) ** 2).sum() + numpy.trace(spreads[0] + spreads[1] - 2 * root)
    assert figures.frechet_distance(real, painted) == pytest.approx(expected, abs=1e-4)
    assert figures.frechet_distance(real, real) == pytest.approx(0, abs=1e-4)


def test_the_kernel_distance_is_the_unbiased_one_of_a_cubic_kernel() -> None:
    real, painted = (torch.randn(20, 6, generator=toys.generator(seed)).double() + seed for seed in (0, 1))
    kernel = [(a @ b.T / 6 + 1) ** 3 for a, b in ((real, real), (painted, painted), (real, painted))]
    same = sum((values.sum() - values.trace()) / (20 * 19) for values in kernel[:2])
    expected = float(same - 2 * kernel[2].mean())
    before = torch.get_rng_state()
    assert figures.kernel_distance(real, painted) == pytest.approx(expected, rel=1e-4)
    assert torch.equal(before, torch.get_rng_state())


def test_similarities_are_those_of_torchmetrics() -> None:
    from torchmetrics.functional import pairwise_cosine_similarity, pearson_corrcoef

    a, b = (torch.randn(4, 7, generator=toys.generator(seed)) for seed in (0, 1))
    expected = pairwise_cosine_similarity(a, b)
    assert torch.allclose(figures.cosines(a, b).float(), expected, atol=1e-4)
    assert torch.allclose(figures.cosine(a, b).float(), expected.diag(), atol=1e-4)
    one, other = (picture(seed, figures.SEEN) for seed in (1, 2))
    pearson = [pearson_corrcoef(one.flatten(), values.flatten()) for values in (other, other.flip(1))]
    assert figures.likeness(one, other) == pytest.approx(float(max(pearson)), abs=1e-4)


def test_clip_t_and_clip_i_are_those_of_clip(clip: TextEmbedder, clip_folder: Path) -> None:
    """The reference is CLIP's own comparison in transformers, with its own preprocessing."""
    from transformers import AutoImageProcessor, CLIPModel

    captions = ["rosa on the beach", "a boat with the kite and more words than this network can read"]
    pictures = [picture(1, 48), picture(2)[:20]]
    model = CLIPModel.from_pretrained(clip_folder).eval()
    processor = AutoImageProcessor.from_pretrained(clip_folder, use_fast=False)
    words = clip.tokenizer(captions, padding=True, truncation=True, max_length=12, return_tensors="pt")
    with torch.no_grad():
        seen = processor(images=[to_pil(one) for one in pictures], return_tensors="pt")
        output = model(input_ids=words.input_ids, attention_mask=words.attention_mask, **seen)
    expected = output.logits_per_image.diag() / model.logit_scale.exp()
    painted = clip.embed(pictures)
    assert torch.allclose(figures.cosine(painted, clip.embed_texts(captions)).float(), expected, atol=1e-4)
    assert float(figures.cosines(painted[:1], painted[1:])) == pytest.approx(
        float(output.image_embeds[0] @ output.image_embeds[1]), abs=1e-4
    )
    assert clip.scale == pytest.approx(model.logit_scale.exp().item())


@pytest.mark.parametrize("kind", ["dinov2", "resnet"])
def test_dino_is_the_class_token_and_a_convolutional_network_the_mean(tmp_path: Path, kind: str) -> None:
    from transformers import Dinov2Config, Dinov2Model, ResNetConfig, ResNetModel

    if kind == "dinov2":
        model = Dinov2Model(
            Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=4)
        )
    else:
        model = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"))
    model.eval().save_pretrained(tmp_path)
    save_preprocessor(tmp_path)
    network = Embedder(tmp_path)
    values = network.processor(images=[to_pil(picture(3))], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        states = model(pixel_values=values).last_hidden_state
    expected = states[:, 0] if kind == "dinov2" else states.mean((2, 3))
    assert torch.allclose(network.embed([picture(3)]), expected, atol=1e-4)


@pytest.mark.slow  # imports torchvision
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_lpips_is_that_of_torchmetrics(tmp_path: Path, suffix: str) -> None:
    from safetensors.torch import save_file
    from torchmetrics.functional.image import lpips as theirs
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    weights = {f"features.{name}": value for name, value in squeezenet1_1().features.state_dict().items()}
    path = tmp_path / f"squeezenet{suffix}"
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    network = Perceptual(path)
    reference = theirs._NoTrainLpips(net="squeeze", pnet_rand=True)
    parts = [
        name.split(".", 2)[1:] for name in reference.net.state_dict()
    ]  # slices.0.3.weight, of which 3 is its place
    names = {f"slices.{number}.{rest}": f"features.{rest}" for number, rest in parts}
    reference.net.load_state_dict({name: weights[other] for name, other in names.items()})
    a, b = (picture(seed, 64).permute(2, 0, 1)[None] for seed in (1, 2))
    expected = float(reference.eval()(a, b, normalize=True))
    assert expected > 1e-3
    assert network.distance(picture(1, 64), picture(2, 64)) == pytest.approx(expected, abs=1e-4)
    assert network.distance(picture(1, 64), picture(1, 64)) == pytest.approx(0, abs=1e-6)
    del weights["features.3.expand1x1.bias"]
    torch.save(weights, tmp_path / "cut.pth")
    with pytest.raises(UserError, match="lacks the layer features.3.expand1x1.bias"):
        Perceptual(tmp_path / "cut.pth")


def test_mm_relevance_aligns_from_left_to_right() -> None:
    one = torch.eye(4)
    assert figures.mm_relevance(one[:2], one[:2]) == pytest.approx(1)
    assert figures.mm_relevance(3 * one[:2], one[:2]) == pytest.approx(1), "embeddings are normalised"
    assert figures.mm_relevance(one[[1, 0]], one[:2]) == 0, "order counts"
    # 1 of 1 is precise, 1 of 3 recalled: F1 is 2 · 1 · 1/3 / (4/3).
    assert figures.mm_relevance(one[:1], one[:3]) == pytest.approx(0.5)
    assert figures.mm_relevance(one[:3], one[:1]) == pytest.approx(0.5)
    assert figures.mm_relevance(one[:0], one[:2]) == 0
    assert figures.mm_relevance(-one[:1], one[:1]) == -1


def test_mm_relevance_is_that_of_mmdialogs_own_script(clip_folder: Path, clip: TextEmbedder) -> None:
    """Its compute_mmrel.py compares place by place, of whatever kind, in CLIP's scale."""
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    model = CLIPModel.from_pretrained(clip_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(clip_folder)
    words = tokenizer(["rosa", "a kite", "the beach"], padding=True, return_tensors="pt")
    pixels = CLIPImageProcessor.from_pretrained(clip_folder)([to_pil(picture(n)) for n in (1, 2)], return_tensors="pt")
    with torch.no_grad():
        both = model(**words, **pixels)
    # The reply is a text and a picture, the truth a picture and two texts: a text meets a picture, a picture a text.
    scores = both.logits_per_text[0, 1] + both.logits_per_image[0, 1]
    seen = torch.cat([clip.embed_texts(["rosa"]), clip.embed([picture(1)])])
    truth = torch.cat([clip.embed([picture(2)]), clip.embed_texts(["a kite"]), clip.embed_texts(["the beach"])])
    precision, recall = scores.double() / 2, scores.double() / 3
    expected = float(2 * precision * recall / (precision + recall))
    assert expected < 0, "and it is no other for scores below 0"
    assert clip.scale * figures.mm_relevance(seen, truth) == pytest.approx(expected, rel=1e-4)


def test_within_and_across_stories() -> None:
    one = torch.eye(3)
    shown = [one[:1], one[:2], one[2:]]
    within, across = figures.within_and_across(one, shown, [0, 0, 1])
    # Pictures 0 and 1 have the four pairs with rows 0, 0, 1: (1, 1, 0) and (0, 0, 1); picture 2 has its own: 1.
    assert within == pytest.approx((1 + 1 + 0 + 0 + 0 + 1 + 1) / 7) and across == 0
    assert figures.within_and_across(one, [one[:0]] * 3, [0, 1, 2]) == (None, None)
    assert figures.within_and_across(one, [one[:1]] * 3, [0, 0, 0])[1] is None


@pytest.mark.parametrize(("change", "is_copy"), [
    ("same", True), ("mirrored", True), ("darker", True), ("jpeg", True), ("larger", True), ("other", False),
    ("negative", False),
])  # fmt: skip
def test_what_a_copy_is(change: str, is_copy: bool) -> None:
    one = picture(5, 64)
    buffer = io.BytesIO()
    to_pil(one).save(buffer, "JPEG", quality=40)
    painted = {
        "same": one, "mirrored": one.flip(1), "darker": one * 0.6, "larger": picture(5, 96),
        "jpeg": torch.from_numpy(numpy.array(Image.open(buffer))).float() / 255,
        "other": picture(6, 64), "negative": 1 - one,
    }[change]  # fmt: skip
    assert (figures.likeness(painted, one) >= evaluators.COPY) == is_copy


def test_pictures_of_one_place_are_no_copies_of_each_other() -> None:
    data = Storybook.held_out("test", 0, 24)
    shown = data.pool.samples
    others = [index for index in range(24) if shown[index].scene not in shown[index].references]
    samples = [data[index] for index in others]
    drawn = [sample.picture.pixels for sample in samples]
    assert len(samples) >= 16 and evaluators.Copies().measure(samples, drawn) == {"copy_paste": 0}
    copied = [(sample.references[-1].picture.pixels * 255).round() / 255 for sample in samples]
    assert evaluators.Copies().measure(samples, copied) == {"copy_paste": 1}


def test_pictures_of_one_colour() -> None:
    grey = torch.full((8, 8, 3), 0.5)
    assert figures.likeness(grey, grey) == 1 and figures.likeness(grey, picture(1)) == 0


# Samples and stories


def test_samples_that_share_a_picture_are_of_one_story(stories: Path) -> None:
    data = open_dataset(stories)
    samples = [data[index] for index in range(len(data))]
    numbers = evaluators.stories_of(samples)
    assert len(set(numbers[:3])) == len(set(numbers[3:6])) == 1 and len(set(numbers)) == 3
    assert evaluators.first_picture(samples[2]).digest == samples[0].picture.digest
    assert evaluators.first_picture(samples[0]) is None and evaluators.first_picture(samples[6]) is None


def test_samples_with_references_come_first(stories: Path) -> None:
    import random

    data = open_dataset(stories)
    found = evaluation.chosen(data, 4, random.Random(0))
    assert len(found) == 4 and all(sample.references for sample in found)
    assert len(evaluation.chosen(data, 6, random.Random(0))) == 6
    assert len(evaluation.chosen(data, 60, random.Random(0))) == 7


def test_stories_of_the_storybook_are_held_out_and_of_the_seed() -> None:
    data = Storybook.held_out("validation", 3, 4)
    assert len(data) == 4 and data.report.split == "validation" and all(sample.known for sample in data.pool.samples)
    assert [data.key(index) for index in range(4)] == [Storybook.held_out("validation", 3, 4).key(i) for i in range(4)]
    assert data.key(0) != Storybook.held_out("test", 3, 4).key(0) != Storybook.held_out("test", 4, 4).key(0)


def test_the_judge_finds_the_storybooks_own_pictures_right() -> None:
    data = Storybook.held_out("test", 0, 6)
    scenes = {data[index].source: sample for index, sample in enumerate(data.pool.samples)}
    samples = [data[index] for index in range(6)]
    found = evaluators.Judged(Judge.load(), scenes).measure(samples, [sample.picture.pixels for sample in samples])
    assert min(found.values()) > 0.8
    small = evaluators.Judged(Judge.load(), scenes).measure(samples, [picture(1)] * 6)
    assert set(small.values()) == {"the judge looks at pictures of 128 x 128 pixels only"}
