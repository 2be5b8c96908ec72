"""`python -m m3adapter`."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
