"""How long a user waits before anything happens: `import g2vlm` and `g2vlm --help`, each in a fresh interpreter."""

import platform
import statistics
import subprocess
import sys
import time

RUNS = 10
CASES = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import g2vlm": [sys.executable, "-c", "import g2vlm"],
    "g2vlm --help": [sys.executable, "-m", "g2vlm", "--help"],
}


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    print(
        f"{platform.machine()}, Python {platform.python_version()}, {RUNS} runs each, after one to warm the disk cache"
    )
    print(f"{'':16} {'best':>8} {'median':>8}")
    for name, command in CASES.items():
        seconds(command)
        runs = [seconds(command) for _ in range(RUNS)]
        print(f"{name:16} {min(runs):6.3f} s {statistics.median(runs):6.3f} s")


if __name__ == "__main__":
    main()
