"""Data sets that a training or an evaluation takes: captioned pictures, conversations, stories of published layouts."""
