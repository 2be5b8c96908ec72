"""Which earlier pictures a new one looks at, whom of the cast it shows, and how much each reference weighs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import toys
from m3adapter.adapter.features import SlotFeatures
from m3adapter.adapter.positions import places_by_weight
from m3adapter.conversation.cast import Character, named
from m3adapter.conversation.conversation import Conversation, ConversationError, Picture, ReferencePolicy, Slot


def grey(value: float) -> torch.Tensor:
    return torch.full((2, 3, 3), value)


def story(*captions: str) -> Conversation:
    """A reply with a picture for each caption, the first ones painted in 0.1, 0.2, ...; the last one is open."""
    conversation = Conversation()
    for number, caption in enumerate(captions, 1):
        conversation = conversation.user("next").assistant([Picture(caption)])
        if number < len(captions):
            conversation = conversation.with_picture(conversation.open_slots()[0], grey(number / 10))
    return conversation


def seen(conversation: Conversation, *how: ReferencePolicy, **limit: int) -> list[float]:
    """The references of the open slot, each by its grey."""
    found = conversation.references(conversation.open_slots()[0], *how, **limit)
    return [round(image.mean().item(), 3) for image in found]


# Rules


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (ReferencePolicy(), [0.1, 0.5]),
        (ReferencePolicy(count=3), [0.1, 0.4, 0.5]),
        (ReferencePolicy("first"), [0.1, 0.2]),
        (ReferencePolicy("first", 1), [0.1]),
        (ReferencePolicy("last"), [0.4, 0.5]),
        (ReferencePolicy("last", 3), [0.3, 0.4, 0.5]),
        (ReferencePolicy("last", 9), [0.1, 0.2, 0.3, 0.4, 0.5]),
        (ReferencePolicy("chosen", 4, chosen=(4, 2, 9)), [0.4, 0.2]),
        (ReferencePolicy("chosen", 1, chosen=(4, 2)), [0.4]),
        (ReferencePolicy("character"), []),
        (ReferencePolicy("first", 0), []),
    ],
)
def test_each_rule_finds_its_pictures(how: ReferencePolicy, expected: list[float]) -> None:
    assert seen(story(*"abcdef"), how) == expected


def test_a_limit_is_the_first_rule_with_that_count() -> None:
    conversation = story(*"abcdef")
    for limit in range(8):
        assert seen(conversation, limit=limit) == seen(conversation, ReferencePolicy(count=limit))


def test_the_characters_rule_finds_who_is_in_the_caption() -> None:
    conversation = story("a fox", "an owl", "the FOX again", "an owl and a fox", "nobody", "a fox in the snow")
    assert seen(conversation, ReferencePolicy("character")) == [], "nobody is known by name yet"
    conversation = conversation.with_character("Fox").with_character("owl")
    assert seen(conversation, ReferencePolicy("character")) == [0.3, 0.4]
    assert seen(conversation, ReferencePolicy("character", 9)) == [0.1, 0.3, 0.4]


def test_the_casts_pictures_come_first() -> None:
    conversation = story("a", "b", "c", "an owl meets a fox")
    cast = conversation.with_character("fox", [grey(0.8), grey(0.85)]).with_character("owl", [grey(0.9), grey(0.95)])
    assert seen(cast, limit=1) == [0.9]
    assert seen(cast) == [0.9, 0.8], "everybody's first picture before anybody's second"
    assert seen(cast, limit=3) == [0.9, 0.8, 0.95]
    assert seen(cast, limit=6) == [0.9, 0.8, 0.95, 0.85, 0.1, 0.3]
    assert seen(cast, ReferencePolicy("first", 5)) == [0.9, 0.8, 0.95, 0.85, 0.1]
    assert seen(conversation.with_character("bear", [grey(0.9)])) == [0.1, 0.3], "a bear is not in it"
    assert seen(conversation.with_character("fox", [grey(0.3)]), limit=3) == [0.3, 0.1, 0.2], "no picture twice"


@pytest.mark.parametrize(
    ("caption", "name", "found"),
    [
        ("the red fox, asleep", "fox", True),
        ("a firefox", "fox", False),
        ("two foxes", "fox", False),
        ("firefox and fox", "fox", True),
        ("Captain  Claw's ship", "captain claw", True),
        ("Straße", "STRASSE", True),
        ("狐狸在森林里", "狐狸", True),
        ("الثعلب في الغابة", "ثعلب", True),
        ("Robot R2", "R2", True),
        ("Robot R22", "R2", False),
        ("🦊 at night", "🦊", True),
        ("", "fox", False),
    ],
)
def test_a_name_is_found_as_a_word(caption: str, name: str, found: bool) -> None:
    assert bool(named(caption, [Character(name)])) is found


def test_a_name_is_in_the_cast_once() -> None:
    conversation = Conversation().with_character("Fox", [grey(0.1)]).with_character("owl").with_character("FOX")
    assert [(c.name, len(c.pictures)) for c in conversation.cast] == [("FOX", 0), ("owl", 0)]
    assert conversation.user("hi").assistant([]).cast == conversation.cast, "a cast stays with its conversation"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Character("  "), "needs a name"),
        (lambda: Character("x" * 81), "81 letters"),
        (lambda: Character("fox", (Picture("open"),)), "needs an image"),
        (lambda: Conversation(cast=(Character("fox"), Character("Fox"))), "two characters called Fox"),
        (lambda: ReferencePolicy("newest"), "give one of first and last, first, last"),
        (lambda: ReferencePolicy(count=-1), "limit of references"),
        (lambda: ReferencePolicy(chosen=(0,)), "number of a chosen picture is 0"),
        (lambda: ReferencePolicy(weights=(-1.0,)), "from 0 to 10"),
        (lambda: ReferencePolicy(weights=(float("nan"),)), "from 0 to 10"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(make, says: str) -> None:
    with pytest.raises(ConversationError, match=says) as refusal:
        make()
    assert toys.one_sentence(refusal.value)


# Weights


def weighted(features: SlotFeatures, *weights: float) -> SlotFeatures:
    return replace(features, vision_weight=torch.tensor([weights]))


def low(features: SlotFeatures, adapter=None) -> torch.Tensor:
    adapter = adapter or toys.adapter()
    with torch.no_grad():
        return adapter.low_level(adapter.semantic(features), features)


def test_weight_1_is_no_weight_at_all() -> None:
    features = toys.slot_features([3])
    assert torch.equal(low(weighted(features, 1.0, 1.0, 1.0)), low(features))


def test_a_weight_moves_what_is_found_towards_its_reference() -> None:
    features = toys.slot_features([2])
    adapter = toys.adapter()
    with torch.no_grad():
        adapter.vision_reference.zero_()  # so that a reference has the same effect alone and among others
    one, other = (replace(features, vision=features.vision[:, i : i + 1], vision_mask=features.vision_mask[:, :1])
                  for i in (0, 1))  # fmt: skip
    distances = [
        (low(weighted(features, 1.0, weight), adapter) - low(one, adapter)).abs().mean()
        for weight in (1e-9, 0.1, 1.0, 10.0, 1e9)
    ]
    assert distances[0] < 1e-5 and distances == sorted(distances)
    assert torch.allclose(low(weighted(features, 1.0, 1e9), adapter), low(other, adapter), atol=1e-5)
    assert torch.allclose(low(weighted(features, 4.0, 4.0), adapter), low(features, adapter), atol=1e-5)


def test_a_heavier_reference_moves_forward() -> None:
    mask = torch.ones(1, 3, dtype=torch.bool)
    for weights, places in (
        ((1.0, 1.0, 1.0), (0.0, 1.0, 2.0)),
        ((3.0, 2.0, 1.0), (0.0, 1.0, 2.0)),
        ((1.0, 2.0, 1.0), (0.5, 0.5, 2.0)),
        ((1.0, 1.0, 4.0), (0.75, 1.75, 0.5)),
        ((1e-9, 1e-9, 1.0), (1.0, 2.0, 0.0)),
    ):
        mix = places_by_weight(torch.tensor([weights]), mask)[0]
        torch.testing.assert_close(mix @ torch.arange(3.0), torch.tensor(places))
        torch.testing.assert_close(mix.sum(1), torch.ones(3))
    hidden = places_by_weight(torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[True, True, False]]))[0]
    torch.testing.assert_close(hidden @ torch.arange(3.0), torch.tensor([0.5, 0.5, 2.0]))


def test_weights_travel_with_their_references() -> None:
    features = replace(toys.slot_features([2, 2]), vision_weight=torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert features.shuffled(torch.tensor([1, 0])).vision_weight.tolist() == [[3.0, 4.0], [1.0, 2.0]]
    assert features.to("cpu", torch.float16).vision_weight is not None
    assert features.without_references().vision_weight is None


def test_a_slot_in_the_conversation_is_needed() -> None:
    with pytest.raises(ConversationError, match="no segment"):
        story("a", "b").with_character("a").references(Slot(9, 9))
