"""The M3-Adapter: its model, its gate, what it looks at, and the files that hold it."""
