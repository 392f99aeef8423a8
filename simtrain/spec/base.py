"""The base of every description a user gives: frozen, strict, and able to name all its problems at once."""

import enum
from typing import Annotated, Any, Generic, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError, model_validator

from simtrain import units
from simtrain.errors import Problem, WrongInput, nearest


class Spec(BaseModel):
    """A frozen description; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Evidence(enum.StrEnum):
    """How a number is known, best first."""

    MEASURED_HERE = "measured here"
    MEASURED_ELSEWHERE = "measured elsewhere"
    DATA_SHEET = "data sheet"
    ASSUMED = "assumed"


def _reader(unit: str, positive: bool) -> Any:
    def read(value: Any) -> float:
        if not isinstance(value, str):
            raise ValueError(f"has no unit (write it as a string like {units.example(unit)!r})")
        number = units.parse(value, unit)
        if number < 0:
            raise ValueError("must not be negative")
        if positive and number == 0:
            raise ValueError("must be more than zero")
        return number

    return read


def quantity(unit: str, positive: bool = False) -> Any:
    """Pydantic annotations of a float in SI `unit`, written with its unit in files and read back exactly."""
    return BeforeValidator(_reader(unit, positive)), PlainSerializer(lambda value: f"{value!r} {unit}", return_type=str)


Size = Annotated[float, *quantity("B", positive=True)]
Rate = Annotated[float, *quantity("B/s", positive=True)]
Compute = Annotated[float, *quantity("FLOP/s", positive=True)]
Duration = Annotated[float, *quantity("s")]
Power = Annotated[float, *quantity("W", positive=True)]
Frequency = Annotated[float, *quantity("Hz", positive=True)]
HourlyPrice = Annotated[float, *quantity("USD/s")]
Tariff = Annotated[float, *quantity("USD/J")]
CarbonIntensity = Annotated[float, *quantity("kg/J")]

T = TypeVar("T")


class Fact(Spec, Generic[T]):
    """A number with its source and evidence grade; a bare value in a user's file counts as assumed."""

    value: T
    source: str = "stated by the user"
    evidence: Evidence = Evidence.ASSUMED
    note: str = ""

    @model_validator(mode="before")
    @classmethod
    def _bare_value(cls, data: Any) -> Any:
        return data if isinstance(data, (dict, Fact)) else {"value": data}


def problems_of(error: ValidationError, spec: type[BaseModel], where: str) -> list[Problem]:
    """Every problem of a pydantic error, in our own words."""
    problems = []
    for item in error.errors():
        location = [part for part in item["loc"] if not (isinstance(part, str) and "[" in part)]
        path = ".".join([where, *map(str, location)]) if location else where
        if item["type"] == "extra_forbidden":
            known = _keys_at(spec, location[:-1])
            problems.append(Problem(path, None, "is not a known key", nearest(str(location[-1]), known)))
        elif item["type"] == "missing":
            problems.append(Problem(path, None, "is missing"))
        else:
            value = item["input"]
            shown = value if isinstance(value, (str, int, float, bool)) else None
            problems.append(Problem(path, shown, _own_words(item["msg"])))
    return problems


def _own_words(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _keys_at(spec: type[BaseModel], location: list[int | str]) -> list[str]:
    kind: Any = spec
    for part in location:
        field = getattr(kind, "model_fields", {}).get(part)
        candidates = [] if field is None else [field.annotation, *get_args(field.annotation)]
        kind = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if kind is None:
            return []
    return list(kind.model_fields)


S = TypeVar("S", bound=BaseModel)


def checked(spec: type[S], data: Any, where: str) -> S:
    """Build `spec` from plain data, turning pydantic's complaints into a `WrongInput` with all problems."""
    try:
        return spec.model_validate(data)
    except ValidationError as error:
        raise WrongInput(problems_of(error, spec, where)) from None
