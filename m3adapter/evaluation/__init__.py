"""The figures of docs/starter.md."""
