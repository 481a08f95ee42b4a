"""Where the comparison keeps its things."""

from pathlib import Path

BENCHES = Path(__file__).resolve().parent
ROOT = BENCHES.parent
OUTPUT = ROOT / "target" / "bench"
VENV = OUTPUT / "venv"
VENV_PYTHON = VENV / "bin" / "python"
# The path of the compiled side: cargo puts a hash into the file's name.
PROGRAM = OUTPUT / "program"
# Where this library is installed for other languages, and the programs of theirs.
PREFIX = OUTPUT / "prefix"
BORDER_C, BORDER_CPP, BORDER_GO = (OUTPUT / f"border-{language}" for language in ("c", "cpp", "go"))
BORDER_PYTHON = BENCHES / "border" / "border.py"
# All that `prepare` makes.
BUILT = PROGRAM, VENV_PYTHON, BORDER_C, BORDER_CPP, BORDER_GO
RESULTS = OUTPUT / "results.json"
PLOT = OUTPUT / "results.png"
