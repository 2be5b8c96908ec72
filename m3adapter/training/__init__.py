"""How the starter's parts are trained; `python -m m3adapter.training.<name> --help` explains each program."""
