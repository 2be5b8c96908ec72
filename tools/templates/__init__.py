"""The templates in workflows/ as they are written: what stands in each, and where."""
