"""Which words of a character sheet yield to a caption that names a new look, as the learned gate does.

The rule, for one character and one caption:

1. Words that say a look are known by kind: colour, size, age, build, length, curl, pattern. In the sheet each belongs
   to a thing, the noun that its phrase ends in: "red fur and a green scarf" says a colour of the fur and one of the
   scarf. Without a noun, or with one for the whole body (fur, coat, skin …), it belongs to the character.
2. In the caption such a word belongs to the character if it stands before the name ("a big blue fox"), behind "is",
   "turns" or their like ("the fox is now blue"), or behind a comma ("the fox, now blue, runs"). It belongs to a thing
   that the character has on ("the fox in a red scarf", "her red scarf", "the fox's scarf is red").
3. If the caption names another value of the same kind for the same thing, those words of the sheet are left out, and a
   phrase that then says nothing more. Everything else stays: other kinds, other things, other characters.

Only English is read so.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_VALUES = {
    "colour": (
        "red crimson scarlet", "orange ginger", "yellow", "gold golden", "green emerald", "blue navy", "turquoise teal",
        "purple violet lilac", "pink", "grey gray", "white", "black", "brown chestnut", "beige cream tan",
        "silver silvery", "blond blonde", "colourless transparent",
    ),
    "size": ("small little tiny", "big large huge giant gigantic enormous", "tall"),
    "age": ("young", "old elderly aged ancient", "adult grown-up"),
    "build": ("thin slim skinny lean", "fat plump chubby round stout"),
    "length": ("long", "short"),
    "curl": ("curly frizzy", "straight", "wavy", "braided"),
    "pattern": ("striped stripy", "spotted dotted polka-dot", "checked chequered checkered plaid", "plain"),
}  # fmt: skip
_KNOWN = {
    word: (kind, group.split()[0]) for kind, groups in _VALUES.items() for group in groups for word in group.split()
}
_SHADES = _set("very quite all completely entirely dark light pale bright deep vivid soft rather")
_BODY = _set("fur coat skin body feathers plumage scales hide pelt wool")
_COATED = _set("furred coated feathered skinned scaled")
_BEINGS = _set("man woman girl boy child kid lady person animal creature cub kitten puppy chick pup bird")
_DETERMINERS = _set("a an the this that my your our his her its their some one two")
_OWN = _set("his her its their")
_NOW = _set("now suddenly again today once more")
_IS = _set(
    "is are was were be been become becomes became turn turns turned grow grows grew grown gets got looks looked"
    " appears has have had painted dyed coloured colored"
)
_WEARS = _set("with wearing wears wore in has had having")
_PLACES = _set("on at in into through across inside along under over")
_BEHIND = _set("and but with in on at as like from by under over near beside again now today all")
_STOPS, _MARKS = frozenset(".;!?"), frozenset(".,;:!?")
_MOST_BETWEEN = 2  # words like "clever" between a look and the name: "a blue and rather clever little fox"


class _Look(NamedTuple):
    """Says a value of some kind of a thing; "" is the character."""

    thing: str
    kind: str
    value: str


def still_said(looks: str, caption: str, name: str, others: Iterable[str] = (), *, common: bool = True) -> str:
    """Return what a sheet still says of a character beside a caption; "" if nothing is left, or the caption says it.

    Args:
        looks: What the sheet says: "a small red cub with a green scarf".
        caption: The caption, which names the character.
        name: The character's name.
        others: Names of the other characters of the cast, whose looks are none of this one's.
        common: Whether the name is a common noun, which has an article before it: "the fox", not "Rosa".
    """
    phrases = _phrases(looks, name)
    things = {thing for _, _, thing in phrases if thing}
    said = {_Look(thing, *look) for _, words, thing in phrases for look in _looks(words)}
    named = _named(_words(caption), _words(name), [_words(other) for other in others], things, common)
    bare = all(_is_look(word) or word in ("and", ",") for word in _words(looks))
    if (said <= named) if bare and said else (_plain(looks) in _plain(caption)):
        return ""  # it is said already: of a bare "grey", only if it is this character's
    new = {(thing, kind) for thing, kind, _ in named - said} & {(thing, kind) for thing, kind, _ in said}
    if not new:
        return looks
    kept = []
    for before, words, thing in phrases:
        left = _without(words, {kind for of, kind in new if of == thing}, thing, name)
        if left:
            kept.append((before, left))
    text = "".join(before + left for before, left in kept)
    return re.sub(r"^(?:,|;| and )\s*", "", text).strip()


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _words(text: str) -> list[str]:
    """Return the words and marks of a text in lower case, a possessive 's apart."""
    return re.findall(r"'s\b|[^\W_]+(?:-[^\W_]+)*|[.,;:!?]", text.casefold().replace("’", "'"))


def _looks(words: Sequence[str]) -> set[tuple[str, str]]:
    """Return kind and value of the looks among words; "blue-furred" and "red-brown" say theirs too, not "blue-eyed"."""
    found = {_KNOWN[word] for word in words if word in _KNOWN}
    for parts in (word.split("-") for word in words if "-" in word):
        if all(part in _KNOWN or part in _SHADES or part in _COATED for part in parts):
            found |= {_KNOWN[part] for part in parts if part in _KNOWN}
    return found


def _is_look(word: str) -> bool:
    return bool(_looks([word])) or word in _SHADES


def _phrases(looks: str, name: str) -> list[tuple[str, list[str], str]]:
    """Return the phrases of a sheet: what stands before each, its words as they are written, and its thing."""
    parts = re.split(r"(, and |[,;] | and | with | wearing | in (?=an? ))", looks)
    phrases: list[tuple[str, list[str], str]] = []
    for before, text in zip(["", *parts[1::2]], parts[::2], strict=True):
        words = text.split()
        plain = [word.casefold().strip(".") for word in words]
        if phrases and before == " and " and all(map(_is_look, map(str.casefold, phrases[-1][1]))) and plain:
            phrases[-1] = (phrases[-1][0], [*phrases[-1][1], "and", *words], "")  # "red and white fur" is one phrase
            words = phrases[-1][1]
            plain = [word.casefold().strip(".") for word in words]
            phrases.pop()
            before = ""
        first = not phrases and bool(plain) and plain[0] in _DETERMINERS
        last = plain[-1] if plain else ""
        own = first or not last or _is_look(last) or last in _BODY | _BEINGS or last == name.casefold()
        phrases.append((before, words, "" if own else last))
    return phrases


def _without(words: list[str], kinds: set[str], thing: str, name: str) -> str:
    """Return a phrase without looks of some kinds; "" if it says nothing more."""
    if not kinds:
        return " ".join(words)
    kept: list[str] = []
    for word in words:
        plain = word.casefold().strip(".,")
        if any(kind in kinds for kind, _ in _looks([plain])):
            while kept and (kept[-1].casefold() in _SHADES or kept[-1] == "and"):
                kept.pop()
        elif plain != "and" or (kept and _is_look(kept[-1].casefold())):
            kept.append(word)
    while kept and kept[-1] == "and":
        kept.pop()
    rest = [word.casefold() for word in kept if word.casefold() not in _DETERMINERS]
    if not rest or rest == [thing] or rest == [name.casefold()] or (len(rest) == 1 and rest[0] in _BODY):
        return ""
    if len(kept) > 1 and kept[0].casefold() in ("a", "an"):
        article = "an" if kept[1][:1].casefold() in "aeiou" else "a"
        kept[0] = article if kept[0].islower() else article.title()
    return " ".join(kept)


def _named(
    words: list[str], name: list[str], others: Sequence[list[str]], things: set[str], common: bool
) -> set[_Look]:
    """Return what a caption says of a character, and of things that the character has on."""
    found: set[_Look] = set()
    for start in _places(words, name):
        after = words[start + len(name) :]
        ends = [place for other in others for place in _places(after, other)[:1]]
        ends += [place for place, word in enumerate(after) if word in _STOPS][:1]
        after = after[: min(ends, default=len(after))]
        found |= {_Look("", *look) for look in (*_before(words[:start], common), *_behind(after))}
        found |= _worn(after, things)
    return found


def _places(words: list[str], name: list[str]) -> list[int]:
    return [place for place in range(len(words)) if name and words[place : place + len(name)] == name]


def _before(words: list[str], common: bool) -> set[tuple[str, str]]:
    """Return the looks right before a name, and before words like "clever" if an article stands before them."""
    near: list[str] = []
    far: list[str] = []
    between = 0
    for place in range(len(words) - 1, -1, -1):
        word = words[place]
        if word in _DETERMINERS:
            return _looks([*near, *far])
        joins = word in ("and", ",") and place and _is_look(words[place - 1]) and _is_look(words[place + 1])
        if _is_look(word) or joins:
            (far if between else near).append(word)
        elif (
            word in _MARKS or word == "'s" or word == "and" or word in _PLACES or not common or between == _MOST_BETWEEN
        ):
            break
        else:
            between += 1
    return _looks(near)


def _behind(words: list[str]) -> set[tuple[str, str]]:
    """Return the looks that "is now blue" or ", now blue," says of what stands before it."""
    place = int(words[:1] == [","])
    place += words[place : place + 1] in (["who"], ["which"], ["that"])
    begun = place
    while place < len(words) and words[place] in _IS | _NOW:
        place += 1
    if not any(word in _IS for word in words[begun:place]) and words[:1] != [","]:
        return set()
    place += words[place : place + 1] in (["a"], ["an"])
    looks, place = _run(words, place)
    ends = place == len(words) or words[place] in _MARKS or words[place] in _BEHIND
    return _looks(looks) if ends else set()


def _run(words: list[str], place: int) -> tuple[list[str], int]:
    """Return the looks from a place on, joined by "and" or commas, and the place behind them."""
    run: list[str] = []
    while place < len(words):
        joins = run and words[place] in ("and", ",") and place + 1 < len(words) and _is_look(words[place + 1])
        if not (joins or _is_look(words[place])):
            break
        run.append(words[place])
        place += 1
    return run, place


def _worn(words: list[str], things: set[str]) -> set[_Look]:
    """Return the looks of things, and of the body, that the words behind a name give the character."""
    found: set[_Look] = set()
    owner, place = True, 0  # whether it is still this character of whom "with" speaks
    while place < len(words):
        word = words[place]
        if word in _PLACES and words[place + 1 : place + 2] == ["the"]:
            place += 3  # "on the beach"
            continue
        if word == "'s" and place == 0 or word in _OWN or (word in _WEARS and owner):
            item, place = _item(words, place + 1, things)
            found |= item
            while item and words[place : place + 1] in (["and"], [","]):
                item, place = _item(words, place + 1, things)
                found |= item
            continue
        owner = owner and word not in _DETERMINERS
        place += 1
    return found


def _item(words: list[str], place: int, things: set[str]) -> tuple[set[_Look], int]:
    """Return the looks of a thing named at a place ("a long red scarf", "scarf is red"), and the place behind it."""
    begun = place
    place += words[place : place + 1] != [] and words[place] in _DETERMINERS
    looks, place = _run(words, place)
    for other in range(place, min(place + 2, len(words))):  # "red woollen scarf"
        thing = words[other]
        if thing in things or thing in _BODY:
            of = "" if thing in _BODY else thing
            said = _looks(looks) or _behind(words[other + 1 :])
            return {_Look(of, *look) for look in said}, other + 1
    return set(), max(place, begun)
