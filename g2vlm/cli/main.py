"""One app, and one policy for what goes wrong.

Exit code 2, a line on stderr (several for a checkpoint that does not fit): the user can mend it. These are ValueErrors
raised by this package, and failures of the file system. Exit code 1, with its traceback: anything else is a defect of
ours.
"""

import errno
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from g2vlm import __version__
from g2vlm.cli.ablate import ablate
from g2vlm.cli.app import app as page
from g2vlm.cli.ask import ask
from g2vlm.cli.chat import chat
from g2vlm.cli.config import config
from g2vlm.cli.convert import convert
from g2vlm.cli.data import data
from g2vlm.cli.eval import evaluation
from g2vlm.cli.export import export
from g2vlm.cli.predict import predict
from g2vlm.cli.rooms import rooms
from g2vlm.cli.train import train
from g2vlm.cli.view import view
from g2vlm.errors import raised_here

app = typer.Typer(
    name="g2vlm",
    help="See a scene in 3D from a few photos, and ask about it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(predict)
app.command()(export)
app.command()(view)
app.command("app")(page)
app.command()(ask)
app.command()(chat)
app.command()(convert)
app.command()(config)
app.command()(rooms)
app.command()(ablate)
app.add_typer(data, name="data")
app.add_typer(train, name="train")
app.add_typer(evaluation, name="eval")

CURES = {
    errno.ENOSPC: "free some space there, or choose another folder",
    errno.EDQUOT: "free some space there, or choose another folder",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "choose a place you have the right to use",
    errno.EPERM: "choose a place you have the right to use",
}


def _print_version(wanted: bool) -> bool:
    if wanted:
        print(__version__)
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the app on these arguments, or those of `sys.argv`; never returns normally."""
    try:
        app(arguments)
    except ValueError as error:
        if not raised_here(error.__traceback__):
            raise
        _refuse(str(error))
    except OSError as error:
        if error.errno is None or error.filename is None:
            raise
        _refuse(f"{error.filename}: {error.strerror}; {CURES.get(error.errno, 'check the path')}")


def _refuse(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
