"""M²Chat as a plain Python library: one multimodal language model that tells illustrated stories.

`m3adapter.pipeline.M2Chat` composes everything; `python -m m3adapter --help` is the command line. Importing this
package imports nothing heavy: torch, transformers and diffusers are loaded by the modules that need them.
"""

from .version import __version__

__all__ = ["__version__"]
