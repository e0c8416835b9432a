"""The command line. Modules here import nothing heavy at their top, so that `g2vlm --help` answers at once."""

from g2vlm.cli.main import main

__all__ = ["main"]
