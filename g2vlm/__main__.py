"""`python -m g2vlm` is `g2vlm`."""

from g2vlm.cli import main

main()
