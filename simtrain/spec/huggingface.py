"""Reads a Hugging Face config.json into a Model; which key means what is data (catalog/huggingface.toml)."""

import functools
import json
import operator
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from simtrain.errors import Problem, WrongInput
from simtrain.spec.base import checked
from simtrain.spec.library import path_of, read_toml
from simtrain.spec.model import Model

LARGEST = 2**40
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "*": operator.mul,
    "/": lambda dividend, divisor: dividend // divisor if divisor else 0,
}


def model(path: Path) -> Model:
    """The model of a config.json, or of the folder that holds one.

    Raises WrongInput with every problem: broken JSON (with its line), an unknown model_type, keys that are missing, of
    the wrong type or with a value our Model cannot describe. Weights outside the decoder (vision towers, multi-token
    prediction modules) are not read.
    """
    file = path / "config.json" if os.path.isdir(path) else path
    config: Mapping[str, Any] = _read(file)
    where = str(file)
    family = _family(config, where)
    text = family.get("text")
    if text is not None:
        config, where = _inner(config, text, where), f"{where}.{text}"
    name = file.resolve().parent.name if file.name == "config.json" else file.stem
    return _Reading(config, family, where).model(name or "model")


@functools.cache
def model_types() -> tuple[str, ...]:
    """Every `model_type` that can be read."""
    return tuple(sorted(name for name in _tables() if not name.startswith("_")))


@functools.cache
def _tables() -> Mapping[str, Mapping[str, Any]]:
    return read_toml(path_of("catalog/", "huggingface.toml"))


def _rules(family: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The rule of every field by its dotted name, with those of `like` below."""
    below = _rules(_tables()[family["like"]]) if "like" in family else {}
    return below | _leaves(family, "")


def _leaves(table: Mapping[str, Any], prefix: str) -> dict[str, Mapping[str, Any]]:
    leaves: dict[str, Mapping[str, Any]] = {}
    for name, entry in table.items():
        if name != "only" and isinstance(entry, dict):
            rule = {"key", "value", "compute"} & entry.keys()
            leaves |= {prefix + name: entry} if rule else _leaves(entry, f"{prefix}{name}.")
    return leaves


def _only(family: Mapping[str, Any]) -> dict[str, Any]:
    below = _only(_tables()[family["like"]]) if "like" in family else {}
    return below | dict(family.get("only", {}))


def _read(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        rule = f"is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        raise WrongInput([Problem(str(file), None, rule)]) from None
    except (OSError, ValueError, RecursionError) as error:
        raise WrongInput(
            [Problem(str(file), None, f"cannot be read: {error.strerror if isinstance(error, OSError) else error}")]
        ) from None
    if not isinstance(config, dict):
        raise WrongInput([Problem(str(file), None, "must be a JSON object with the keys of a model configuration")])
    return config


def _family(config: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    known = "known: " + ", ".join(model_types())
    kind = config.get("model_type")
    if kind is None:
        raise WrongInput([Problem(f"{where}.model_type", None, "is missing", known)])
    if kind not in model_types():
        raise WrongInput([Problem(f"{where}.model_type", _shown(kind), "is not a known model_type", known)])
    return _tables()[kind]


def _inner(config: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    if key not in config:
        raise WrongInput([Problem(f"{where}.{key}", None, "is missing")])
    if not isinstance(config[key], dict):
        raise WrongInput([Problem(f"{where}.{key}", _shown(config[key]), "must be an object")])
    inner: Mapping[str, Any] = config[key]
    return inner


def _shown(value: object) -> object:
    return value if isinstance(value, str | int | float | bool) else None


class _Reading:
    """One pass over one config, gathering every problem on the way."""

    def __init__(self, config: Mapping[str, Any], family: Mapping[str, Any], where: str):
        self.config = config
        self.rules = _rules(family)
        self.only = _only(family)
        self.where = where
        self.problems: dict[str, Problem] = {}

    def model(self, name: str) -> Model:
        """The model, or WrongInput with all problems."""
        values = {field: self.value(field) for field in self.rules}
        data = _nested({field: value for field, value in values.items() if not field.startswith("let.")})
        self._check_only()
        if not self.problems:
            self._read_layer_types(data)
        if self.problems:
            raise WrongInput(self.problems.values())
        kind = self.config.get("model_type", "")
        source = f"Hugging Face config.json {f'of model_type {kind}' if kind else ''}".strip()
        try:
            return checked(Model, {"name": name, "source": source} | data, self.where)
        except WrongInput as error:
            raise WrongInput(self._in_their_words(problem) for problem in error.problems) from None

    def value(self, field: str) -> Any:
        """A field's value; None when it is "none", or wrong and noted as a problem."""
        rule = self.rules[field]
        if "value" in rule:
            return rule["value"]
        if "compute" in rule:
            return self._computed(rule["compute"])
        keys = _keys(rule)
        key = next((key for key in keys if key in self.config), None)
        if key is not None and self.config[key] is None:
            key = None
            if "null" in rule:
                return self._computed(rule["null"])
        if key is not None:
            return self._plain(key, field)
        if "default" in rule:
            return self._computed(rule["default"])
        self._note(keys[0], None, "is missing")
        return None

    def _plain(self, key: str, field: str) -> int | bool | None:
        value = self.config[key]
        about = Model.model_fields.get(field)
        if about is not None and about.annotation is bool:
            if not isinstance(value, bool):
                self._note(key, value, "must be true or false")
                return None
        elif isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
            self._note(key, value, "must be a whole number, not negative and not astronomic")
            return None
        checked_value: int | bool = value
        return checked_value

    def _computed(self, what: Any) -> Any:
        if not isinstance(what, str):
            return what
        if what == "none":
            return None
        left, *rest = what.split()
        if not rest:
            return self._operand(left)
        operands = self._operand(left), self._operand(rest[1])
        return None if None in operands else OPERATIONS[rest[0]](*operands)

    def _operand(self, text: str) -> Any:
        return int(text) if text.isdigit() else self.value(text)

    def _check_only(self) -> None:
        for key, wanted in self.only.items():
            described = self.value(wanted) if isinstance(wanted, str) else wanted
            given = self.config.get(key)
            if given is not None and described is not None and given != described:
                self._note(key, given, f"cannot be described: only {json.dumps(described)} is known here")

    def _read_layer_types(self, data: dict[str, Any]) -> None:
        """`layer_types` says which layers attend in a window; it wins over the model_type's habit."""
        types = self.config.get("layer_types")
        if types is None:
            return
        known = ("full_attention", "sliding_attention")
        if not isinstance(types, list) or len(types) != data["layers"] or any(kind not in known for kind in types):
            self._note("layer_types", None, f"must name one of {' and '.join(known)} for each layer")
            return
        if "sliding_attention" not in types:
            data.pop("window", None)
            return
        every = types.index("full_attention") + 1 if "full_attention" in types else 0
        regular = not every or all((kind == "full_attention") == (i % every == 0) for i, kind in enumerate(types, 1))
        if not regular:
            self._note("layer_types", None, "cannot be described: full attention does not come every so many layers")
        elif "window" not in data:
            self._note("layer_types", None, "names sliding attention, but no window size is known here")
        else:
            data["window"]["global_every"] = every

    def _note(self, key: str, value: object, rule: str) -> None:
        self.problems[key] = Problem(f"{self.where}.{key}", _shown(value), rule)

    def _in_their_words(self, problem: Problem) -> Problem:
        rule = self.rules.get(problem.where.removeprefix(f"{self.where}."), {})
        if "key" not in rule:
            return problem
        key = next((key for key in _keys(rule) if key in self.config), _keys(rule)[0])
        return Problem(f"{self.where}.{key}", problem.value, problem.rule, problem.hint)


def _keys(rule: Mapping[str, Any]) -> list[str]:
    return [rule["key"]] if isinstance(rule["key"], str) else list(rule["key"])


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names as sub-tables; one with a None in it is left out."""
    data: dict[str, Any] = {}
    for name, value in values.items():
        table, _, field = name.rpartition(".")
        (data.setdefault(table, {}) if table else data)[field] = value
    return {key: value for key, value in data.items() if not (isinstance(value, dict) and None in value.values())}
