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
BOUNDARY_C, BOUNDARY_CPP, BOUNDARY_GO = (
    OUTPUT / f"boundary-{language}" for language in ("c", "cpp", "go")
)
BOUNDARY_PYTHON = BENCHES / "boundary" / "boundary.py"
# What `prepare` always makes; the programs of other languages come with the work `boundary`.
BUILT = PROGRAM, VENV_PYTHON
# The guest, as the test cluster's images have it.
GUESTS = ROOT / "target" / "guest"
RESULTS = OUTPUT / "results.json"
PLOT = OUTPUT / "results.png"
