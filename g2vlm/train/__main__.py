"""`python -m g2vlm.train` is `g2vlm train`, for launchers that start Python themselves: torchrun, accelerate, deepspeed."""

import sys

from g2vlm.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
