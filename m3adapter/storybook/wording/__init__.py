"""The words of the storybook: lists of wordings, and how one of them is chosen."""
