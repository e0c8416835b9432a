import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def test_imports_point_down():
    """The list stands in pyproject.toml; each line may import from the lines below it only."""
    # in a process of its own: import-linter silences every logger of the one it runs in
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, check=False, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
