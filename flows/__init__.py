import sys
from importlib.util import find_spec

if find_spec("pydantic") is None:  # a bare `dvc repro` takes whatever `python` comes first
    sys.exit(
        f"{sys.executable} is not the project's environment; activate that first "
        "('source .venv/bin/activate'), or make it with 'make install'"
    )
