"""The data that travels with the program: hardware/, profiles/ and the catalog, found by one function."""

import functools
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

from simtrain.errors import Problem, WrongInput, nearest


def _folder(folder: str) -> Path:
    """`catalog/...` lies in the package, the rest in the wheel's `_data` or at the top of an editable checkout."""
    package = Path(str(files("simtrain")))
    if folder.startswith("catalog/"):
        return package / folder
    packaged = package / "_data"
    return (packaged if packaged.is_dir() else package.parent) / folder


def path_of(folder: str, *parts: str) -> Path:
    """Path of a file or folder below a data folder, existing or not."""
    return _folder(folder).joinpath(*parts)


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file; a broken one is a `WrongInput` that names the line."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise WrongInput([Problem(str(path), None, f"is not valid TOML: {error}")]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise WrongInput([Problem(str(path), None, f"cannot be read: {_why(error)}")]) from None


def _why(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or "unknown" if isinstance(error, OSError) else "is not UTF-8 text"


@functools.cache
def names(folder: str) -> tuple[str, ...]:
    """Names of the TOML files in a data folder such as `hardware/devices`."""
    return tuple(sorted(path.stem for path in _folder(folder).glob("*.toml")))


def named(folder: str, name: str, what: str) -> dict[str, Any]:
    """The data of one file of a folder; an unknown name is a `WrongInput` with the nearest one."""
    if name.lower() not in names(folder):
        raise WrongInput([Problem(what, name, "is not known", nearest(name, names(folder)))])
    return read_toml(path_of(folder, f"{name.lower()}.toml"))
