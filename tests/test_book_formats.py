"""A story as Markdown, PDF, EPUB and pages: complete, free of scripts, and the same bytes every time."""

from __future__ import annotations

import io
import json
import re
import unicodedata
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pypdfium2
import pytest
import torch
from markdown_it import MarkdownIt
from PIL import Image
from playwright.sync_api import Browser

from m3adapter.conversation.conversation import Conversation, Picture, Text
from m3adapter.conversation.displayed import displayed
from m3adapter.export.epub import story_epub
from m3adapter.export.html import story_html
from m3adapter.export.markdown import story_markdown
from m3adapter.export.pages import pdf
from m3adapter.export.pages.layout import lay_out
from m3adapter.export.story import FORMATS, check_formats, export_story, is_story

EVIL = (
    "<script>window.hurt = 1</script> \"'&<img src=x onerror='window.hurt = 1'> [a](javascript:hurt) "
    "![b](http://evil.example/x.png) `c` *d* _e_ ~~f~~ $g$ &amp; ]]> --> www.evil.example <http://evil.example>"
)
CONTROLS = "\u202egnp.exe\u202c \u2066x\u2069 \x07\x1b[31m \ufffe\uffff\x00"
LINES = "# h\n1. x\n- y\n+ z\n    code\n===\n---\n| a | b |\n> q\n\\\n[r]: http://evil.example"
KEPT = "\u200d\u200f"  # emoji and right-to-left text need them
OPF = "{http://www.idpf.org/2007/opf}"
XHTML = "{http://www.w3.org/1999/xhtml}"


def evil() -> Conversation:
    """Everything dangerous, everywhere."""
    image = torch.full((8, 8, 3), 0.5)
    text = f"{EVIL}{CONTROLS}\n\n{LINES}\n\n{KEPT}" + "x" * 100_000
    conversation = Conversation().system(EVIL).user(EVIL + "\n" + LINES, [Picture(EVIL, image)])
    return conversation.assistant([Text(text), Picture(EVIL + "\n" + LINES, image, 3, 1.0), Picture(EVIL)])


def story() -> Conversation:
    conversation = Conversation().user("A fox finds a lantern.")
    conversation = conversation.assistant([Text("It glows."), Picture("a fox", torch.full((8, 8, 3), 0.25), 7, 1.0)])
    conversation = conversation.user("What is next?", [torch.full((4, 4, 3), 0.75)])
    return conversation.assistant([Picture("a fox at home", torch.full((8, 8, 3), 0.5)), Text("It reads.\nAll night.")])


def plain(text: str) -> str:
    """The letters and digits of a text, however it is set."""
    return "".join(character for character in text if character.isalnum())


# Every text


def test_what_reorders_or_breaks_a_page_is_left_out() -> None:
    shown = displayed(CONTROLS + KEPT + "\r\na\u2028b\tc\ufdd0\U0001ffff\ud800")
    assert shown == "gnp.exe x [31m " + KEPT + "\na\nb\tc"
    assert not any(unicodedata.bidirectional(character) in ("RLO", "LRO", "RLE", "LRE", "PDF") for character in shown)


def test_every_format_is_written_and_the_same_again(tmp_path: Path) -> None:
    how = {"formats": list(FORMATS), "metadata": {"workflow": "{}"}, "layout": {"width": 600}}
    one, two = (export_story(story(), tmp_path / name, {"seed": 7}, **how) for name in "ab")
    assert one.path == tmp_path / "a" / "story.html" and one.notes == ()
    names = {path.name for path in one.path.parent.iterdir()}
    assert names >= set(FORMATS.values()) and is_story(one.path.parent)
    for name in names:
        assert (one.path.parent / name).read_bytes() == (two.path.parent / name).read_bytes(), name
    export_story(story(), tmp_path / "a", formats=["epub"])
    left = {path.name for path in (tmp_path / "a").iterdir()} & {*FORMATS.values(), "page_2.png"}
    assert left == {"story.epub"}, "an earlier export's files stay"


def test_unknown_formats_and_missing_packages_are_reported_before_anything_is_written(
    tmp_path: Path, monkeypatch
) -> None:
    for formats, says in ((["docx"], "The format is docx: choose from html, markdown"), ([], "The format is missing")):
        with pytest.raises(ValueError, match=says):
            export_story(story(), tmp_path / "x", formats=formats)
    monkeypatch.setattr(pdf, "_PACKAGES", {"no_such_module": "no-such-package", "fpdf": "fpdf2"})
    with pytest.raises(
        ValueError, match="For PDF, no-such-package must be installed: run `pip install no-such-package`"
    ):
        check_formats(["pdf"])
    assert not (tmp_path / "x").exists()


def test_panels_and_pages_carry_the_workflow_and_how_they_were_painted(tmp_path: Path) -> None:
    chunks = {"prompt": '{"1": "ü"}', "workflow": '{"nodes": []}'}
    export_story(story(), tmp_path, formats=["pages"], metadata=chunks, layout={"width": 600})
    panel, page = (Image.open(tmp_path / name).text for name in ("panel_1.png", "page_1.png"))
    assert {name: panel[name] for name in chunks} == {name: page[name] for name in chunks} == chunks
    assert json.loads(panel["m2chat"]) == {"caption": "a fox", "seed": 7, "gate": 1.0}
    assert page["Title"] == "A fox finds a lantern." and panel["Description"] == "a fox"
    export_story(story(), tmp_path, formats=["pages"], layout={"width": 600})
    assert not Image.open(tmp_path / "panel_1.png").text and not Image.open(tmp_path / "page_1.png").text


# HTML


def test_html_opens_offline_asks_for_nothing_and_runs_nothing(browser: Browser, tmp_path: Path) -> None:
    export_story(evil(), tmp_path, {EVIL: EVIL}, title=EVIL)
    context = browser.new_context(offline=True)
    page, requests = context.new_page(), []
    page.on("request", lambda request: requests.append(request.url))
    page.goto((tmp_path / "story.html").as_uri())
    assert [url for url in requests if not url.startswith("data:")] == [(tmp_path / "story.html").as_uri()]
    assert (
        page.evaluate("window.hurt") is None and page.evaluate("document.scripts.length + document.links.length") == 0
    )
    assert page.evaluate("[...document.images].every(image => image.naturalWidth === 8)")
    text = page.evaluate("document.body.innerText")
    assert text.count("<script>window.hurt = 1</script>") >= 6 and "x" * 100_000 in text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x07\ufffe]", text)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "a long word widens the page"
    context.close()


def test_html_names_its_title_and_maker() -> None:
    html = story_html(story(), title="The <Lantern>")
    assert '<meta name="dc.title" content="The &lt;Lantern&gt;">' in html
    assert '<meta name="generator" content="M2Chat for ComfyUI">' in html


# Markdown


def test_markdown_shows_what_was_written_and_nothing_else() -> None:
    parser = MarkdownIt("commonmark", {"linkify": False}).enable(["table", "strikethrough"])
    tokens = parser.parse(story_markdown(evil(), title=EVIL, details={EVIL: EVIL}))
    inline = [child for token in tokens for child in token.children or []]
    assert {token.type for token in inline} <= {
        "text",
        "hardbreak",
        "softbreak",
        "image",
        "em_open",
        "em_close",
        "text_special",
    }
    assert [dict(token.attrs)["src"] for token in inline if token.type == "image"] == ["picture_1.png", "picture_2.png"]
    assert {token.type.removesuffix("_open") for token in tokens if token.type.endswith("_open")} == {
        "heading", "paragraph", "blockquote", "bullet_list", "list_item"
    }  # fmt: skip
    assert len([token for token in tokens if token.type == "heading_open"]) == 1
    text = "".join(token.content if token.type != "hardbreak" else "\n" for token in inline)
    assert text.count(EVIL) >= 6 and "x" * 100_000 in text
    for line in LINES.split("\n"):
        assert line.strip() in text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x07\ufffe]", text)
    assert not re.search(r"(?<!\\)(:|ww)(//|w\.)", story_markdown(evil())), "GitHub makes links of bare addresses"


def test_markdown_of_a_story_is_easy_to_read() -> None:
    assert story_markdown(story(), details={"seed": 7}) == (
        "# A fox finds a lantern.\n\nIt glows.\n\n![a fox](picture_1.png)\n\n*a fox*\n\n"
        "> ![A picture from the reader](picture_2.png)\n>\n> What is next?\n\n"
        "![a fox at home](picture_3.png)\n\n*a fox at home*\n\nIt reads.\\\nAll night.\n\n---\n\n- seed: 7\n"
    )


# EPUB


def opened(data: bytes) -> tuple[zipfile.ZipFile, ElementTree.Element]:
    """The archive, and its package document."""
    archive = zipfile.ZipFile(io.BytesIO(data))
    container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
    (rootfile,) = container.iter("{urn:oasis:names:tc:opendocument:xmlns:container}rootfile")
    return archive, ElementTree.fromstring(archive.read(rootfile.get("full-path")))


@pytest.mark.parametrize("conversation", (story(), evil(), Conversation().user("x").assistant([Text("y")])))
def test_an_epub_keeps_the_rules_of_its_container(conversation: Conversation) -> None:
    archive, package = opened(story_epub(conversation, title="A & B", details={"seed": 7}))
    first = archive.infolist()[0]
    assert (first.filename, first.compress_type, first.extra) == ("mimetype", zipfile.ZIP_STORED, b"")
    assert archive.read("mimetype") == b"application/epub+zip" and archive.testzip() is None
    assert package.get("version") == "3.0"
    identifier = package.find(".//*[@id='id']")
    assert package.get("unique-identifier") == "id" and re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", identifier.text)
    modified = [meta.text for meta in package.iter(f"{OPF}meta") if meta.get("property") == "dcterms:modified"]
    assert modified == ["2000-01-01T00:00:00Z"]
    assert package.find(".//{http://purl.org/dc/elements/1.1/}title").text == "A & B"
    items = {item.get("id"): item for item in package.iter(f"{OPF}item")}
    files = {f"EPUB/{item.get('href')}" for item in items.values()}
    assert files | {"mimetype", "META-INF/container.xml", "EPUB/package.opf"} == set(archive.namelist())
    assert [item.get("properties") for item in items.values()].count("nav") == 1
    assert {itemref.get("idref") for itemref in package.iter(f"{OPF}itemref")} <= items.keys()
    for item in items.values():
        if item.get("media-type") == "application/xhtml+xml":
            page = ElementTree.fromstring(archive.read(f"EPUB/{item.get('href')}"))
            ids = [element.get("id") for element in page.iter() if element.get("id")]
            assert len(ids) == len(set(ids))
            for image in page.iter(f"{XHTML}img"):
                assert f"EPUB/{image.get('src')}" in files and image.get("alt")
            for link in page.iter(f"{XHTML}a"):
                name, _, fragment = link.get("href").partition("#")
                target = ElementTree.fromstring(archive.read(f"EPUB/{name}"))
                assert not fragment or target.find(f".//*[@id='{fragment}']") is not None


def test_an_epub_shows_what_was_written_and_runs_nothing() -> None:
    archive, _ = opened(story_epub(evil(), title=EVIL, details={EVIL: EVIL}, language="he"))
    page = ElementTree.fromstring(archive.read("EPUB/story.xhtml"))
    kinds = {element.tag.removeprefix(XHTML) for element in page.iter()}
    allowed = "html head title link body main h1 aside section p br figure img figcaption footer dl dt dd"
    assert kinds <= {*allowed.split(" ")}
    assert not any(name.startswith("on") for element in page.iter() for name in element.attrib)
    text = "".join(page.itertext())
    assert text.count("<script>window.hurt = 1</script>") >= 6 and "x" * 100_000 in text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x07\ufffe]", text) and page.get("lang") == "he"
    assert len(list(page.iter(f"{XHTML}img"))) == 2


# PDF


def test_a_pdf_has_its_text_as_text_and_its_pictures_with_descriptions() -> None:
    book, _ = lay_out(story(), layout="one per page", width=800, title="The Lantern")
    data = pdf.pdf_bytes(book)
    document = pypdfium2.PdfDocument(data)
    text = "".join(page.get_textpage().get_text_range() for page in document)
    assert plain("The Lantern It glows 1 It reads All night 2") == plain(text)
    assert document.get_metadata_dict()["Title"] == "The Lantern"
    assert len(document) == len(book.pages) and document[0].get_width() == pytest.approx(595.28, abs=0.01)
    picture = document[1].render(scale=1).to_pil().convert("RGB")
    greys = {picture.getpixel((x, 300)) for x in range(picture.width)}
    assert any(abs(r - 64) < 3 and r == g == b for r, g, b in greys), "the picture is missing"
    assert b"/Alt" in data and b"/JavaScript" not in data and b"/URI" not in data
    document.close()


@pytest.mark.slow
def test_a_pdf_shows_what_was_written() -> None:
    book, _ = lay_out(evil(), width=1600, title=EVIL)
    document = pypdfium2.PdfDocument(pdf.pdf_bytes(book))
    text = "".join(page.get_textpage().get_text_range() for page in document)
    text = re.sub("[\ufffe\x02\r\n]", "", text)  # as which PDFium reports hyphens and the ends of lines
    assert plain("<script>window.hurt = 1</script>") in plain(text) and plain("[a](javascript:hurt)") in plain(text)
    assert text.count("x") >= 100_000 and "\u202e" not in text
    document.close()


def test_a_pdf_sets_both_directions_and_every_script_that_a_font_has() -> None:
    book, _ = lay_out(Conversation().user("x").assistant(
        [Text("Η αλεπού. Лиса. שלום לכולם Größe"), Picture("a", torch.zeros(8, 8, 3))]), width=800)  # fmt: skip
    document = pypdfium2.PdfDocument(pdf.pdf_bytes(book))
    text = document[0].get_textpage().get_text_range()
    assert all(word in text for word in ("αλεπού", "Лиса", "שלום", "Größe"))
    document.close()
