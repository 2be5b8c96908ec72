"""The page and the folder of a story."""

from __future__ import annotations

import base64
import io
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from m3adapter.conversation.conversation import Conversation, ConversationError, Picture, Slot, Text
from m3adapter.export.html import story_html
from m3adapter.export.story import export_story, is_story

EVIL = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>"


def grey(value: float, size: tuple[int, int] = (4, 6)) -> torch.Tensor:
    return torch.full((*size, 3), value)


def story(panels: int = 2) -> Conversation:
    conversation = Conversation()
    for panel in range(panels):
        conversation = conversation.user("A fox finds a lantern." if not panel else "What happens next?")
        conversation = conversation.assistant([Text(f"Part {panel}."), Picture(f"caption {panel}", grey(panel / 8))])
    return conversation


class Page(HTMLParser):
    """The elements of a page, and the text of each."""

    VOID = ("meta", "img", "br")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], f"unclosed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._open[-1], data.strip()))

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]

    def said(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def test_the_page_holds_texts_captions_and_pixels() -> None:
    page = Page(story_html(story(), details={"seed": 7, "gate": 1.0}))
    assert page.said("title") == page.said("h1") == ["A fox finds a lantern."]
    assert page.said("p") == ["Part 0.", "What happens next?", "Part 1."], "the title is not said twice"
    assert page.said("figcaption") == ["caption 0", "caption 1"]
    assert [image["alt"] for image in page.all("img")] == ["caption 0", "caption 1"]
    assert (page.said("dt"), page.said("dd")) == (["seed", "gate"], ["7", "1.0"])
    for number, image in enumerate(page.all("img")):
        kind, data = image["src"].split(",", 1)
        assert kind == "data:image/png;base64"
        pixels = numpy.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        assert pixels.shape == (4, 6, 3) and (pixels == round(number / 8 * 255)).all()
        assert (image["width"], image["height"]) == ("6", "4")


def test_a_longer_first_message_is_shown_under_its_title() -> None:
    page = Page(story_html(Conversation().user("A fox finds a lantern. It glows.").assistant([Text("So.")])))
    assert page.said("h1") == ["A fox finds a lantern."]
    assert page.said("p") == ["A fox finds a lantern. It glows.", "So."]
    assert Page(story_html(story(), title="The Lantern")).said("h1") == ["The Lantern"]
    assert Page(story_html(Conversation())).said("h1") == ["An illustrated story"]


def test_the_page_loads_and_runs_nothing() -> None:
    html = story_html(story())
    page = Page(html)
    assert not page.all("script") and not page.all("link") and "http" not in html.replace("http-equiv", "")
    assert not re.search(r"url\(|@import", html)
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'")


def test_nothing_written_becomes_markup() -> None:
    conversation = Conversation().system(EVIL).user(EVIL, [Picture(EVIL, grey(0.1))])
    conversation = conversation.assistant([Text(EVIL), Picture(EVIL, grey(0.2)), Picture(EVIL)])
    page = Page(story_html(conversation, title=EVIL, details={EVIL: EVIL}, language='"><script>'))
    assert not page.all("script") and len(page.all("img")) == 2
    assert all(set(attributes) == {"src", "width", "height", "alt"} for attributes in page.all("img"))
    assert page.said("title") == page.said("h1") == page.said("dt") == page.said("dd") == [EVIL]
    assert page.said("p") == [EVIL] * 3 and page.said("figcaption") == [EVIL] * 3


def test_paragraphs_lines_and_directions() -> None:
    text = "One.\n\n \nTwo,\nstill two.\n\nשלום 👩\u200d🚀\n"
    html = story_html(Conversation().user("x y z").assistant([Text(text)]), language="he")
    page = Page(html)
    assert page.all("html") == [{"lang": "he"}]
    assert page.said("p") == ["One.", "Two,", "still two.", "שלום 👩\u200d🚀"]
    assert len(page.all("p")) == 3 and len(page.all("br")) == 1
    assert all(p == {"dir": "auto"} for p in page.all("p"))


def test_open_slots_and_user_pictures() -> None:
    conversation = Conversation().user("", [grey(0.5)]).assistant([Picture("later")])
    page = Page(story_html(conversation))
    assert [image["alt"] for image in page.all("img")] == ["A picture from the reader"]
    assert page.said("figcaption") == ["later"] and {"class": "unpainted"} in page.all("figure")


def test_the_folder_has_everything_and_the_same_bytes_again(tmp_path: Path) -> None:
    conversation = story().user("look", [grey(0.9)]).assistant([Picture("last", grey(0.3))])
    page = export_story(conversation, tmp_path / "a" / "deep", {"seed": 7}).path
    assert page == tmp_path / "a" / "deep" / "story.html" and is_story(page.parent)
    pictures = [f"picture_{k}.png" for k in (1, 2, 3, 4)]
    assert sorted(os.listdir(page.parent)) == sorted(
        ["conversation.json", "story.html", "panel_1.png", "panel_2.png", "panel_3.png", *pictures]
    )
    assert (page.parent / "panel_3.png").read_bytes() == (page.parent / "picture_4.png").read_bytes()
    loaded = Conversation.load(page.parent)
    assert loaded.messages() == conversation.messages() and loaded.pictures() == conversation.pictures()
    again = export_story(conversation, tmp_path / "b", {"seed": 7}).path.parent
    assert all((again / n).read_bytes() == (page.parent / n).read_bytes() for n in os.listdir(again))


def test_a_shorter_story_leaves_nothing_of_the_longer(tmp_path: Path) -> None:
    export_story(story(3), tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    export_story(story(1), tmp_path)
    assert sorted(os.listdir(tmp_path)) == [
        "conversation.json", "notes.txt", "panel_1.png", "picture_1.png", "story.html"
    ]  # fmt: skip


def test_pictures_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / "panel_9.png").write_text("not ours")
    assert not is_story(tmp_path)
    export_story(story(1), tmp_path)
    assert (tmp_path / "panel_9.png").read_text() == "not ours"


def test_a_failed_write_leaves_whole_files(tmp_path: Path, monkeypatch) -> None:
    export_story(story(1), tmp_path)
    before = (tmp_path / "story.html").read_bytes()
    real = os.replace

    def failing(source, target) -> None:
        if Path(target).name == "story.html":
            raise OSError("disk full")
        real(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="disk full"):
        export_story(story(2), tmp_path)
    assert (tmp_path / "story.html").read_bytes() == before
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")], "no draft may stay"


def test_is_story_of_other_folders(tmp_path: Path) -> None:
    (tmp_path / "story.html").write_text("x")
    (tmp_path / "conversation.json").write_text("[1")
    assert not is_story(tmp_path) and not is_story(tmp_path / "missing")
    with pytest.raises(ConversationError):
        Conversation.load(tmp_path)


def test_one_pixel_and_very_wide_pictures() -> None:
    conversation = Conversation().user("a b c").assistant([Picture("p"), Picture("q")])
    conversation = conversation.with_picture(Slot(1, 0), grey(1.0, (1, 1)))
    conversation = conversation.with_picture(Slot(1, 1), grey(0.0, (10, 8000)))
    assert [i["width"] for i in Page(story_html(conversation)).all("img")] == ["1", "8000"]
