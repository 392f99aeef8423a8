"""The rules of the house that a machine can check."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "simtrain").rglob("*.py"))
LONGEST = 300


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if p.parent.name == "laws" and p.stem != "__init__"], ids=lambda p: p.stem
)
def test_every_law_cites_its_source(path: Path) -> None:
    """A public function of laws/ names a paper, a document or a fit in its own docstring."""
    tree = ast.parse(path.read_text())
    cites = re.compile(r"arXiv|NCCL|nccl|doi|et al\.|profiles/|CACM|[A-Z][a-z]+ (?:19|20)\d\d")
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            text = ast.get_docstring(node) or ""
            assert cites.search(text), f"{path.name}:{node.name}"


def test_imports_go_down_only() -> None:
    """The layers contract of pyproject.toml."""
    lint = Path(sys.executable).with_name("lint-imports")
    assert subprocess.run([lint], cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_planning_never_imports_torch() -> None:
    code = (
        "import sys, simtrain.cli.main, simtrain.search.search, simtrain.views.tables;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'pandas', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_loads_no_numerics() -> None:
    """`simtrain --help` answers at once: numpy, pydantic and scipy wait for a verb that needs them."""
    code = "import sys, simtrain.cli.main;sys.exit(any(name in sys.modules for name in ('numpy', 'pydantic', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
