"""The trainings of the starter's parts; each is a command, `python -m m3adapter train <name> --help`."""
