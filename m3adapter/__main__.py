"""`python -m m3adapter`."""

from .cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
