"""Language models: their prompts, the replies that they write, and their hidden states at a picture's slot."""
