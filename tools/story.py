"""Paint the bundled story with the starter model in a ComfyUI of its own and print the path of its page.

python run.py story                       sets up the environment first
python -m tools.story --panels 6          inside the environment
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import comfy, environment

GRAPH = environment.REPO / "tests" / "workflows" / "storybook.json"
STORY_NODE = "M2Chat_Story"
INPUTS = ("premise", "panels", "gate", "seed")

Json = dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the inputs of the story to a command line."""
    parser.add_argument("about", nargs="?", type=_premise, metavar="PREMISE", help="what the story is about")
    parser.add_argument("--premise", type=_premise, metavar="TEXT", help="the same as PREMISE")
    parser.add_argument("--panels", type=_number(int, 1, 32), metavar="N", help="how many pictures it has")
    parser.add_argument(
        "--gate", type=_number(float, 0, 4), metavar="X", help="0: free; 1: as trained; more: closer to the past"
    )
    parser.add_argument("--seed", type=_number(int, 0, 2**64 - 1), metavar="N", help="another number, another story")


def _premise(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty: say what the story is about")
    return text


def _number(kind: type[int] | type[float], low: int, high: int) -> Callable[[str], int | float]:
    """Return a parser of numbers within limits, which are those of the node."""

    def parsed(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(low - 1)
        if not low <= value <= high:
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"it is {text!r}: give {what} from {low} to {high}")
        return value

    return parsed


def overrides(options: argparse.Namespace) -> Json:
    """Return the inputs that were given on the command line."""
    given = {**vars(options), "premise": options.about or options.premise}
    return {name: given[name] for name in INPUTS if given[name] is not None}


def load_graph(path: Path, inputs: Json) -> Json:
    """Read the graph of the story and set inputs of its story node.

    Raises:
        UserError: The graph is missing, or it has no story node.
    """
    if not path.is_file():
        raise environment.UserError(
            f"The story's graph {path} is missing: restore it with git, or download the pack again."
        )
    graph = json.loads(path.read_text("utf-8"))
    nodes = [node for node in graph.values() if node["class_type"] == STORY_NODE]
    if inputs and not nodes:
        raise environment.UserError(
            f"{path} has no {STORY_NODE} node, so there is nothing to give {', '.join(inputs)} to."
        )
    for node in nodes:
        node["inputs"].update(inputs)
    return graph


def find_page(entry: Json, output: Path) -> Path:
    """Return the HTML page that a finished run reports among the texts of its outputs.

    Args:
        entry: The history entry of the run.
        output: ComfyUI's output folder, to which reported paths are relative.

    Raises:
        UserError: No output reports a page.
    """
    texts = [text for node in entry["outputs"].values() for text in node.get("text", ()) if isinstance(text, str)]
    pages = [output / text.strip() for text in texts if text.strip().endswith(".html")]
    if not pages:
        raise environment.UserError("The graph ran but reported no HTML page: does it still end in an export node?")
    return pages[-1]


class Progress:
    """Print a line for every node that starts and, on a terminal, how far it has come."""

    def __init__(self, graph: Json) -> None:
        """Take the names of the nodes from the graph that will run."""
        self.names = {key: node.get("_meta", {}).get("title", node["class_type"]) for key, node in graph.items()}
        self.current: str | None = None
        self.terminal = sys.stdout.isatty()
        self.counting = False

    def __call__(self, event: Json) -> None:
        """Report an event of the run."""
        data = event["data"]
        if event["type"] == "progress" and self.terminal:
            print(f"\r    {data['value']:.0f} of {data['max']:.0f}  ", end="", flush=True)
            self.counting = True
        elif event["type"] == "executing":
            if self.counting:
                print()
                self.counting = False
            node = data.get("display_node") or data["node"]
            if node is not None and node != self.current:
                print(f"  {self.names.get(node, node)} ...", flush=True)
                self.current = node


def paint(inputs: Json) -> Path:
    """Run the story in a ComfyUI of our own and return the path of its page."""
    graph = load_graph(GRAPH, inputs)
    print("Starting ComfyUI ...", flush=True)
    with comfy.own_server(log=environment.HOME / "comfyui.log") as server:
        server.wait_ready()
        entry = comfy.succeeded(server.follow(graph, Progress(graph), timeout=3600))
    return find_page(entry, environment.BASE / "output")


def main(arguments: Sequence[str] | None = None) -> int:
    """Paint the story that the command line asks for and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.story", description=(__doc__ or "").partition("\n")[0])
    add_options(parser)
    try:
        page = paint(overrides(parser.parse_args(arguments)))
    except (environment.UserError, comfy.ComfyError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"The story is ready:\n{page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
