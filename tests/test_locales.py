"""The pack's texts in the page's languages: English says what the schemas say, and Chinese says all of it."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from comfy_server import ComfyServer
from tools import environment, locales

WEB = environment.REPO / "web"
PATIENCE = 120_000

ENGLISH, CHINESE = (locales.flat(locales.read(language)) for language in ("en", "zh"))
# Labels that Chinese users know by these names and no other.
PROPER_NAMES = {"M2Chat", "CLIP", "VAE", "IP-Adapter", "Top K", "Top P"}
SENTENCES = [key for key in ENGLISH if key.endswith((".tooltip", ".description"))]


def numbers(text: str) -> list[str]:
    """The numbers in a text, in whatever order it has them."""
    return sorted(re.findall(r"\d+(?:\.\d+)*", text))


def names(text: str, name: str) -> bool:
    """Whether an English text speaks of a node by its name."""
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None


# English


def test_english_is_what_the_schemas_say(comfy: ComfyServer) -> None:
    assert locales.read("en") == locales.english(comfy.object_info()), "run python -m tools.locales"


def test_english_is_what_the_scripts_of_the_page_show() -> None:
    chat, gate = ((WEB / name).read_text("utf-8") for name in ("chat.js", "live_gate.js"))
    assert f'tooltip: "{locales.TAB}"' in chat
    title = re.search(r'title: "(.+?)"', chat)[1]
    tab = re.search(r'\bid: "(.+?)"', chat)[1]
    ((command, texts),) = locales.COMMANDS.items()
    assert (command, texts["label"]) == (f"Workspace_ToggleSidebarTab_{tab}", f"Toggle {title} Sidebar")
    assert re.search(r"GATES = (\[.+?\]);", gate)[1] == json.dumps(list(locales.WIDGETS))
    for widgets in locales.WIDGETS.values():
        for name, texts in widgets.items():
            assert f'"{name}"' in gate and f'tooltip: "{texts["tooltip"]}"' in gate


def test_the_panel_says_nothing_past_its_translations() -> None:
    for path in sorted(each for folder in ("chat", "shown") for each in (WEB / folder).glob("*.js")):
        script = path.read_text("utf-8")
        labels = re.findall(r"""(?:"aria-label"|title|placeholder|alt|textContent)(?:: | = )["`].*""", script)
        assert not labels, (path.name, labels)
        for text, given in re.findall(r'\bt\(\s*"([^"]+)"((?:, [^()]+(?:\(\)\S*)?)*)\)', script):
            assert text.count("$") == given.count(","), (path.name, text)


def test_changed_missing_and_unused_texts_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locales, "LOCALES", tmp_path)
    before = {"main": {"same": "One.", "other": "Two."}, "nodeDefs": {"gone": "Three."}, "commands": {}}
    now = {"main": {"same": "One.", "other": "2."}, "nodeDefs": {"new": "Four."}, "commands": {}}
    for language in ("en", "zh"):
        locales.write(language, before)
    assert locales.report(before, before) == []
    assert locales.report(before, now) == [
        "changed: main.other: 2.",
        "zh lacks nodeDefs.new: Four.",
        "zh has nodeDefs.gone, which English lacks",
    ]


# Chinese


def test_chinese_says_all_that_english_says_and_nothing_else() -> None:
    assert list(CHINESE) == list(ENGLISH)
    assert not [key for key, text in CHINESE.items() if not text.strip()]


def test_nothing_is_left_in_english() -> None:
    latin = {key: text for key, text in CHINESE.items() if not re.search(r"[\u4e00-\u9fff]", text)}
    assert not latin.keys() & set(SENTENCES)
    assert set(latin.values()) == PROPER_NAMES


def test_numbers_are_the_same_in_both() -> None:
    assert not [key for key in ENGLISH if numbers(ENGLISH[key]) != numbers(CHINESE[key])]


def test_a_node_is_called_by_its_title_wherever_another_one_speaks_of_it() -> None:
    titles = [key for key in ENGLISH if key.endswith(".display_name")]
    assert len({CHINESE[key] for key in titles}) == len(titles)
    for title in titles:
        spoken_of = [key for key in SENTENCES if names(ENGLISH[key], ENGLISH[title])]
        assert not [key for key in spoken_of if CHINESE[title] not in CHINESE[key]], CHINESE[title]


def test_equal_english_texts_have_equal_chinese_texts() -> None:
    said = defaultdict(set)
    for key in SENTENCES:
        said[ENGLISH[key]].add(CHINESE[key])
    assert not {text: found for text, found in said.items() if len(found) > 1}


# In the page


def test_the_page_takes_no_text_for_a_formula() -> None:
    # vue-i18n: {name} and %{name} are filled in, @:key is a link, | parts singular and plural
    assert not [key for texts in (ENGLISH, CHINESE) for key, text in texts.items() if set(text) & set("{}@|%")]
    assert not [key for key in ENGLISH if set(key) & set("[]\"'")]


def test_comfyui_serves_both_languages(comfy: ComfyServer) -> None:
    served = comfy.get("/i18n")
    for language in ("en", "zh"):
        texts = locales.read(language)
        assert served[language] == {**texts.pop("main"), **texts}


def test_a_chinese_user_finds_chinese_nodes(comfy: ComfyServer, browser: Browser) -> None:
    page = browser.new_page(locale="zh-CN", viewport={"width": 1280, "height": 900})
    page.goto(comfy.url)
    page.wait_for_function("window.app?.extensionManager?.setting && window.app.graph?.nodes", timeout=PATIENCE)
    page.wait_for_timeout(1000)
    page.keyboard.press("Escape")  # the greeting of first-time users would hide the sidebar
    page.get_by_role("button", name="与 M²Chat 聊天").wait_for(timeout=PATIENCE)
    shown = page.evaluate(
        """() => {
            const node = LiteGraph.createNode("M2Chat_FuseM3Adapter");
            app.graph.add(node);
            node.widgets.find(widget => widget.name === "mode").value = "fixed";
            const labels = Object.fromEntries(node.widgets.map(widget => [widget.name, widget.label]));
            const slots = (all) => all.map(slot => slot.localized_name);
            const [inputs, outputs] = [slots(node.inputs), slots(node.outputs)];
            return { title: node.title, category: node.constructor.category, labels, inputs, outputs };
        }"""
    )
    page.get_by_role("button", name="与 M²Chat 聊天").click()
    panel = page.locator(".m2chat-panel")
    panel.get_by_role("heading", name="一起讲故事").wait_for(timeout=PATIENCE)
    panel.get_by_role("button", name="发送").wait_for()
    said = "\n".join(panel.locator(part).inner_text() for part in (".m2chat-log", ".m2chat-composer"))
    lines = [line for line in said.splitlines() if re.search("[a-z]{3}", line)]
    english = [line for line in lines if not re.search(r"[\u4e00-\u9fff]", line)]
    assert len(english) == 3, "the examples are English, and nothing else"
    page.close()
    assert shown["title"] == "M3-Adapter 融合" and shown["category"] == "M2Chat/图片"
    assert {"适配器", "特征", "锚点"} <= set(shown["inputs"]) and shown["outputs"] == ["条件", "门控图", "平均门控"]
    assert (shown["labels"]["gate"], shown["labels"]["mode.value"]) == ("门控", "数值")
