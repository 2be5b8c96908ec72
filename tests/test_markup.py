"""The markup, however a model writes it and however its stream is cut."""

from __future__ import annotations

import random
import re
import time

import pytest

from m3adapter.conversation.markup import (
    MarkupParser,
    SlotClosed,
    SlotOpened,
    TextPiece,
    assemble,
    escape,
    first_sentence,
    parse,
    render,
    with_captions,
)
from m3adapter.conversation.segments import Picture, Text

REPLY = "Once <3 a fox.\n<image>a  red\n fox</image> It ran, 1 < 2.<image>a bear</image>"
SEGMENTS = (Text("Once <3 a fox.\n"), Picture("a red fox"), Text(" It ran, 1 < 2."), Picture("a bear"))


def test_a_reply_is_its_segments_in_order() -> None:
    assert parse(REPLY) == SEGMENTS


@pytest.mark.parametrize(
    ("reply", "segments"),
    [
        ("", ()),
        ("Just text.", (Text("Just text."),)),
        ("<image>a fox</image>", (Picture("a fox"),)),
        ("a <image>never closed", (Text("a "), Picture("never closed"))),
        ("a <image>cut off </ima", (Text("a "), Picture("cut off"))),
        ("a <imag", (Text("a <imag"),)),
        ("<image>", (Picture(""),)),
        ("<image> \n </image>b", (Picture(""), Text("b"))),
        ("<image>a <image>b</image> c</image> d", (Picture("a"), Picture("b"), Text(" c d"))),
        ("<image><image>a</image></image>", (Picture("a"),)),
        ("</image>a</image>", (Text("a"),)),
        ("<IMAGE>a</Image>", (Picture("a"),)),
        ("<images>a</ image><<image>b", (Text("<images>a</ image><"), Picture("b"))),
        ("<ımage>a", (Text("<ımage>a"),)),
    ],
)
def test_badly_formed_replies_lose_nothing(reply: str, segments: tuple) -> None:
    assert parse(reply) == segments
    by_character = MarkupParser()
    events = [event for character in reply for event in by_character.feed(character)]
    assert assemble(events + by_character.close()) == segments


def test_the_cut_of_the_stream_changes_nothing() -> None:
    draw = random.Random(0)
    for _ in range(300):
        parser, events, rest = MarkupParser(), [], REPLY
        while rest:
            size = draw.randint(1, 9)
            events += parser.feed(rest[:size])
            rest = rest[size:]
        assert assemble(events + parser.close()) == SEGMENTS


def test_text_comes_at_once_and_slots_are_announced() -> None:
    parser = MarkupParser()
    assert parser.feed("Once upon") == [TextPiece("Once upon")]
    assert parser.feed(" a <") == [TextPiece(" a ")], "only what may be a tag is held back"
    assert parser.feed("3") == [TextPiece("<3")]
    assert parser.feed("<ima") == []
    assert parser.feed("ge>a ") == [SlotOpened()]
    assert parser.feed("fox</image") == []
    assert parser.feed(">!") == [SlotClosed("a fox"), TextPiece("!")]
    assert parser.close() == []
    assert parser.feed("<image>x") == [SlotOpened()]
    assert parser.close() == [SlotClosed("x")]
    assert parser.feed("new") == [TextPiece("new")], "after close() it is as new"


def test_render_is_the_inverse_of_parse() -> None:
    assert render(SEGMENTS) == REPLY.replace("a  red\n fox", "a red fox")
    assert parse(render(SEGMENTS)) == SEGMENTS
    hostile = (Text("</image>x"), Picture("a</image>b"), Text("<image>"))
    assert [type(segment) for segment in parse(render(hostile))] == [Text, Picture, Text]


@pytest.mark.parametrize(
    "token",
    ["<image>", "</image>", "<IMAGE>", "<|end|>", "<|assistant|>", "<|picture|>", "<s>", "</s>", "<start_of_turn>",
     "<<image>>", "<|begin▁of▁sentence|>"],
)  # fmt: skip
def test_escape_leaves_no_special_token(token: str) -> None:
    escaped = escape(f"a{token}b")
    assert token not in escaped and "<" not in escaped.replace("a<b", "")
    assert escaped == escape(escaped), "escaping twice must be escaping once"
    assert token.strip("<>|/").lower() in escaped.lower(), "the words stay readable"


@pytest.mark.parametrize("text", ["1 < 2 and 3 > 2", "I <3 you", "a -> b <- c", "👩\u200d🚀 שלום\n\n", "‹image›"])
def test_escape_keeps_ordinary_text(text: str) -> None:
    assert escape(text) == text


def test_escape_knows_a_models_own_tokens() -> None:
    assert escape("a [INST] b PAD\n", ["[INST]", "PAD", "\n", ""]) == "a ⟦INST⟧ b P A D\n"


@pytest.mark.parametrize("text", ["<" * 50_000, "<a" * 25_000, "<|" + "a" * 50_000, "<image>" * 7_000])
def test_hostile_length_takes_no_time(text: str) -> None:
    started = time.perf_counter()
    escape(text)
    parse(text)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("A small fox ran.\nIt slept.", "A small fox ran."),
        ("“Who is there?” asked the fox. Nobody.", "“Who is there?”"),
        ("Mr. Fox ran home. Then.", "Mr. Fox ran home."),
        ("no end at all", "no end at all"),
        ("狐狸在雪地里发现了一盏灯。它还亮着。", "狐狸在雪地里发现了一盏灯。"),
        ("version 1.5 of the fox. b", "version 1.5 of the fox."),
        ("", ""),
    ],
)
def test_first_sentence(text: str, sentence: str) -> None:
    assert first_sentence(text) == sentence


def test_first_sentence_is_cut_at_a_word() -> None:
    cut = first_sentence("fox " * 100, limit=21)
    assert cut == "fox fox fox fox fox…"
    assert len(first_sentence("x" * 1000, limit=50)) == 50


def test_with_captions_fills_gaps_and_adds_a_picture_only_for_a_premise() -> None:
    assert with_captions(parse("The fox ran away. So.<image></image>"), None)[1] == Picture("The fox ran away.")
    assert with_captions((Text("The fox ran away. So."),), None) == (Text("The fox ran away. So."),)
    assert with_captions((Text("The fox ran away. So."),), "p")[1:] == (Picture("The fox ran away."),)
    assert with_captions((), "A fox in the snow.") == (Picture("A fox in the snow."),)
    assert with_captions((Picture("mine"),), "p") == (Picture("mine"),)


# What models write that know the markup only roughly


A, B = Picture("a fox"), Picture("a bear")
LONG = "It ran and ran. " * 20 + "It slept."


@pytest.mark.parametrize(
    ("reply", "segments"),
    [
        # tags by other names, spaced, closed by another's tag
        ("x <picture>a fox</picture> y", (Text("x "), A, Text(" y"))),
        ("<Picture >a fox</image >", (A,)),
        ("< img >a fox< / pic >.", (A, Text("."))),
        ("<image>a fox</image></picture></image>.", (A, Text("."))),
        ("<image>a fox<image/>.", (A, Text("."))),
        # tags that carry the caption
        ('x<image caption="a fox"/>y', (Text("x"), A, Text("y"))),
        ("<img src='1.png' alt='a fox'>y", (A, Text("y"))),
        ('<picture><img src="a b.png" alt="a fox"></picture>y', (A, Text("y"))),
        ('<image id="1">a fox</image>', (A,)),
        ('<image>a fox <img alt="a bear"/>y', (A, B, Text("y"))),
        ("<image: a fox>y", (A, Text("y"))),
        ("<image/>y", (Picture(""), Text("y"))),
        # brackets
        ("x [image: a fox] y", (Text("x "), A, Text(" y"))),
        ("[Picture of a fox][IMG: a bear]", (A, B)),
        ("[Image 2: a fox [red]].", (Picture("a fox [red]"), Text("."))),
        ("[**Image description:** a fox]", (A,)),
        ("(Image: a fox)\n(image: a bear)", (A, Text("\n"), B)),
        ("so (image: a fox)", (Text("so (image: a fox)"),)),
        ("[image: a fox\nIt ran.", (A, Text("\nIt ran."))),
        # Markdown
        ("x ![a fox](http://x/y.png) z", (Text("x "), A, Text(" z"))),
        ("![a fox]\nz", (A, Text("\nz"))),
        ("![a [red] fox](y (it)", (Picture("a [red] fox"), Text("(y (it)"))),
        ("Wow![1] ! [2]", (Text("Wow![1] ! [2]"),)),
        # lines
        ("Image: a fox\nIt ran.\nCaption: a bear", (A, Text("\nIt ran.\n"), B)),
        ("It ran.\n\n**Picture:** a fox\nIt slept.", (Text("It ran.\n\n"), A, Text("\nIt slept."))),
        ("- *Image 1:* a fox", (A,)),
        ("### Illustration:\n\na fox\n", (A, Text("\n"))),
        ("Image: <image>a fox</image> y", (A, Text(" y"))),
        ("**Image:** ![a fox](x.png)\ny", (A, Text("\ny"))),
        ('Picture: "a fox"\n', (A, Text("\n"))),
        ("The image: a fox\nImagine: a bear\nPictures: 2", (Text("The image: a fox\nImagine: a bear\nPictures: 2"),)),
        # captions that nothing closes
        ("<image>a fox\nIt ran.", (A, Text("\nIt ran."))),
        ("<picture>\n\na fox\n\nIt ran.", (A, Text("\n\nIt ran."))),
        ("<image>a fox\nIt ran.<image>a bear</image>", (A, Text("\nIt ran."), B)),
        ("<image>a fox\n[image: a bear]\nIt ran.", (A, Text("\n"), B, Text("\nIt ran."))),
        ("<image>a fox\nImage: a bear<image>c", (A, Text("\n"), B, Picture("c"))),
        ("<image>a\nfox</image>", (A,)),
        # tags that nothing ends, and words where attributes would stand
        ("<image>a fox <image", (A,)),
        ("<image>a fox <image and it ran", (A, Text("<image and it ran"))),
        ("<image>a fox <image a bear and an owl> ran", (A, Picture("a bear and an owl"), Text(" ran"))),
        ("<image>a fox</image It ran. 3 > 2", (A, Text(" It ran. 3 > 2"))),
        ("<image>a fox</picture\n\nIt ran", (A, Text("\n\nIt ran"))),
        ("<image>a fox</image<b>It ran", (A, Text("<b>It ran"))),
        ("<image a fox>It ran", (A, Text("It ran"))),
        ("<image red>fox</image>", (Picture("red fox"),)),
        ('<img alt="a fox" it ran>y', (A, Text(" it ran y"))),
        ('<image who="a fox" where="a wood" id="1"/>y', (Picture("a fox, a wood"), Text("y"))),
        ("<image>a fox<image it/>ran", (A, Text("itran"))),
        ("[image: a fox [pict", (Picture("a fox [pict"),)),
        ("![a fox](It ran home.)", (A, Text("(It ran home.)"))),
        ("![a fox](my fox.png) z", (A, Text(" z"))),
        (f"<image>A fox in a wood. {LONG}", (Picture("A fox in a wood."), Text(f" {LONG}"))),
        (f"<image>A fox in a wood. {LONG}<image>a bear</image>", (Picture("A fox in a wood."), Text(f" {LONG}"), B)),
        (f"![A fox in a wood. {LONG}", (Picture("A fox in a wood."), Text(f" {LONG}"))),
    ],
)
def test_other_spellings_are_understood(reply: str, segments: tuple) -> None:
    assert parse(reply) == segments
    by_character = MarkupParser()
    events = [event for character in reply for event in by_character.feed(character)]
    assert assemble(events + by_character.close()) == segments


SCRAPS = (
    "<image>", "</image>", "<picture>", "</ pic >", "<img alt='b'>", "<image/>", "<image: c>", "[image: ", "]", "![",
    "](u)", "(Image: ", ")", "<image ", "</picture ", "> ", "<img alt='b' ", "\n", "**", "Image: ", "Caption",
    ":", " ", "fox", "a", "<", "im", "[", "!", "(", "- ",
)  # fmt: skip


@pytest.mark.slow
def test_any_cut_of_any_stream_reads_the_same() -> None:
    draw = random.Random(1)
    for _ in range(4000):
        reply = "".join(draw.choices(SCRAPS, k=draw.randint(1, 14)))
        whole = parse(reply)
        for longest in (1, 2, 7):
            parser, events, rest = MarkupParser(), [], reply
            while rest:
                size = draw.randint(1, longest)
                events += parser.feed(rest[:size])
                rest = rest[size:]
            assert assemble(events + parser.close()) == whole, reply


def test_no_word_is_lost_in_any_stream() -> None:
    draw = random.Random(2)
    for _ in range(4000):
        reply = ""
        for number in range(draw.randint(1, 10)):
            reply += draw.choice(SCRAPS) + f"w{number}w"
        # Attributes and a picture's target are no text.
        said = "".join(segment.text if isinstance(segment, Text) else segment.caption for segment in parse(reply))
        assert [word for word in re.findall(r"w\dw", reply) if word not in said] == [], reply


def test_slots_open_and_close_in_turn() -> None:
    draw = random.Random(3)
    for _ in range(2000):
        parser = MarkupParser()
        events = parser.feed("".join(draw.choices(SCRAPS, k=12))) + parser.close()
        slots = [event for event in events if not isinstance(event, TextPiece)]
        assert [type(event) for event in slots] == [SlotOpened, SlotClosed] * (len(slots) // 2)


@pytest.mark.parametrize(
    "text",
    ["[image: " * 7000, "![" * 25_000, "\n" * 50_000, "Image:\n" * 7000, "<image>" + " " * 50_000, "<image>a\n" * 6000,
     "<image " * 7000, "<image " + "a" * 50_000, "[image: " + "\n[" * 25_000, "- " * 25_000, "* Image " * 6000,
     "<image>a\n" + "[image: b " * 5000, "![a](" * 9000],
)  # fmt: skip
def test_every_spelling_takes_time_in_proportion(text: str) -> None:
    started = time.perf_counter()
    parse(text)
    parser = MarkupParser()
    for start in range(0, len(text), 3):
        parser.feed(text[start : start + 3])
    parser.close()
    assert time.perf_counter() - started < 3


def test_spaced_tags_are_escaped_too() -> None:
    for tag in ("< image >", "</ picture >", '<img alt="x">', "<Pic\n/>"):
        assert "<" not in escape(f"a{tag}b")
