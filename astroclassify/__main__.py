"""``python -m astroclassify``: the command ``astroclassify`` where it is not on the path."""

import sys

from astroclassify.cli import main

if __name__ == "__main__":  # spawned workers import this file too
    sys.exit(main())
