"""Language models: what they are told, what they write, and the hidden states of a picture's slot."""
