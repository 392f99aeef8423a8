import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("machines are noisy", deadline=None)
hypothesis.settings.load_profile("machines are noisy")
sys.path.insert(0, str(Path(__file__).parent))
REFRESH = "SIMTRAIN_REFRESH_SNAPSHOTS"


@pytest.fixture
def snapshot(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """`snapshot(text)` compares with snapshots/<test>.txt; set SIMTRAIN_REFRESH_SNAPSHOTS=1 to write it anew."""

    def compare(text: str) -> None:
        path = request.path.parent / "snapshots" / f"{request.node.name}.txt"
        timeless = re.sub(r"fit; \d+\.\d s", "fit; ? s", text)
        if os.environ.get(REFRESH):
            path.parent.mkdir(exist_ok=True)
            path.write_text(timeless, encoding="utf-8")
        assert timeless == path.read_text(encoding="utf-8"), f"if this is meant: {REFRESH}=1 pytest {request.path}"

    return compare
