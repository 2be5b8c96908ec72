"""M²Chat as a Python library: a multimodal language model that tells illustrated stories.

`M2Chat` composes the models, `TurnSettings` says how a turn is written and painted:

    from m3adapter import M2Chat, export_story

    chat = M2Chat.from_starter()
    story = chat.story("A fox who finds a kite on the beach.", 4, seed=7)
    export_story(story, "kite")

`M2Chat`, its models and its adapter, which have weights, have `save_pretrained` and `from_pretrained`: each opens the
folders that it writes. A `Conversation`, which is data, has `save` and `load`; settings such as `GateSetting` are plain
values.

`python -m m3adapter --help` is the command line. Importing this package imports nothing heavy: a name below is loaded
when it is first used, with the libraries that it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .adapter.auto import load_adapter
    from .adapter.m3_adapter import M3Adapter
    from .adapter.vision_encoder import VisionEncoder
    from .conversation.conversation import Conversation
    from .conversation.references import ReferencePolicy
    from .diffusion.auto import load_decoder
    from .diffusion.decoder import DiffusionDecoder
    from .export.story import export_story
    from .gate import GateSetting
    from .ip_adapter.ip_adapter import IPAdapter, load_ip_adapter
    from .language.auto import load_language_model
    from .language.language_model import LanguageModel
    from .language.sampling import Sampling
    from .pipeline import M2Chat
    from .settings import TurnSettings

_MODULES = {
    "Conversation": "conversation.conversation",
    "DiffusionDecoder": "diffusion.decoder",
    "GateSetting": "gate",
    "IPAdapter": "ip_adapter.ip_adapter",
    "LanguageModel": "language.language_model",
    "M2Chat": "pipeline",
    "M3Adapter": "adapter.m3_adapter",
    "ReferencePolicy": "conversation.references",
    "Sampling": "language.sampling",
    "TurnSettings": "settings",
    "VisionEncoder": "adapter.vision_encoder",
    "export_story": "export.story",
    "load_adapter": "adapter.auto",
    "load_decoder": "diffusion.auto",
    "load_ip_adapter": "ip_adapter.ip_adapter",
    "load_language_model": "language.auto",
}

__all__ = [
    "Conversation",
    "DiffusionDecoder",
    "GateSetting",
    "IPAdapter",
    "LanguageModel",
    "M2Chat",
    "M3Adapter",
    "ReferencePolicy",
    "Sampling",
    "TurnSettings",
    "VisionEncoder",
    "__version__",
    "export_story",
    "load_adapter",
    "load_decoder",
    "load_ip_adapter",
    "load_language_model",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
