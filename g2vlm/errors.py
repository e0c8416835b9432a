"""Whose fault an error is."""

from types import TracebackType


def raised_here(traceback: TracebackType | None) -> bool:
    """Whether the innermost frame is of this package: other libraries raise ValueError at our mistakes, too."""
    module = ""
    while traceback is not None:
        module, traceback = traceback.tb_frame.f_globals["__name__"], traceback.tb_next
    return module.split(".")[0] == "g2vlm"
