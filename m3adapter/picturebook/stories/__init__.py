"""Stories of the picture book: what users type, and how the assistant answers in words and pictures."""

from .tale import SPLITS, Exchange, Panel, Split, Story, to_conversation
from .teller import story

__all__ = ["SPLITS", "Exchange", "Panel", "Split", "Story", "story", "to_conversation"]
