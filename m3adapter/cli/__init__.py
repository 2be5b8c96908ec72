"""The command line: `python -m m3adapter {story,chat,train,evaluate,bench}`."""
