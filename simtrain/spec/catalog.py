"""Models by name or by file: our catalog, a Hugging Face config.json, or a TOML file of Model fields."""

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from simtrain.errors import Problem, WrongInput, nearest
from simtrain.spec import huggingface
from simtrain.spec.base import checked
from simtrain.spec.library import names, path_of, read_toml
from simtrain.spec.model import Model

FOLDER = "catalog/models"


def model(name_or_path: str) -> Model:
    """The model of a catalog name or alias (any case), a config.json, a folder holding one, or a .toml of Model fields.

    Raises WrongInput when nothing has that name (with the nearest ones) or when the file is wrong (all problems).
    """
    if name_or_path.lower() in _aliases():
        return _named(_aliases()[name_or_path.lower()])
    path = Path(name_or_path)
    if path.suffix == ".toml":
        return checked(Model, {"name": path.stem} | read_toml(path), str(path))
    if path.suffix == ".json" or (name_or_path and os.path.isdir(path)):
        return huggingface.model(path)
    hint = f"{nearest(name_or_path, _aliases())} (a config.json, its folder or a .toml of Model fields will do too)"
    raise WrongInput([Problem("model", name_or_path, "is not known", hint)])


def model_names() -> tuple[str, ...]:
    """Every model of the catalog, sorted; aliases not included."""
    return tuple(sorted(_tables()))


@functools.cache
def _tables() -> Mapping[str, Mapping[str, Any]]:
    """Every model's own table laid over what its family shares; each file is parsed once a process."""
    tables: dict[str, Mapping[str, Any]] = {}
    for file in names(FOLDER):
        family = read_toml(path_of(FOLDER, f"{file}.toml"))
        shared = family.pop("family", {})
        tables |= {name: MappingProxyType(shared | table) for name, table in family.items()}
    return MappingProxyType(tables)


@functools.cache
def _aliases() -> Mapping[str, str]:
    aliases = {alias: name for name, table in _tables().items() for alias in table.get("aliases", ())}
    return MappingProxyType(aliases | {name: name for name in _tables()})


@functools.cache
def _named(name: str) -> Model:
    fields = {key: value for key, value in _tables()[name].items() if key != "aliases"}
    return checked(Model, {"name": name} | fields, name)
