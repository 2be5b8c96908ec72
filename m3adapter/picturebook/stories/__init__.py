"""Stories of the picture book: what users type, and how the assistant answers in words and pictures."""
