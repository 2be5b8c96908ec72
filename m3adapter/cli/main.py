"""The command line: `python -m m3adapter {story,chat,train,evaluate,bench}`."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from .. import values
from ..arguments import (
    USER_ERROR,
    Parser,
    UserError,
    check_writable,
    mendable,
)
from ..conversation.storage import write_file
from ..events import Event, Interrupted, NotFinite, SoFar
from ..export.pages.panels import WORDS
from ..export.pages.styles import LAYOUTS
from ..export.story import FORMATS, check_formats, export_story, is_story
from ..version import __version__
from ..weights.starter import STARTER, WORLDS, check_weights, world_of
from .bench import add_options as add_bench_options
from .chat import Chat, check_output
from .console import (
    add_model_options,
    add_painting_options,
    add_writing_options,
    check_device,
    check_size,
    load_model,
    printing,
    quiet_loading,
    turn_settings,
)
from .evaluate_data import add_data_options, check_data_options, check_report, check_without_data

COMPONENTS = ("autoencoder", "clip", "decoder", "language", "judge", "m3ft", "ip", "edit", "starter")
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 2 after a mistake of the user, 130 after Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a character must not end a story
            stream.reconfigure(errors="replace")
    try:
        options = _parser().parse_args(arguments)
        return options.run(options) or 0
    except (UserError, NotFinite) as error:
        print(f"m3adapter: {error}", file=sys.stderr)
        return USER_ERROR
    except (KeyboardInterrupt, Interrupted):
        print("\nInterrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output is gone. Python would complain once more when it flushes stdout at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="m3adapter", description="M²Chat: illustrated stories from one multimodal language model.")
    parser.add_argument("--version", action="version", version=f"m3adapter {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    story = commands.add_parser("story", help="tell an illustrated story and write it as a page")
    story.add_argument("premise", metavar="PREMISE", help="what the story is about")
    story.add_argument("--panels", type=int, default=4, metavar="N", help="how many parts (default: %(default)s)")
    story.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="the folder to write it to; an earlier story there is replaced",
    )
    story.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=["html"],
        metavar="F",
        help=f"{', '.join(FORMATS)} (default: html)",
    )
    story.add_argument("--layout", choices=LAYOUTS, default="one per page", help="for pdf and pages: %(choices)s")
    story.add_argument("--words", choices=WORDS, default="below", help="for pdf and pages: %(choices)s")
    story.add_argument("--overwrite", action="store_true", help="write there even if the folder holds other files")
    add_painting_options(story)
    add_writing_options(story)
    add_model_options(story)
    story.set_defaults(run=_story)

    chat = commands.add_parser("chat", help="talk in the terminal")
    add_painting_options(chat)
    add_writing_options(chat)
    add_model_options(chat)
    chat.set_defaults(run=_chat)

    train = commands.add_parser("train", help="train an adapter by a recipe, or a component of the starter")
    train.add_argument("component", metavar="RECIPE", help=f"a TOML file, or a component: {', '.join(COMPONENTS)}")
    train.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="its own arguments, such as --help")
    train.set_defaults(run=_train)

    evaluate = commands.add_parser("evaluate", help="measure a set of weights")
    evaluate.add_argument("--output", type=Path, required=True, metavar="FILE", help="the report to write, as JSON")
    evaluate.add_argument("--pictures", type=int, metavar="N", help="how many pictures to paint for each measurement")
    evaluate.add_argument("--seed", type=int, default=0, metavar="N", help="the seed (default: %(default)s)")
    evaluate.add_argument(
        "--without", choices=("low-level", "gate"), help="ablation: no references, or an always-open gate"
    )
    evaluate.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        help="which stories (default: test; validation of --data, and train only there)",
    )
    evaluate.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="default: %(default)s"
    )
    evaluate.add_argument(
        "--ip-adapter", type=Path, metavar="FILE", help="compare this IP-Adapter with the M3-Adapter over the gate"
    )
    evaluate.add_argument(
        "--edit-model", type=Path, metavar="DIR", help="measure this edit model, which `train edit` made, over the gate"
    )
    evaluate.add_argument("--world", choices=WORLDS, help="whose stories (default: the one that the starter knows)")
    evaluate.add_argument("--sheet", action="store_true", help="compare captions with a character sheet with the gate")
    add_model_options(evaluate)
    add_data_options(evaluate)
    evaluate.set_defaults(run=_evaluate)

    bench = commands.add_parser("bench", help="measure how fast everything is, beside its peers")
    add_bench_options(bench)
    bench.set_defaults(run=_bench)
    return parser


def _story(options: argparse.Namespace) -> int:
    """Tell a story and write it; one that is interrupted is written as far as it was told."""
    with mendable():
        values.check_premise(options.premise)
        values.check_panels(options.panels)
        check_formats(options.format)
        check_output(options.output, overwrite=options.overwrite)
    settings = turn_settings(options)
    model = load_model(options)
    check_size(settings, model)
    with mendable():
        options.output.mkdir(parents=True, exist_ok=True)  # minutes before it is needed: a story must not be lost to it
    so_far, status = SoFar(), 0
    try:
        with printing(thoughts=options.show_thoughts) as print_event:

            def on_event(event: Event) -> None:
                so_far.hear(event)
                print_event(event)

            conversation = model.story(options.premise, options.panels, settings, on_event=on_event)
    except (KeyboardInterrupt, Interrupted):
        if so_far.conversation is None:
            raise
        conversation, status = so_far.conversation, INTERRUPTED
        print("\nInterrupted.", file=sys.stderr)
    details = {name: getattr(settings, name) for name in ("gate", "seed", "steps", "guidance")}
    details |= {name: side for name in ("width", "height") if (side := getattr(settings, name))}
    replaces = is_story(options.output)
    with mendable():
        layout = {"layout": options.layout, "words": options.words}
        story = export_story(conversation, options.output, details, formats=options.format, layout=layout, metadata={})
    for note in story.notes:
        print(note, file=sys.stderr)
    if replaces:
        print(f"The earlier story in {options.output} was replaced.", file=sys.stderr)
    print(story.path)
    return status


def _chat(options: argparse.Namespace) -> None:
    turn_settings(options)  # before the model is loaded
    Chat(load_model(options), options).run()


def _train(options: argparse.Namespace) -> int | None:
    if options.component not in COMPONENTS:
        return _module("training.command").main([options.component, *options.arguments])
    return _module(f"training.{options.component}").main(options.arguments)


def _evaluate(options: argparse.Namespace) -> int | None:
    if options.data is not None:
        check_data_options(options)
        check_device(options.device)
        quiet_loading()
        return _module("evaluation.command").run(options)
    options.split = options.split or "test"
    check_without_data(options)
    with mendable():
        values.check_seed(options.seed)
        if options.pictures is not None and options.pictures < 1:
            raise UserError(f"pictures is {options.pictures}: give a whole number from 1.")
        if options.ip_adapter and options.without:
            raise UserError("Give either --without or --ip-adapter: the comparison uses the whole M3-Adapter.")
        if options.ip_adapter and options.split != "test":
            raise UserError("Give either --split or --ip-adapter: the comparison uses the test stories.")
        others = (
            (options.ip_adapter, "--ip-adapter"),
            (options.without, "--without"),
            (options.split != "test", "--split"),
        )
        for name, own in (("--sheet", options.sheet), ("--edit-model", options.edit_model)):
            if own and (other := next((each for given, each in others if given), None)):
                raise UserError(f"Give either {other} or {name}: the comparison is a measurement of its own.")
        if options.sheet and options.edit_model:
            raise UserError("Give either --sheet or --edit-model: each is a measurement of its own.")
        if options.output.is_dir():
            raise UserError(f"{options.output} is a folder: name a file for the report.")
        check_report(options.output)
        starter = options.starter or STARTER
        check_weights(starter)
        world = options.world or world_of(starter)
        if world != WORLDS[0] and (options.sheet or options.ip_adapter or options.edit_model):
            raise UserError(f"The comparison is made on the {WORLDS[0]} only: give --world {WORLDS[0]}.")
        options.output.parent.mkdir(parents=True, exist_ok=True)
    check_writable("--output", options.output.parent)
    check_device(options.device)
    quiet_loading()
    arguments = {name: getattr(options, name) for name in ("seed", "device", "dtype")}
    if options.pictures is not None:
        arguments["pictures"] = options.pictures
    if options.ip_adapter:
        with mendable():
            report = _module("evaluation.ip_adapter").compare(
                starter=starter, ip_adapter=options.ip_adapter, **arguments
            )
    elif options.edit_model:
        with mendable():
            report = _module("evaluation.edit_model").measure(starter=starter, folder=options.edit_model, **arguments)
    elif options.sheet:
        report = _module("evaluation.character_sheet").compare(starter=starter, **arguments)
    else:
        module = "evaluation.starter" if world == WORLDS[0] else f"evaluation.{world}"
        report = _module(module).evaluate(starter=starter, without=options.without, split=options.split, **arguments)
    text = json.dumps(report, indent=2, ensure_ascii=False)
    with mendable():
        write_file(options.output, text.encode("utf-8") + b"\n")
    print(options.output)
    return None


def _bench(options: argparse.Namespace) -> int:
    check_device(options.device)
    quiet_loading()
    return _module("benchmark.command").run(options)


def _module(name: str) -> ModuleType:
    """Import a module that only some commands need; UserError if one of its packages is missing."""
    library = __package__.rpartition(".")[0]
    try:
        return importlib.import_module(f"{library}.{name}")
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.startswith(library):
            raise UserError(f"This installation has no {name.replace('.', '/')}.py: install the pack again.") from error
        raise UserError(f"The Python package {missing} is missing: install it with `pip install {missing}`.") from error
