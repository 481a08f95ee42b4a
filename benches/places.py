"""Where the comparison keeps its things."""

from pathlib import Path

BENCHES = Path(__file__).resolve().parent
ROOT = BENCHES.parent
OUTPUT = ROOT / "target" / "bench"
VENV = OUTPUT / "venv"
VENV_PYTHON = VENV / "bin" / "python"
# The path of the compiled side: cargo puts a hash into the file's name.
PROGRAM = OUTPUT / "program"
RESULTS = OUTPUT / "results.json"
PLOT = OUTPUT / "results.png"
