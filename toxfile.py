"""Read by tox before tox.ini: puts pyenv's interpreters, which are off the PATH, where tox finds them."""

import os
from pathlib import Path

_FOLDERS = sorted(Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv").glob("versions/3.*/bin"))
os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, _FOLDERS)])
