"""Run M2Chat without installing anything by hand: its story demo, its tests, or ComfyUI with the pack in it.

commands:
    python run.py story      paint the bundled story with the starter model and print the path of its page
    python run.py test       run all tests (--fast: the library's alone); further arguments go to pytest
    python run.py comfyui    open ComfyUI with the pack; further arguments go to ComfyUI
    python run.py matrix     test the pack in other versions of ComfyUI, transformers and diffusers
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if sys.version_info < (3, 10):  # noqa: UP036 - says so in words where an old Python would show a traceback
    sys.exit("run.py needs Python 3.10 or newer.")

from tools import comfy, environment

STORY = environment.REPO / "tests" / "workflows" / "storybook.json"
STORY_NODE = "M2Chat_Story"
MOST_WORKERS = 4  # each has a ComfyUI of its own
STORY_INPUTS = ("premise", "panels", "gate", "seed")


class UserError(RuntimeError):
    """Something that the user can mend; the message says how."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; ``extra`` holds what goes on to pytest or to ComfyUI."""
    parser = argparse.ArgumentParser(
        prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    story = commands.add_parser("story", help="paint the bundled story and print the path of its page")
    story.add_argument("--premise", metavar="TEXT", help="what the story is about")
    story.add_argument("--panels", type=int, metavar="N", help="how many pictures it has")
    story.add_argument("--gate", type=float, metavar="X", help="0: free; 1: as trained; more: closer to the past")
    story.add_argument("--seed", type=int, metavar="N", help="another number, another story")

    tests = commands.add_parser("test", help="run all tests; further arguments go to pytest", add_help=False)
    tests.add_argument("--fast", action="store_true", help="only those that need neither ComfyUI nor much time")

    matrix = commands.add_parser("matrix", help="test in other versions of ComfyUI, transformers and diffusers")
    matrix.add_argument("rows", nargs="*", metavar="ROW", help="names of rows; all of them without any")

    ui = commands.add_parser("comfyui", help="open ComfyUI with the pack; further arguments go to ComfyUI")
    ui.add_argument("--comfyui", type=Path, metavar="PATH", help="a ComfyUI of yours instead of the one set up here")
    ui.add_argument("--port", type=int, default=8188, help="where it listens (default: %(default)s)")

    options, extra = parser.parse_known_args(arguments)
    if extra and options.command in ("story", "matrix"):
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    options.extra = [argument for argument in extra if argument != "--"]
    return options


def load_story(path: Path, overrides: dict[str, Any]) -> dict[str, Any]:
    """Read the story's graph and set the inputs of its story node."""
    if not path.is_file():
        raise UserError(f"The story's graph {path} is missing: restore it with git, or download the pack again.")
    graph = json.loads(path.read_text("utf-8"))
    nodes = [node for node in graph.values() if node["class_type"] == STORY_NODE]
    if overrides and not nodes:
        raise UserError(f"{path} has no {STORY_NODE} node, so there is nothing to give {', '.join(overrides)} to.")
    for node in nodes:
        node["inputs"].update(overrides)
    return graph


def find_page(entry: dict[str, Any], output: Path) -> Path:
    """Return the HTML page that a finished run reports among the texts of its outputs."""
    texts = [text for node in entry["outputs"].values() for text in node.get("text", ()) if isinstance(text, str)]
    pages = [output / text.strip() for text in texts if text.strip().endswith(".html")]
    if not pages:
        raise UserError("The graph ran but reported no HTML page: does it still end in an export node?")
    return pages[-1]


class Progress:
    """Print a line for every node that starts and, on a terminal, how far it is."""

    def __init__(self, graph: dict[str, Any]) -> None:
        self.names = {key: node.get("_meta", {}).get("title", node["class_type"]) for key, node in graph.items()}
        self.current: str | None = None
        self.terminal = sys.stdout.isatty()
        self.counting = False

    def __call__(self, event: dict[str, Any]) -> None:
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


def story(options: argparse.Namespace) -> int:
    """Paint the bundled story in a ComfyUI of our own."""
    overrides = {name: value for name in STORY_INPUTS if (value := getattr(options, name)) is not None}
    graph = load_story(STORY, overrides)
    environment.ensure()
    print("Starting ComfyUI ...", flush=True)
    with own_server(log=environment.HOME / "comfyui.log") as server:
        server.wait_ready()
        entry = comfy.succeeded(server.follow(graph, Progress(graph), timeout=3600))
    page = find_page(entry, environment.BASE / "output")
    print(f"The story is ready:\n{page}")
    return 0


def test(options: argparse.Namespace) -> int:
    """Run the tests; pytest's exit code is ours.

    They are shared among the processors, file by file, unless somebody names the ones to run.
    """
    environment.ensure()
    arguments = list(options.extra)
    settings = dict(os.environ)
    if options.fast:
        arguments += ["-m", "not comfy and not browser and not slow"]
    if all(argument.startswith("-") for argument in options.extra):
        cores = os.cpu_count() or 1
        workers = min(cores, MOST_WORKERS)
        arguments += ["-n", str(workers), "--dist", "loadfile"]
        settings.setdefault("OMP_NUM_THREADS", str(max(1, cores // workers)))  # else they would get in each other's way
    return subprocess.call([str(environment.PYTHON), "-m", "pytest", *arguments], cwd=environment.REPO, env=settings)


def matrix(options: argparse.Namespace) -> int:
    """Test the pack in environments of other versions; the exit code is how many of them fail."""
    from tools import matrix

    return matrix.run(options.rows)


def comfyui(options: argparse.Namespace) -> int:
    """Start ComfyUI on the console with the pack in it and open the browser; Ctrl-C ends it."""
    if options.comfyui is None:
        environment.ensure()
        start = own_server(*options.extra, port=options.port)
        first = first_template("m2chat") if environment.is_new(environment.BASE) else ""
    else:
        engine = find_comfyui(options.comfyui)
        link = environment.link_pack(engine / "custom_nodes")
        print(f"The pack is in {link}.", flush=True)
        start = existing_server(engine, *options.extra, port=options.port)
        first = first_template(link.name)
    with start as server:
        server.wait_ready()
        page = server.url + first
        print(f"ComfyUI is at {page}; Ctrl-C ends it.", flush=True)
        webbrowser.open(page)
        return server.process.wait()


def own_server(*arguments: str, port: int | None = None, log: Path | None = None) -> comfy.Server:
    """Start the ComfyUI of our own environment."""
    base = environment.prepare_base(environment.BASE)
    device = [] if environment.has_accelerator() or "--cpu" in arguments else ["--cpu"]
    return comfy.Server(environment.PYTHON, environment.ENGINE, *base, *device, *arguments, port=port, log=log)


def first_template(source: str) -> str:
    """What follows ComfyUI's address to open the storybook; nothing where ComfyUI takes no such name for a source.

    Args:
        source: the name of the pack's folder in custom_nodes, below which ComfyUI serves its templates.
    """
    if not re.fullmatch(r"[\w.-]+", source, re.ASCII):
        return ""
    return f"/?template={environment.FIRST_TEMPLATE}&source={source}"


def existing_server(engine: Path, *arguments: str, port: int) -> comfy.Server:
    """Start a ComfyUI of the user's with its own Python."""
    python = find_python(engine)
    if missing := missing_packages(python):
        print(
            f"ComfyUI's Python has no {' and no '.join(missing)}: if a node asks for it, run\n"
            f'  "{python}" -m pip install -r "{environment.REQUIREMENTS}"',
            flush=True,
        )
    return comfy.Server(python, engine, *arguments, port=port)


def find_comfyui(path: Path) -> Path:
    """Return the folder with main.py: the path itself or, in the portable edition, ComfyUI below it."""
    for folder in (path, path / "ComfyUI"):
        if (folder / "main.py").is_file() and (folder / "custom_nodes").is_dir():
            return folder.resolve()
    raise UserError(f"There is no ComfyUI in {path}: give the folder that has its main.py and custom_nodes.")


def find_python(engine: Path) -> Path:
    """Return the interpreter that belongs to a ComfyUI, or the current one if it brings none."""
    for home in (engine / "venv", engine / ".venv", engine.parent / "python_embeded"):
        for name in ("bin/python", "Scripts/python.exe", "python.exe"):
            if (home / name).is_file():
                return home / name
    return Path(sys.executable)


def missing_packages(python: Path) -> list[str]:
    """Return which packages of requirements.txt an interpreter does not have; installs nothing."""
    lines = environment.REQUIREMENTS.read_text("utf-8").splitlines()
    names = [match[0] for line in lines if (match := re.match(r"[\w.-]+", line))]
    code = (
        "import sys, importlib.metadata as m\n"
        "have = {(d.metadata['Name'] or '').lower() for d in m.distributions()}\n"
        "print(*(name for name in sys.argv[1:] if name.lower() not in have))"
    )
    answer = subprocess.run([str(python), "-c", code, *names], capture_output=True, text=True)
    if answer.returncode:
        raise UserError(f"{python} does not run: {answer.stderr.strip()}")
    return answer.stdout.split()


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for and return the exit code."""
    options = parse(arguments)
    commands = {"story": story, "test": test, "matrix": matrix, "comfyui": comfyui}
    try:
        return commands[options.command](options)
    except (UserError, comfy.ComfyError, environment.SetupError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
