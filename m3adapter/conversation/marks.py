"""The spellings by which language models mark a picture, found in a text that is still growing.

The agreed spelling is a pair of tags around a caption. Models that were not trained for it come close in many ways, all
of which are understood:

    <image>a fox</image>   <PICTURE >a fox</image>   <img alt="a fox">   <picture caption="a fox"/>   <image: a fox>
    [Image: a fox]   ![a fox](fox.png)   (Picture of a fox)   and, as a line,   **Image:** a fox

Every pattern is bounded, so that a search takes time in proportion to the text.
"""

from __future__ import annotations

import re

_NAMES = ("image", "picture", "img", "pic")
_LABELS = (*_NAMES, "illustration", "photo", "caption")


def _any(words: tuple[str, ...]) -> str:
    return f"(?:{'|'.join(sorted(words, key=len, reverse=True))})"


def _begun(words: tuple[str, ...]) -> str:
    return _any(tuple({word[:length] for word in words for length in range(1, len(word))}))


_NAME, _LABEL = _any(_NAMES), _any(_LABELS)
_ATTRIBUTES = r"(?:[\s:=][^<>]{0,600})?"
# A closing tag has no attributes: whatever stands in place of its end is text again.
_TAG = (
    rf"<\s{{0,4}}(?:(?P<slash>/)(?P<gap>\s{{0,4}}){_NAME}(?:\s{{0,20}}/?>|(?=\s{{1,20}}[^\s/>]|[^\w\s/>-]))"
    rf"|\s{{0,4}}{_NAME}(?P<attributes>(?:[\s:=][^<>]{{0,600}}?)?)(?P<void>/?)>)"
)
_TAG_BEGUN = (
    rf"<\s{{0,4}}(?:/\s{{0,4}}(?:(?:{_begun(_NAMES)})?\Z|{_NAME}\s{{0,20}}/?\Z)"
    rf"|\s{{0,4}}(?:(?:{_begun(_NAMES)})?\Z|{_NAME}{_ATTRIBUTES}/?\Z))"
)

# "Image", "Image 2", "Image description", and what may separate it from the caption.
_TITLE = rf"{_LABEL}(?:[ \t]{{1,3}}(?:caption|description|prompt|\d{{1,3}}))?"
_TITLE_BEGUN = rf"(?:(?:{_begun(_LABELS)})?\Z|{_LABEL}(?:[ \t]{{1,3}}(?:[a-z]{{0,11}}|\d{{0,3}}))?"
_COLON = r"[ \t]{0,2}[*_]{0,3}[:：]"
_BETWEEN = rf"(?:{_COLON}|[ \t]{{1,2}}(?:of|showing|[-–—])[ \t])"
_BETWEEN_BEGUN = r"(?:[ \t]{0,2}[*_]{0,3}|[ \t]{1,2}(?:of|showing|[-–—])?)\Z)"

_LINE = r"(?<![^\n])[ \t]{0,8}"  # a line begins here
_BULLET = r"(?:[-+>#*_]{1,6}[ \t]{0,3}){0,2}"

_BRACKET = rf"\[[\s*_]{{0,3}}{_TITLE}{_BETWEEN}"
_BRACKET_BEGUN = rf"\[[\s*_]{{0,3}}{_TITLE_BEGUN}{_BETWEEN_BEGUN}"
_PARENTHESIS = rf"{_LINE}\([\s*_]{{0,3}}{_TITLE}{_BETWEEN}"
_HEADING = rf"{_LINE}{_BULLET}{_TITLE}{_COLON}"
_LINE_BEGUN = rf"{_LINE}(?:\([\s*_]{{0,3}}|{_BULLET}){_TITLE_BEGUN}{_BETWEEN_BEGUN}"
_MARKDOWN = r"(?<!\S)!\["
_ANYWHERE = rf"(?P<tag>{_TAG})|(?P<markdown>{_MARKDOWN})|(?P<bracket>{_BRACKET})"
_ANYWHERE_BEGUN = rf"{_TAG_BEGUN}|(?<!\S)!\Z|{_BRACKET_BEGUN}"

_FLAGS = re.IGNORECASE | re.ASCII
TAG = re.compile(_TAG, _FLAGS)
# Each finds the first mark, or (`begun`) a possible beginning of one at the text's end. lastgroup says which: a tag's
# own groups lie inside the group "tag", which therefore ends last.
OUTSIDE = re.compile(
    rf"{_ANYWHERE}|(?P<parenthesis>{_PARENTHESIS})|(?P<heading>{_HEADING})|(?P<begun>{_ANYWHERE_BEGUN}|{_LINE_BEGUN})",
    _FLAGS,
)
IN_TAGS = re.compile(rf"(?P<tag>{_TAG})|(?P<begun>{_TAG_BEGUN})", _FLAGS)
IN_LINE = re.compile(rf"{_ANYWHERE}|(?P<begun>{_ANYWHERE_BEGUN})|(?P<stop>[\[\]()\n])", _FLAGS)
# What follows the caption of a Markdown picture: an address, or the name of a file.
_FILE = r"[^()<\n]{0,300}\.[a-z0-9]{2,5}"
_NAMED = r"""(?:\s{1,4}"[^"\n]{0,200}")?\s{0,4}"""
TARGET = re.compile(rf"\(\s{{0,4}}(?:[^()<\s]{{0,300}}|{_FILE}){_NAMED}\)|(?P<begun>\([^()<\n]{{0,300}}\Z)", _FLAGS)
# The beginning of a tag at the end of a text, without a word in it.
CUT_OFF = re.compile(rf"<\s{{0,4}}/?\s{{0,4}}(?:{_begun(_NAMES)}|{_NAME}\s{{0,20}}/?)?\Z", _FLAGS)

_VALUES = re.compile(r"""\b([a-z]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|“([^”]*)”)""", _FLAGS)
_BARE_VALUES = re.compile(r"""\b[a-z-]+\s*=\s*[^\s"'“]+""", _FLAGS)
_CAPTION_ATTRIBUTES = ("caption", "alt", "description", "desc", "title", "text", "prompt", "label")

_OTHER_ATTRIBUTES = ("src", "href", "url", "style", "class", "id", "srcset", "sizes")


def caption_of(tag: re.Match[str]) -> str | None:
    """Return the caption in an opening tag's attributes; None if there is none."""
    attributes = (tag["attributes"] or "").strip()
    values = {name.lower(): a or b or c for name, a, b, c in _VALUES.findall(attributes)}
    for name in _CAPTION_ATTRIBUTES:
        if name in values:
            return " ".join(values[name].split())
    if attributes[:1] in (":", "="):
        return " ".join(attributes[1:].strip("\"'“” \t\n").split())
    sentences = [value for name, value in values.items() if " " in value and name not in _OTHER_ATTRIBUTES]
    words = words_of(tag)
    return " ".join(", ".join(sentences).split()) or (words if " " in words else None)


def words_of(tag: re.Match[str]) -> str:
    """Return the words in an opening tag that are not attributes; they belong to a caption, or to the text."""
    attributes = (tag["attributes"] or "").strip()
    if attributes[:1] in (":", "="):
        return ""
    rest = _BARE_VALUES.sub(" ", _VALUES.sub(" ", attributes)).split()
    return " ".join(rest) if any(map(str.isalnum, "".join(rest))) else ""
