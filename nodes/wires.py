"""The types of the pack's own wires. Their values are immutable: every node returns new ones."""

from __future__ import annotations

from comfy_api.latest import io

LanguageModel = io.Custom("M2CHAT_LANGUAGE_MODEL")
VisionEncoder = io.Custom("M2CHAT_VISION_ENCODER")
Adapter = io.Custom("M2CHAT_ADAPTER")
Decoder = io.Custom("M2CHAT_DECODER")
Painter = io.Custom("M2CHAT_DECODER")  # where any painter will do, and not only a decoder for an adapter
Conversation = io.Custom("M2CHAT_CONVERSATION")
Features = io.Custom("M2CHAT_FEATURES")
Condition = io.Custom("M2CHAT_CONDITION")
Memory = io.Custom("M2CHAT_MEMORY")
IPAdapter = io.Custom("M2CHAT_IP_ADAPTER")
References = io.Custom("M2CHAT_REFERENCES")
Dataset = io.Custom("M2CHAT_DATASET")
