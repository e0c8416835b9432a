import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import g2vlm

REPOSITORY = Path(__file__).resolve().parents[1]
LINKS = ("heads", "losses", "train", "eval", "export")
FOLDERS = ("g2vlm", "tests", "examples", "benchmarks")


def modules_after(statement: str) -> set[str]:
    """Top-level names in sys.modules of a fresh interpreter that ran the statement in another folder."""
    code = f"{statement}; import sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert modules_after("import g2vlm").isdisjoint({"torch", "transformers", "numpy", "PIL", "typer", "rich"})


def test_asking_for_the_public_names_or_the_version_loads_nothing_heavy():
    assert modules_after("import g2vlm; dir(g2vlm), g2vlm.__version__").isdisjoint({"torch", "transformers", "numpy"})


@pytest.mark.parametrize("name", g2vlm.__all__)
def test_every_public_name_is_found_on_first_use(name):
    assert name in dir(g2vlm)
    assert getattr(g2vlm, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = g2vlm.Nothing  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("room", LINKS)
def test_the_rooms_at_the_root_are_relative_links(room):
    link = REPOSITORY / room
    assert link.is_symlink()
    assert link.readlink() == Path("g2vlm") / room
    assert link.resolve() == (REPOSITORY / "g2vlm" / room).resolve()


def test_nothing_imports_through_the_links():
    offenders = []
    for source in (path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                continue
            offenders += [f"{source}:{node.lineno}" for name in names if name.split(".")[0] in LINKS]
    assert offenders == []


def test_the_version_is_the_same_wherever_it_is_written():
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    citation = (REPOSITORY / "CITATION.cff").read_text()
    assert version("g2vlm") == g2vlm.__version__
    assert re.search(r"^## (\S+)", changelog, re.MULTILINE)[1] == g2vlm.__version__
    assert re.search(r"^version: (\S+)", citation, re.MULTILINE)[1] == g2vlm.__version__


def test_every_dependency_has_a_tested_version():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = {
        re.match(r"[\w-]+", line)[0] for line in project["dependencies"] + project["optional-dependencies"]["dev"]
    }
    pinned = re.findall(r"^([\w-]+)==[\d.]+$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    assert wanted <= {name.lower() for name in pinned}


def test_no_extra_drags_a_cuda_build_into_the_base():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    base = " ".join(project["dependencies"] + project["optional-dependencies"]["dev"])
    assert not re.search(r"torchvision|timm|flash|xformers", base)
