"""The words of the storybook: lists of wordings, and the choice among them."""
