"""Conversations: turns of text and pictures, and how they are written, referred to, saved and shared."""
