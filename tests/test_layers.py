from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

REPOSITORY = Path(__file__).resolve().parents[1]


def test_imports_point_down(capsys):
    """The list stands in pyproject.toml; each line may import from the lines below it only."""
    status = lint_imports(config_filename=str(REPOSITORY / "pyproject.toml"), no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out
