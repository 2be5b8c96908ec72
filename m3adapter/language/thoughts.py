"""Separates what a language model says from what it thinks, while it is still writing.

Thoughts are shown to users who ask for them, but are not part of the reply and are not given back to the model.
`thought_marks.py` lists the spellings of their marks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..events import ThoughtChunk
from . import thought_marks
from .thought_marks import Mark

SPEAKING = ""  # the mode outside thoughts


class ThoughtError(ValueError):
    """A reply that consists of thoughts only; the message is one sentence."""


@dataclass(frozen=True)
class Said:
    """Text of the reply, including markup."""

    text: str


@dataclass(frozen=True)
class Withdrawn:
    """The last `length` characters said were a thought, whose end was marked but not its beginning."""

    length: int


Piece = Said | ThoughtChunk | Withdrawn


class ThoughtSplitter:
    """Splits a reply, chunk by chunk, into what is said and what is thought, however it is cut into chunks.

    A thought ends with a mark of its own class. An end mark without a beginning turns what was said before it into a
    thought, if more is said afterwards, since some templates and models leave out the beginning. Marks around the
    answer after a thought (`<answer>`, a channel's header) are left out. A mark in backticks is ordinary text.

    Args:
        opening: The beginning of the reply that the chat template has written; it may open a thought, and close it.

    Attributes:
        thought: Whether anything has been marked as a thought, even an empty one.
        over: Whether another speaker's turn has begun, which ends the reply.
    """

    def __init__(self, opening: str = "") -> None:
        self.thought = self.over = False
        self._mode = SPEAKING
        self._role = ""  # in a header: whose turn it says it is
        self._role_mark = ""
        self._header: str | None = None
        self._opened = ""  # the mark that opened the present thought
        self._wrapped = ""
        self._said = ""  # since the last thought
        self._told = False  # whether any word was said
        self._kept = False  # whether one was, before the last thought
        self._blanks = ""  # in front of the first one
        self._withheld = ""  # said, and withdrawn
        self._pending = ""
        self._fresh = True  # nothing but blanks so far
        self._harmonic = False  # whether turns are written as gpt-oss writes them
        self._awaited = False  # whether the opening was the beginning of a header
        if opening:
            self._open(opening)

    @property
    def thinking(self) -> bool:
        """Whether the next text belongs to a thought or to a header."""
        return self._mode != SPEAKING or self._header is not None

    @property
    def told(self) -> bool:
        """Whether any word was said that did not turn out to be a thought."""
        return self._kept or bool(self._said.strip())

    @property
    def holding(self) -> bool:
        """Whether text is held back: blanks, or a possible beginning of a mark."""
        return bool(self._pending or self._blanks)

    @property
    def marking(self) -> bool:
        """Whether the text held back looks like the beginning of a mark."""
        return self._pending.lstrip()[:1] in tuple("<[◁")

    @property
    def _quoting(self) -> bool:
        """Whether the text so far has just opened a piece of code, in which a mark is ordinary text."""
        return self._said.endswith("`") and self._said.count("`") % 2 == 1

    @property
    def begun(self) -> str:
        """The text that begins the present thought; "" outside thoughts."""
        if not self.thinking:
            return ""
        if self._header is not None:
            return f"{self._opened}{self._header}"
        ends = {"<|channel>": "thought\n", "<|channel|>": "analysis<|message|>"}
        return self._opened + ends.get(self._opened, "")

    def goes_on(self, token: str) -> bool:
        """Return whether the reply goes on after `token`: an end token that ends only the present thought."""
        mark = thought_marks.read(token) if thought_marks.MARK.fullmatch(token) else None
        return self.thinking and self._harmonic and mark == Mark("end") and "end" in token.lower()

    def feed(self, chunk: str) -> list[Piece]:
        """Return the pieces that `chunk` completes, adjacent pieces of one kind joined."""
        return _joined(self._read(chunk))

    def close(self) -> list[Piece]:
        """Return the pieces at the end of the reply; `thinking` still says whether it ended in a thought."""
        pieces: list[Piece] = []
        rest, self._pending = self._pending, ""
        self._write(rest, pieces)
        if self._withheld:  # nothing was said after it, so that was the answer
            pieces.append(Said(self._withheld))
            self._told, self._withheld = True, ""
        elif self._blanks and not self.thought:
            pieces.append(Said(self._blanks))
        self._blanks = ""
        return _joined(pieces)

    def closing(self) -> str:
        """What would end the present thought, so that an answer can begin; "" outside thoughts."""
        mark = self._opened
        final = "<|channel|>final<|message|>"
        if self._mode == SPEAKING and self._header is None:
            return final if self._awaited and self._role_mark == "<|start|>" else ""
        if self._header is not None or self._mode == "channel":
            return "<channel|>" if mark == "<|channel>" else f"<|end|><|start|>assistant{final}"
        for opens, closes in (("START", "END"), ("start", "end"), ("begin", "end"), ("prefix", "suffix")):
            if opens in mark:
                return f"\n{mark.replace(opens, closes)}\n"
        return f"\n{mark[0]}/{mark[1:]}\n\n"

    def _open(self, opening: str) -> None:
        self._read(opening)
        if self._role == "?":  # a channel may follow, but nothing says that it has to
            self._header, self._role, self._awaited = None, "", True
        self._said = self._wrapped = self._withheld = self._pending = self._blanks = ""
        self.thought, self._fresh, self._told, self.over = self.thinking, True, False, False
        self._kept = False

    def _read(self, chunk: str) -> list[Piece]:
        pieces: list[Piece] = []
        buffer = self._pending + chunk
        if self._fresh and not (buffer := self._begin(buffer)):
            return pieces
        position = 0
        while True:
            finder = thought_marks.MARK_IN.get(self._mode, thought_marks.MARK)
            match = finder.search(buffer, position)
            while match and match.lastgroup != "end" and thought_marks.read(match.group()) is None:
                match = finder.search(buffer, match.start() + 1)
            if match is None:
                break
            self._write(buffer[position : match.start()], pieces)
            position = match.end()
            if match.lastgroup == "end":
                self._end_phrase(match.group())
            else:
                self._take(thought_marks.read(match.group()), match.group(), pieces)  # type: ignore[arg-type]
        keep = thought_marks.held(buffer[position:], self._mode)
        self._write(buffer[position : len(buffer) - keep], pieces)
        self._pending = buffer[len(buffer) - keep :]
        return pieces

    def _begin(self, buffer: str) -> str:
        """Check the beginning of a reply for what begins a thought only there; return "" while that is undecided."""
        text = buffer.lstrip().lstrip("*#_ ")
        low = text.lower()
        phrases = thought_marks.PHRASES
        undecided = not text or any(start.startswith(low) for start in (*phrases, *thought_marks.CHANNELS, "final"))
        self._pending = buffer if undecided and self._mode == SPEAKING and self._header is None else ""
        if self._pending:
            return ""
        self._fresh = False
        if self._mode != SPEAKING or self._header is not None:
            return buffer
        for phrase in phrases:
            if low.startswith(phrase):
                self._think("phrase", phrase)
                return text[len(phrase) :].lstrip("*") or " "
        for channel in thought_marks.CHANNELS:  # without a blank after it, this is not a word
            following = text[len(channel) :][:1]
            if text.startswith(channel) and (following.isalnum() or following in tuple("\"“*'")):
                self._think("bare", channel)
                return text[len(channel) :]
        if text.startswith("final") and (text[5].isupper() or text[5] in '"“*'):
            return text[5:]
        return buffer

    def _end_phrase(self, phrase: str) -> None:
        if not phrase.lower().endswith(("analysis", "commentary")):
            self._mode = SPEAKING

    def _think(self, mode: str, mark: str) -> None:
        self.thought, self._mode, self._opened = True, mode, mark
        self._kept = self.told
        self._said = self._wrapped = self._blanks = ""

    def _take(self, mark: Mark, written: str, pieces: list[Piece]) -> None:
        effect, name = mark
        if effect in ("open", "close") and self._mode == SPEAKING and self._header is None and self._quoting:
            self._write(written, pieces)
        elif effect in ("start", "channel", "constrain", "message", "end"):
            self._harmony(effect, written, pieces)
        elif effect == "open":
            if self._mode == SPEAKING:
                self._header = None
                self._think(name, written)
        elif effect == "close":
            if self._mode == name:
                self._mode = SPEAKING
            elif self._mode == SPEAKING and self._header is None and name != "channel":
                self._unbegun(pieces)
        elif effect == "wrapping":
            pass
        elif effect == "wrap" and self._mode == SPEAKING and self.thought and not self._said.strip():
            self._wrapped = name
        elif effect == "unwrap" and self._mode == SPEAKING and self._wrapped == name:
            self._wrapped = ""
        else:
            self._write(written, pieces)

    def _unbegun(self, pieces: list[Piece]) -> None:
        """Handle the end of a thought whose beginning was not marked."""
        self.thought = True
        if self._said.strip():
            pieces.append(Withdrawn(len(self._said)))
            self._withheld += self._said
            self._told = False
        self._said = self._blanks = ""

    def _harmony(self, effect: str, written: str, pieces: list[Piece]) -> None:
        """Handle a mark of harmony's format."""
        self._harmonic = self._harmonic or effect in ("start", "channel")
        self._blanks = ""
        if effect == "start":
            self._role_mark = written.lower()
            self._header, self._role, self._mode = "", "?", SPEAKING
        elif effect == "channel":
            if self._role == "?":
                self._role = (self._header or "").strip()
            self._header, self._mode, self._opened = "", SPEAKING, written
            self.thought = True
        elif effect == "message":
            if self._header is not None:
                self._end_header(pieces)
        elif effect == "end":
            if self._header is not None:
                self._end_header(pieces)
            if self._mode != SPEAKING:
                self._mode = SPEAKING

    def _end_header(self, pieces: list[Piece]) -> None:
        """Handle a complete header, whose first word names the speaker or the channel."""
        header, self._header = self._header or "", None
        first, _, rest = header.lstrip().partition("\n")
        if self._role == "?":
            self._role, first = first, ""
        if self._role and not self._role.startswith("assistant"):
            self.over = True
        word = first.split()[0].lower() if first.split() else "final"
        if word not in ("final", "response", "answer") or self.over:
            self._think("channel", self._opened)
        if rest:
            self._write(rest, pieces)

    def _write(self, text: str, pieces: list[Piece]) -> None:
        if not text:
            return
        if self._header is not None:
            self._header += text
            # Gemma's header is a line; a very long text is not a header.
            if "\n" in self._header.lstrip() or len(self._header) > thought_marks.LONGEST:
                self._end_header(pieces)
            return
        if self._mode != SPEAKING:
            pieces.append(ThoughtChunk(text))
            return
        if not self._told:
            text, self._blanks = self._blanks + text, ""
            if not text.strip():  # near a thought, they are not part of the reply
                self._blanks = text
                return
            if self.thought:
                text = text.lstrip()
            self._told = True
            if self._withheld:
                pieces.append(ThoughtChunk(self._withheld))
                self._withheld = ""
        pieces.append(Said(text))
        self._said += text


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    joined: list[Piece] = []
    for piece in pieces:
        if joined and isinstance(piece, (Said, ThoughtChunk)) and type(joined[-1]) is type(piece):
            joined[-1] = type(piece)(joined[-1].text + piece.text)  # type: ignore[union-attr]
        else:
            joined.append(piece)
    return joined


def split(text: str, opening: str = "") -> tuple[str, str]:
    """Split a whole reply into what is said and what is thought."""
    splitter = ThoughtSplitter(opening)
    said = thought = ""
    for piece in splitter.feed(text) + splitter.close():
        if isinstance(piece, Said):
            said += piece.text
        elif isinstance(piece, ThoughtChunk):
            thought += piece.text
        else:
            said = said[: len(said) - piece.length]
    return said, thought.strip()
