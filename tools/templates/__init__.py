"""The source of the templates in workflows/: the nodes of each, and where they are."""
