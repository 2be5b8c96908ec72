"""Texts with placeholders for pictures become turns, as interleaved models and their collectors write them."""

from __future__ import annotations

import pytest
import torch

from m3adapter.conversation.conversation import Conversation, ConversationError, Picture, Text
from m3adapter.conversation.placeholders import fill_placeholders

ONE, TWO = (torch.full((2, 2, 3), value) for value in (0.25, 0.75))


def shape(text: str, *pictures: torch.Tensor) -> list[str | tuple[str, float | None]]:
    """Texts as they are, pictures as caption and shade."""
    return [
        segment.text.strip()
        if isinstance(segment, Text)
        else (segment.caption, None if segment.is_open else float(segment.pixels.mean()))
        for segment in fill_placeholders(text, pictures)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "A fox. <image> It runs. <image>",
        "A fox. <image_1> It runs. <image_2>",
        "A fox. <image_0> It runs. <image_1>",
        "A fox. <|image_1|> It runs. <|image_2|>",
        "A fox. [Image 1] It runs. [Image 2]",
        "A fox. {img} It runs. {img}",
        "A fox. <image><caption> It runs. <IMG/>".replace("<caption>", ""),
    ],
)
def test_every_spelling_of_a_placeholder_takes_its_picture(text: str) -> None:
    assert shape(text, ONE, TWO) == ["A fox.", ("A fox.", 0.25), "It runs.", ("It runs.", 0.75)]


def test_numbers_say_which_picture_and_captions_stay() -> None:
    assert shape("[image 2] A fox. [image 1]", ONE, TWO) == [("A fox.", 0.75), "A fox.", ("A fox.", 0.25)]
    assert shape("Once. <image>a fox at night</image>", ONE) == ["Once.", ("a fox at night", 0.25)]


def test_what_has_no_picture_stays_open() -> None:
    assert shape("A fox. <image> It runs. <image>", ONE)[-1] == ("It runs.", None)
    assert shape("Only words.") == ["Only words."]
    told = Conversation().user("Tell me.").assistant(fill_placeholders("A fox. <image>", []))
    assert len(told.open_slots()) == 1 and told.turns[1].segments[1] == Picture("A fox.")


@pytest.mark.parametrize(
    ("text", "pictures"), [("No place.", [ONE]), ("<image>", [ONE, TWO]), ("<image_1> <image_1>", [ONE])]
)
def test_pictures_without_a_place_and_numbers_twice_are_refused(text: str, pictures: list[torch.Tensor]) -> None:
    with pytest.raises(ConversationError, match="placeholders"):
        fill_placeholders(text, pictures)
