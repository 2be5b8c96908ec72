"""Comic and storybook pages: which words stand where, in which font and direction, and that none is lost."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fpdf.bidi import BidiParagraph
from fpdf.enums import TextDirection

from m3adapter.conversation.conversation import Conversation, Picture, Text
from m3adapter.export.pages import bidi
from m3adapter.export.pages.cmap import characters
from m3adapter.export.pages.drawing import draw
from m3adapter.export.pages.fonts import Face, typeface
from m3adapter.export.pages.items import PAPER, Book, Photo, Shape, Words
from m3adapter.export.pages.layout import lay_out
from m3adapter.export.pages.panels import panels_of, speeches, without_speeches
from m3adapter.export.pages.styles import LAYOUTS
from m3adapter.export.pages.text import Typesetter

NOWHERE = "\U0010fffd"  # for private use: no font has it


def story(*texts: str, size: tuple[int, int] = (32, 32)) -> Conversation:
    """A story with a picture for each text, in different greys."""
    conversation = Conversation()
    for index, text in enumerate(texts):
        picture = Picture(f"caption {index}", torch.full((*size, 3), 0.2 + 0.6 * index / len(texts)))
        conversation = conversation.user("A fox finds a lantern." if not index else "What happens next?")
        conversation = conversation.assistant([Text(text), picture])
    return conversation


def pages(book: Book) -> list[str]:
    """The words of each page."""
    return [" ".join(item.run.text for item in page if isinstance(item, Words)) for page in book.pages]


def letters(text: str) -> str:
    return "".join(character for character in text if character.isalpha())


def font_with(path: Path, text: str) -> Path:
    """A font that has just these characters, each a box."""
    pen = TTGlyphPen(None)
    for index, point in enumerate(((50, 0), (50, 700), (450, 700), (450, 0))):
        (pen.lineTo if index else pen.moveTo)(point)
    pen.closePath()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "box"])
    builder.setupCharacterMap({ord(character): "box" for character in text})
    builder.setupGlyf({".notdef": pen.glyph(), "box": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (500, 50), "box": (500, 50)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Boxes", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


# Words


def test_a_picture_gets_the_text_before_it_and_the_last_one_what_follows() -> None:
    one, two, three = (Picture(name, torch.zeros(4, 4, 3)) for name in "abc")
    conversation = Conversation().user("x").assistant([Text("First."), one, Text("Then."), two, Text("After.")])
    conversation = conversation.user("y").assistant([Text("No picture.")])
    conversation = conversation.user("z").assistant([Text("Third."), three, Picture("open")])
    conversation = conversation.user("!").assistant([Text("The end.")])
    assert [panel.text for panel in panels_of(conversation)] == [
        "First.", "Then.\n\nAfter.", "No picture.\n\nThird.\n\nThe end."
    ]  # fmt: skip
    assert [panel.text for panel in panels_of(conversation, "captions")] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="no painted picture"):
        panels_of(Conversation().user("x").assistant([Picture("open")]))


@pytest.mark.parametrize(
    ("text", "said", "told"),
    [
        ('"Hello!" said the fox. It ran.', ["Hello!"], "It ran."),
        ("The fox said: “Hello.” Then it ran.", ["Hello."], "Then it ran."),
        ("«Bonjour», dit le renard.", ["Bonjour"], ""),
        ('"Oh", said she, "no." End.', ["Oh", "no."], "End."),
        ("「你好，球！」它说。然后它们去森林里玩。", ["你好，球！"], "然后它们去森林里玩。"),
        ('"Wheee!" Now the fox is here.', ["Wheee!"], "Now the fox is here."),
        ("Far away beyond the green hills the fox cried: „Hallo“!", ["Hallo"],
         "Far away beyond the green hills the fox cried: !"),
        ("It's the fox's kite.", [], "It's the fox's kite."),
    ],
)  # fmt: skip
def test_speeches_leave_the_text_with_the_few_words_that_say_whose_they_are(text: str, said: list, told: str) -> None:
    assert speeches(text) == said
    assert without_speeches(text, 99) == told and without_speeches(text, 0) == text


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count", (1, 2, 3, 5))
def test_every_layout_has_every_picture_and_word_inside_its_pages(layout: str, count: int) -> None:
    texts = [f"Part {index}: the fox walks on, and soon it is at the camp." for index in range(count)]
    book, _ = lay_out(story(*texts), layout=layout, width=800)
    assert letters("".join(texts)) in letters("".join(pages(book)[LAYOUTS[layout].cover :]))
    items = [item for page in book.pages for item in page]
    photos = [item for item in items if isinstance(item, Photo)]
    assert len(photos) == count + LAYOUTS[layout].cover
    for photo in photos:
        assert photo.x >= 0 and photo.x + photo.width <= 800 and photo.y >= 0
        assert photo.y + photo.height <= book.height and photo.width == pytest.approx(photo.height)
    for word in (item for item in items if isinstance(item, Words)):
        assert 0 <= word.x < 800 and 0 < word.y < book.height
    for page in book.pages:
        boxes = [(p.x, p.y, p.x + p.width, p.y + p.height) for p in page if isinstance(p, Photo)]
        for one, other in itertools.combinations(boxes, 2):
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_has_no_room_follows_on_pages_of_text(layout: str) -> None:
    texts = [" ".join(f"{name}{index}" for index in range(900)) for name in "abcd"]
    book, _ = lay_out(story(*texts), layout=layout, width=800)
    words = " ".join(pages(book)).split()
    for text in texts:
        assert [word for word in words if word[0] == text[0] and word[1:].isdigit()] == text.split()
    assert any(not any(isinstance(item, Photo) for item in page) for page in book.pages[1:])


@pytest.mark.slow
def test_a_hundred_thousand_characters_without_a_space_are_all_there() -> None:
    book, _ = lay_out(story("a" * 100_000), layout="grid", width=1600)
    assert sum(item.run.text.count("a") for page in book.pages for item in page if isinstance(item, Words)) > 100_000


def test_type_and_pictures_shrink_before_words_go_elsewhere() -> None:
    short, _ = lay_out(story(*["A fox."] * 4), layout="grid", width=1000)
    longer, _ = lay_out(story(*["The fox walks on, and soon it is at the camp. " * 7] * 4), layout="grid", width=1000)
    (page,), (fuller,) = short.pages, longer.pages
    assert max(item.size for item in fuller if isinstance(item, Words)) <= max(
        i.size for i in page if isinstance(i, Words)
    )
    sizes = [next(item.width for item in each if isinstance(item, Photo)) for each in (page, fuller)]
    assert sizes[1] < sizes[0]


def test_titles_and_mistakes() -> None:
    assert pages(lay_out(story("So."), width=512)[0])[0].startswith("A fox finds a lantern.")
    assert pages(lay_out(story("So."), width=512, title="The\nLantern")[0])[0].startswith("The Lantern")
    assert pages(lay_out(story("So."), width=512, title="")[0]) == ["So."]
    for wrong, says in (
        ({"layout": "spiral"}, "layout is 'spiral': choose one of grid"),
        ({"width": 100}, "give a whole number of pixels from 512 to 4096"),
        ({"words": "sung"}, "words is 'sung'"),
        ({"font": "gothic"}, "font is 'gothic'"),
    ):
        with pytest.raises(ValueError, match=says):
            lay_out(story("So."), **wrong)


# Balloons


def test_speeches_are_in_balloons_inside_the_picture() -> None:
    text = '"Good morning, ball!" said the fox. “Let us go.” It is a fine day.'
    book, _ = lay_out(story(text), width=1000, words="balloons", title="")
    (page,) = book.pages
    (photo,) = (item for item in page if isinstance(item, Photo))
    balloons = [item for item in page if isinstance(item, Shape)]
    assert len(balloons) == 2
    for balloon in balloons:
        x, y = zip(*balloon.points, strict=True)
        assert photo.x <= min(x) and max(x) <= photo.x + photo.width
        assert photo.y <= min(y) and max(y) <= photo.y + photo.height * 0.7
    below = [item.run.text for item in page if isinstance(item, Words) and item.y > photo.y + photo.height]
    assert " ".join(below) == "It is a fine day."
    inside = [item.run.text.strip() for item in page if isinstance(item, Words) and item.y < photo.y + photo.height]
    assert " ".join(inside) == "Good morning, ball! Let us go."


def test_a_speech_without_room_stays_below_in_its_quotation_marks() -> None:
    long = "“" + "very " * 60 + "long”"
    book, _ = lay_out(story(f"{long} The end."), width=1000, words="balloons", title="")
    assert not any(isinstance(item, Shape) for item in book.pages[0])
    assert pages(book)[0].startswith("“very ") and pages(book)[0].endswith("The end.")


# Fonts and directions


def test_a_font_file_says_which_characters_it_has(tmp_path: Path) -> None:
    assert characters(font_with(tmp_path / "boxes.ttf", "狐a")) == {ord("狐"), ord("a")}
    serif = typeface("serif").regular.path
    assert {ord(character) for character in "AzäΩЖ"} <= characters(serif) and 0x10FFFD not in characters(serif)
    (tmp_path / "broken.ttf").write_bytes(serif.read_bytes()[:300])
    (tmp_path / "text.ttf").write_text("no font")
    assert characters(tmp_path / "broken.ttf") == characters(tmp_path / "text.ttf") == frozenset()
    with pytest.raises(ValueError, match=r"The font text\.ttf cannot be used"):
        typeface(tmp_path / "text.ttf")


def test_another_font_helps_out_and_missing_characters_are_reported_once(tmp_path: Path) -> None:
    boxes = font_with(tmp_path / "boxes.ttf", NOWHERE)
    book, _ = lay_out(story(f"A {NOWHERE} fox"), width=600, more_fonts=[boxes], title="")
    runs = [item.run for item in book.pages[0] if isinstance(item, Words)]
    assert [run.face == Face(boxes) for run in runs] == [False, True, False] and not book.notes
    book, _ = lay_out(story(f"A {NOWHERE} fox {NOWHERE}\u200d\ufe0f"), width=600, title="")
    assert pages(book)[0].split() == ["A", "fox"]
    assert len(book.notes) == 1 and NOWHERE in book.notes[0] and "models/fonts" in book.notes[0]


@pytest.mark.parametrize(
    ("text", "rtl", "shown"),
    [
        ("abc אבג def", False, "abc גבא def"),
        ("אבג (abc) דהו 12.", True, ".12 והד (abc) גבא"),
        ("عدد ٣٤ و 12", True, "12 و ٣٤ ددع"),
        ("price $12.50 אב", False, "price $12.50 בא"),
        ("]1 1$1(٣", False, "]1 1$1(٣"),
        ("hello (world) אבג", True, "גבא hello (world)"),
    ],
)
def test_text_of_both_directions_is_ordered_as_unicode_says(text: str, rtl: bool, shown: str) -> None:
    runs = bidi.visual(bidi.levels(text, rtl))
    mirrored = str.maketrans("()", ")(")
    result = "".join(
        text[start:end][::-1].translate(mirrored) if backwards else text[start:end] for start, end, backwards in runs
    )
    assert result == shown


def test_levels_of_text_in_both_directions_are_those_of_fpdf2() -> None:
    rng = random.Random(0)
    for _ in range(4000):
        text = "".join(rng.choices("abאבגعدر 12٣٤ .,:+-$%#()[]{}!?'\"", k=rng.randint(1, 16)))
        for direction in (TextDirection.LTR, TextDirection.RTL):
            expected = [character.embedding_level for character in BidiParagraph(text, direction).get_characters()]
            assert bidi.levels(text, direction is TextDirection.RTL) == expected, (text, direction)


def test_lines_of_right_to_left_text_end_at_the_left_and_of_left_to_right_text_at_the_right() -> None:
    book, _ = lay_out(story("שלום לכולם", "Hello"), width=800, title="")
    hebrew, english = (
        next(item for item in book.pages[0] if isinstance(item, Words) and letters(item.run.text)[0] == letter)
        for letter in "שH"
    )
    photos = [item for item in book.pages[0] if isinstance(item, Photo)]
    assert hebrew.run.rtl and hebrew.x > photos[0].x + photos[0].width / 3
    assert not english.run.rtl and english.x == pytest.approx(photos[1].x)


def test_lines_are_no_wider_than_asked_and_break_between_ideographs_and_words(tmp_path: Path) -> None:
    boxes = font_with(tmp_path / "boxes.ttf", "狐狸在海滩上。")
    setter = Typesetter(typeface("serif", [boxes]))
    for text in ("The fox walks on, and soon it is at the camp.", "狐狸在海滩上。" * 9, "x" * 300, "a-b-" * 80):
        lines = setter.lines(text, 20, 150)
        assert len(lines) > 1 and all(line.width <= 150 for line in lines)
        assert "".join(run.text for line in lines for run in line.runs).replace(" ", "") == text.replace(" ", "")
    assert not any(line.runs[0].text.startswith("。") for line in setter.lines("狐狸在海滩上。" * 9, 20, 150))
    one, *others = setter.lines("One.\nTwo.\n\n\nThree.", 20, 150)
    assert [line.opens for line in (one, *others)] == [False, False, True]


# Pictures


def test_pages_are_drawn_alike_and_hold_the_pictures(tmp_path: Path) -> None:
    conversation = story("A fox.", '"Oh!" it says.')
    drawn = [list(draw(*lay_out(conversation, width=600, words="balloons"))) for _ in range(2)]
    assert [page.tobytes() for page in drawn[0]] == [page.tobytes() for page in drawn[1]]
    book, _ = lay_out(conversation, width=600, words="balloons")
    (page,) = drawn[0]
    pixels = numpy.array(page)
    assert page.size == (600, book.height) and tuple(pixels[0, 0]) == PAPER
    for photo, grey in zip([item for item in book.pages[0] if isinstance(item, Photo)], (0.2, 0.5), strict=True):
        assert abs(int(pixels[int(photo.y + photo.height * 0.9), int(photo.x + photo.width / 2), 0]) - grey * 255) <= 1
    assert (pixels < 100).any(), "there is no ink"


@pytest.mark.parametrize("size", ((1, 1), (10, 900), (900, 10), (64, 128)))
def test_pictures_of_any_shape_keep_it(size: tuple[int, int]) -> None:
    book, typesetter = lay_out(story("A fox.", size=size), width=600, title="")
    photo = next(item for item in book.pages[0] if isinstance(item, Photo))
    assert photo.height / photo.width == pytest.approx(size[0] / size[1])
    assert len(list(draw(book, typesetter))) == 1
