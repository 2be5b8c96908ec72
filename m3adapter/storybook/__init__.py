"""The storybook world: what exists, how it looks and how it is told."""
