"""Comic and storybook pages of a conversation: laid out once (`layout.lay_out`), then drawn as pictures or as a PDF."""
