"""The program answers at once, and is the same under both of its names."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

import g2vlm


def python(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True).stdout


def seconds_of_work(*arguments: str) -> float:
    """CPU time, the best of three, so that a busy machine does not count."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        python(*arguments)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    return min(once() for _ in range(3))


def test_both_names_are_one_program():
    script = Path(sys.executable).with_name("g2vlm")
    if not script.exists():
        pytest.skip("the package is not installed as a program")
    installed = subprocess.run([script, "predict", "--help"], capture_output=True, text=True, check=True).stdout
    assert installed.split()[:3] == ["Usage:", "g2vlm", "predict"]
    assert installed.splitlines()[2:] == python("-m", "g2vlm", "predict", "--help").splitlines()[2:]


def test_help_comes_at_once():
    assert seconds_of_work("-m", "g2vlm", "--help") < 0.7


def test_help_imports_nothing_heavy():
    heavy = {"torch", "transformers", "numpy", "PIL", "trimesh", "jaxtyping"}
    loaded = python("-c", "import sys, g2vlm.cli; print(*sys.modules)").split()
    assert not heavy & set(loaded)


def test_the_version_is_the_packages(run):
    assert run("--version").out == f"{g2vlm.__version__}\n"


@pytest.mark.parametrize("arguments", [("predict",), ("predict", "a.jpg", "--device", "gpu"), ("predct",)])
def test_a_wrong_call_is_the_users(run, arguments):
    assert run(*arguments).code == 2


def test_each_command_has_help(run):
    listing = run("--help").out
    for command in ("predict", "convert", "rooms"):
        assert command in listing
        assert run(command, "--help").code == 0
