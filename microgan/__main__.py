"""``python -m microgan``: the command line, where the program ``microgan`` is not on the path."""

from microgan.cli import main

if __name__ == "__main__":
    main()
