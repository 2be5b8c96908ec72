"""Run M2Chat without installing anything by hand: its story demo, its tests, or ComfyUI with the pack in it.

commands:
    python run.py story      paint the bundled story with the starter model and print the path of its page
    python run.py test       run the tests (--fast: the library's alone, --all: exhaustive ones too); more go to pytest
    python run.py check      look for mistakes in style, formatting and types
    python run.py bench      measure how fast everything is; --help tells its options
    python run.py docs       write the pages of the library's API
    python run.py comfyui    open ComfyUI with the pack; further arguments go to ComfyUI
    python run.py matrix     test the pack in other versions of ComfyUI, transformers and diffusers
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 - an old Python would show a traceback instead
    sys.exit("run.py needs Python 3.10 or newer.")

from tools import checks, comfy, environment, matrix, story

MOST_WORKERS = 4  # each has a ComfyUI of its own


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; `extra` holds what is passed on to pytest or to ComfyUI."""
    parser = argparse.ArgumentParser(
        prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    painting = commands.add_parser("story", help="paint the bundled story and print the path of its page")
    story.add_options(painting)

    tests = commands.add_parser(
        "test", help="run the tests, all of them with --all; others go to pytest", add_help=False
    )
    tests.add_argument(
        "--fast", action="store_true", help="only those that need neither ComfyUI nor a browser nor much time"
    )

    check = commands.add_parser("check", help="look for mistakes in style, formatting and types")
    check.add_argument("names", nargs="*", metavar="CHECK", help=f"some of {', '.join(checks.COMMANDS)} (default: all)")

    commands.add_parser("bench", help="measure how fast everything is, beside its peers", add_help=False)

    commands.add_parser("docs", help="write the pages of the library's API and print the path of the first")

    versions = commands.add_parser("matrix", help="test in other versions of ComfyUI, transformers and diffusers")
    versions.add_argument("rows", nargs="*", metavar="ROW", help="names of rows (default: all of them)")

    ui = commands.add_parser("comfyui", help="open ComfyUI with the pack; further arguments go to ComfyUI")
    ui.add_argument(
        "--comfyui", type=Path, metavar="PATH", help="your own ComfyUI instead of the one that is set up here"
    )
    ui.add_argument("--port", type=int, default=8188, help="where it listens (default: %(default)s)")

    options, extra = parser.parse_known_args(arguments)
    if extra and options.command in ("story", "check", "docs", "matrix"):
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    if options.command == "check" and (unknown := set(options.names) - checks.COMMANDS.keys()):
        parser.error(f"no check is called {', '.join(sorted(unknown))}: choose from {', '.join(checks.COMMANDS)}")
    options.extra = [argument for argument in extra if argument != "--"]
    return options


def paint_story(options: argparse.Namespace) -> int:
    """Paint the bundled story in a ComfyUI of our own."""
    inputs = story.overrides(options)
    story.load_graph(story.GRAPH, inputs)  # report mistakes before anything is set up
    environment.ensure()
    return environment.run_module("tools.story", *(f"--{name}={value}" for name, value in inputs.items()))


def names_tests(argument: str) -> bool:
    """Return whether an argument for pytest names a file, a folder or a test rather than an option or its value."""
    return not argument.startswith("-") and (environment.REPO / argument.partition("::")[0]).exists()


def run_tests(options: argparse.Namespace) -> int:
    """Run the tests and return the exit code of pytest.

    They are distributed over the processors, file by file, unless the command line names the ones to run.
    """
    environment.ensure()
    arguments = list(options.extra)
    settings = dict(os.environ)
    if options.fast:
        arguments += ["-m", "not comfy and not browser and not slow"]
    if not any(names_tests(argument) for argument in options.extra):
        cores = os.cpu_count() or 1
        workers = min(cores + 1, MOST_WORKERS)  # now and then one waits for a page or a process
        arguments += ["-n", str(workers), "--dist", "loadfile", "--no-loadscope-reorder"]
        # More threads would only compete for the cores.
        settings.setdefault("OMP_NUM_THREADS", str(max(1, cores // workers)))
    return subprocess.call([str(environment.PYTHON), "-m", "pytest", *arguments], cwd=environment.REPO, env=settings)


def run_checks(options: argparse.Namespace) -> int:
    """Run the checks of the source code; the exit code is the number of those that failed."""
    environment.ensure()
    return checks.run(options.names)


def measure(options: argparse.Namespace) -> int:
    """Run the benchmark, whose rows in ComfyUI start one; paths on its command line are those of the caller."""
    environment.ensure()
    settings = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(environment.REPO), os.environ.get("PYTHONPATH")))),
    }
    return subprocess.call([str(environment.PYTHON), "-m", "tools.bench", *options.extra], env=settings)


def write_docs(options: argparse.Namespace) -> int:
    """Write the pages of the library's API from its docstrings; pdoc's exit code is ours."""
    environment.ensure()
    folder = environment.HOME / "docs"
    library = environment.REPO / "m3adapter"
    parts = sorted(path.stem for path in library.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file())
    modules = ["m3adapter", *(f"m3adapter.{name}" for name in parts if not name.startswith("_"))]
    command = [environment.PYTHON, "-m", "pdoc", "--docformat", "google", "--output-directory", folder, *modules]
    code = subprocess.call([str(part) for part in command], cwd=environment.REPO)
    if not code:
        print(folder / "index.html")
    return code


def run_matrix(options: argparse.Namespace) -> int:
    """Test the pack in environments of other versions; the exit code is the number of those that failed."""
    return matrix.run(options.rows)


def open_comfyui(options: argparse.Namespace) -> int:
    """Start ComfyUI on the console with the pack in it and open the browser; Ctrl-C ends it."""
    if options.comfyui is None:
        environment.ensure()
        start = comfy.own_server(*options.extra, port=options.port)
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


def first_template(source: str) -> str:
    """Return the query that opens the storybook, or "" if ComfyUI does not accept the name of the folder.

    Args:
        source: The name of the pack's folder in custom_nodes, under which ComfyUI serves its templates.
    """
    if not re.fullmatch(r"[\w.-]+", source, re.ASCII):
        return ""
    return f"/?template={environment.FIRST_TEMPLATE}&source={source}"


def existing_server(engine: Path, *arguments: str, port: int) -> comfy.Server:
    """Start the user's ComfyUI with its own Python."""
    python = find_python(engine)
    if missing := missing_packages(python):
        print(
            f"ComfyUI's Python has no {' and no '.join(missing)}: if a node asks for it, run\n"
            f'  "{python}" -m pip install -r "{environment.REQUIREMENTS}"',
            flush=True,
        )
    return comfy.Server(python, engine, *arguments, port=port)


def find_comfyui(path: Path) -> Path:
    """Return the folder with main.py: the path itself or, in the portable edition, ComfyUI below it.

    Raises:
        UserError: There is no ComfyUI in the folder.
    """
    for folder in (path, path / "ComfyUI"):
        if (folder / "main.py").is_file() and (folder / "custom_nodes").is_dir():
            return folder.resolve()
    raise environment.UserError(
        f"There is no ComfyUI in {path}: give the folder that has its main.py and custom_nodes."
    )


def find_python(engine: Path) -> Path:
    """Return the interpreter that belongs to a ComfyUI, or the current one if it brings none."""
    for home in (engine / "venv", engine / ".venv", engine.parent / "python_embeded"):
        for name in ("bin/python", "Scripts/python.exe", "python.exe"):
            if (home / name).is_file():
                return home / name
    return Path(sys.executable)


def missing_packages(python: Path) -> list[str]:
    """Return the packages of requirements.txt that an interpreter lacks; nothing is installed.

    Raises:
        UserError: The interpreter does not run.
    """
    lines = environment.REQUIREMENTS.read_text("utf-8").splitlines()
    names = [match[0] for line in lines if (match := re.match(r"[\w.-]+", line))]
    code = (
        "import sys, importlib.metadata as m\n"
        "have = {(d.metadata['Name'] or '').lower() for d in m.distributions()}\n"
        "print(*(name for name in sys.argv[1:] if name.lower() not in have))"
    )
    answer = subprocess.run([str(python), "-c", code, *names], capture_output=True, text=True)
    if answer.returncode:
        raise environment.UserError(f"{python} does not run: {answer.stderr.strip()}")
    return answer.stdout.split()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the command line names and return the exit code."""
    options = parse(arguments)
    commands = {
        "story": paint_story,
        "test": run_tests,
        "check": run_checks,
        "bench": measure,
        "docs": write_docs,
        "matrix": run_matrix,
        "comfyui": open_comfyui,
    }
    try:
        return commands[options.command](options)
    except (environment.UserError, comfy.ComfyError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
