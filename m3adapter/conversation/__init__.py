"""The conversation: turns of text and pictures, how they are written, referred to, saved and shared."""
