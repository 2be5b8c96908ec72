"""A conversation in the terminal, one line at a time."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..arguments import UserError, mendable
from ..conversation.conversation import Conversation
from ..conversation.pictures import read_picture
from ..conversation.seeds import turn_seed
from ..events import Event, Interrupted, SoFar
from ..export.story import export_story, is_story
from .console import check_size, printing, turn_settings

if TYPE_CHECKING:
    from torch import Tensor

    from ..pipeline import M2Chat

HELP = """Write what you want to say, or a command:
  /picture PATH   show a picture with your next message
  /gate X         0 free, 1 as trained, up to 4: ever closer to the earlier pictures
  /save DIR       write the conversation with its pictures and a page to read
  /quit           leave
Ctrl-C stops a reply, and leaves where there is none."""


class Chat:
    """A chat: the conversation so far, and the pictures that go with the next message."""

    def __init__(self, model: M2Chat, options: argparse.Namespace) -> None:
        self.model = model
        self.settings = turn_settings(options)
        check_size(self.settings, model)
        self._thoughts: bool = options.show_thoughts
        self.conversation = Conversation()
        self.pictures: list[Tensor] = []
        self._commands: dict[str, Callable[[str], None]] = {
            "/picture": self._picture,
            "/gate": self._gate,
            "/save": self._save,
            "/help": lambda _: print(HELP),
        }

    def run(self) -> None:
        """Read lines until /quit or the end of the input; the user's mistakes are reported, and the chat continues."""
        print(HELP)
        while True:
            try:
                line = input("> ").strip()
            except EOFError:
                return
            if line == "/quit":
                return
            try:
                self.handle(line)
            except UserError as error:
                print(error)

    def handle(self, line: str) -> None:
        """Handle a line: a command, or a message to reply to. Raises UserError for a mistake."""
        name, _, argument = line.partition(" ")
        if not line.startswith("/"):
            self._say(line)
        elif name in self._commands:
            self._commands[name](argument.strip())
        else:
            raise UserError(f"There is no command {name}: /help lists the commands.")

    def _say(self, line: str) -> None:
        with mendable():
            asked = self.conversation.user(line, self.pictures)
        replies = sum(turn.role == "assistant" for turn in self.conversation.turns)
        settings = replace(self.settings, seed=turn_seed(self.settings.seed, replies))
        so_far = SoFar()
        try:
            with printing(thoughts=self._thoughts) as print_event:

                def on_event(event: Event) -> None:
                    so_far.hear(event)
                    print_event(event)

                self.conversation = self.model.turn(asked, settings, on_event=on_event)
        except (KeyboardInterrupt, Interrupted):
            if so_far.conversation is None:
                print("\nStopped: nothing of this reply stays.")
                return
            self.conversation = so_far.conversation
            print("\nStopped: the text stays, and so do the pictures that are painted.")
        self.pictures = []

    def _picture(self, argument: str) -> None:
        with mendable():
            self.pictures.append(read_picture(_path(argument, "/picture PATH")))
        print(f"It will be sent with your next message ({len(self.pictures)} so far).")

    def _gate(self, argument: str) -> None:
        try:
            gate = float(argument)
        except ValueError as error:
            raise UserError("Give /gate a number from 0 to 4.") from error
        with mendable():
            self.settings = replace(self.settings, gate=gate)
        print(f"The gate is {gate:g}.")

    def _save(self, argument: str) -> None:
        directory = _path(argument, "/save DIR")
        with mendable():
            check_output(directory)
            details = {"seed": self.settings.seed, "gate": self.settings.gate}
            page = export_story(self.conversation, directory, details).path
        print(page)


def check_output(directory: Path, *, overwrite: bool = False) -> None:
    """Raise UserError unless `directory` may hold a story: it is new, empty or an earlier story, or `overwrite`."""
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file: choose a folder.")
    if directory.is_dir() and any(directory.iterdir()) and not (overwrite or is_story(directory)):
        raise UserError(
            f"{directory} is not empty and does not hold an earlier story: choose another folder, or give --overwrite."
        )


def _path(argument: str, usage: str) -> Path:
    if not argument:
        raise UserError(f"Say {usage}.")
    return Path(argument).expanduser()
