"""simtrain: will it fit, how fast, what will it cost, which layout, and how sure are we?

For notebooks and scripts: `import simtrain as st`. What is public stands in `__all__`; it is loaded when first used.
"""

from typing import Any

__all__ = ["WrongInput", "clusters", "explain", "job", "models", "plan", "score", "simulate", "sweep"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'simtrain' has no attribute {name!r}")
    from simtrain import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return __all__
