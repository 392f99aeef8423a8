"""What `import simtrain as st` offers: the names listed once, loaded late, with examples that run."""

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import simtrain as st

ROOT = Path(__file__).parents[2]
NAMES = ["WrongInput", "clusters", "explain", "job", "models", "plan", "score", "simulate", "sweep"]
WITH_EXAMPLES = [path for path in sorted((ROOT / "simtrain").rglob("*.py")) if ">>> " in path.read_text()]


def test_the_names() -> None:
    from simtrain import api

    assert st.__all__ == NAMES == api.__all__ == dir(st)
    for name in NAMES:
        assert getattr(st, name) is getattr(api, name)
    with pytest.raises(AttributeError, match="no attribute 'plans'"):
        _ = st.plans


def test_importing_loads_nothing() -> None:
    code = "import sys, simtrain;sys.exit(any(name in sys.modules for name in ('numpy', 'pydantic', 'rich')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_every_public_function_has_an_example() -> None:
    assert all(">>> " in getattr(st, name).__doc__ for name in NAMES if name != "WrongInput")


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(path: Path) -> None:
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    found = doctest.testmod(module)
    assert found.attempted
    assert found.failed == 0
