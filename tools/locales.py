"""Write the English texts of the nodes and the chat panel, and report what other languages lack.

    python -m tools.locales

Starts ComfyUI and writes `locales/en` from the schemas of the nodes; do not edit it by hand. Then prints which texts
have changed and must be translated again, and which texts other languages lack or no longer need.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from . import comfy, environment

Texts = dict[str, Any]

LOCALES = environment.REPO / "locales"
ENGLISH = "en"
FILES = ("main", "nodeDefs", "commands")
PACK = "M2Chat_"

# Texts of the scripts in web/, under the keys that the page uses: the tooltip of the sidebar is its own key.
TAB = "Chat with M²Chat"
COMMANDS = {"Workspace_ToggleSidebarTab_m2chat": {"label": "Toggle M²Chat Sidebar"}}
LIVE = "Paint again while the gate is turned: with few steps while the hand moves, with all when it rests."
WIDGETS = {name: {"live": {"tooltip": LIVE}} for name in ("M2Chat_FuseM3Adapter", "M2Chat_GateReferences")}
# The chat panel looks up its texts by their English, in which $ is a placeholder.
PANEL = "m2chatPanel"
PANEL_TEXT = re.compile(r'\bt\(\s*"([^"]+)"')


def key_of(name: str) -> str:
    """Return the key of a name in the page's texts, in which a dot would lead to the next level."""
    return name.replace(".", "_")


def inputs_of(info: Texts, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield the inputs of a node, including those inside dynamic ones.

    Args:
        info: `input` of a node in /object_info.
        prefix: Of the names.

    Yields:
        The name in the page, the displayed name, and the tooltip.
    """
    for group in ("required", "optional"):
        for name, (type, options) in info.get(group, {}).items():
            yield prefix + name, name, options["tooltip"]
            if type == "COMFY_DYNAMICCOMBO_V3":
                for option in options["options"]:
                    yield from inputs_of(option["inputs"], f"{prefix}{name}.")
            elif type == "COMFY_AUTOGROW_V3":
                template = options["template"]
                for _, _, tooltip in inputs_of(template["input"]):
                    for label in (f"{template['prefix']}{number}" for number in range(template["max"])):
                        yield f"{prefix}{name}.{label}", label, tooltip


def words(name: str) -> str:
    """Return the name of an input or output as it is displayed."""
    return name.replace("_", " ")


def node_texts(info: Texts) -> Texts:
    """Return the texts of a node from its entry in /object_info."""
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": {
            key_of(name): {"name": words(label), "tooltip": tooltip}
            for name, label, tooltip in inputs_of(info["input"])
        },
        "outputs": {
            str(index): {"name": words(name), "tooltip": tooltip}
            for index, (name, tooltip) in enumerate(zip(info["output_name"], info["output_tooltips"], strict=True))
        },
    }


def panel_texts() -> Texts:
    """Return the texts of the chat panel from its scripts."""
    scripts = sorted((environment.REPO / "web").rglob("*.js"))
    texts = sorted({text for path in scripts for text in PANEL_TEXT.findall(path.read_text("utf-8"))})
    return {text: text for text in texts}


def english(nodes: Texts) -> Texts:
    """Return the content of `locales/en`, by file, from /object_info."""
    nodes = {name: info for name, info in sorted(nodes.items()) if name.startswith(PACK)}
    parts = sorted({part for info in nodes.values() for part in info["category"].split("/")})
    texts = {name: node_texts(info) for name, info in nodes.items()}
    for name, widgets in WIDGETS.items():
        texts[name]["inputs"] |= widgets
    return {
        "main": {"nodeCategories": {part: part for part in parts}, TAB: TAB, PANEL: panel_texts()},
        "nodeDefs": texts,
        "commands": COMMANDS,
    }


def read(language: str) -> Texts:
    """Read the texts of a language, by file; a missing file is empty."""
    paths = {name: LOCALES / language / f"{name}.json" for name in FILES}
    return {name: json.loads(path.read_text("utf-8")) if path.is_file() else {} for name, path in paths.items()}


def write(language: str, texts: Texts) -> None:
    """Write the texts of a language, by file."""
    (LOCALES / language).mkdir(parents=True, exist_ok=True)
    for name in FILES:
        text = json.dumps(texts[name], ensure_ascii=False, indent=2)
        (LOCALES / language / f"{name}.json").write_text(f"{text}\n", "utf-8", newline="\n")


def flat(texts: Texts, prefix: str = "") -> dict[str, str]:
    """Return the texts by their full keys, such as `nodeDefs.M2Chat_Decode.inputs.seed.tooltip`."""
    found: dict[str, str] = {}
    for key, value in texts.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def report(before: Texts, now: Texts) -> list[str]:
    """Return what must be done in other languages after a change of English, a line each."""
    old, new = flat(before), flat(now)
    lines = [f"changed: {key}: {new[key]}" for key in new if old.get(key, new[key]) != new[key]]
    for language in sorted(path.name for path in LOCALES.iterdir() if path.name != ENGLISH):
        have = flat(read(language))
        lines += [f"{language} lacks {key}: {new[key]}" for key in new if key not in have]
        lines += [f"{language} has {key}, which English lacks" for key in have if key not in new]
    return lines


def main() -> int:
    """Write English and return the exit code, which is 1 if another language must be changed."""
    with comfy.fresh_server() as server:
        now = english(server.get("/object_info"))
    before = read(ENGLISH)
    write(ENGLISH, now)
    lines = report(before, now)
    print("\n".join(lines) or "All languages say what English says.")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
