"""A folder of published runs, loaded strictly: runs.csv (a row a measured configuration) and models.json (shapes)."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError

from simtrain.errors import Problem, WrongInput, nearest
from simtrain.spec.base import Spec, problems_of
from simtrain.spec.library import path_of

PUBLISHED: Final = "validate/published"
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Figure = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Row(Spec):
    """One measured configuration, as its source states it; None where it states nothing. Columns: README.md there."""

    id: str
    source: str
    model: str
    gpu: str
    gpus_per_node: PositiveInt | None = None
    gpus: PositiveInt
    intra: str = ""
    inter: str = ""
    seq: PositiveInt | None = None
    tp: PositiveInt | None = None
    pp: PositiveInt | None = None
    vpp: PositiveInt | None = None
    cp: PositiveInt | None = None
    cp_kind: str = ""
    ulysses: PositiveInt | None = None
    ep: PositiveInt | None = None
    etp: PositiveInt | None = None
    dp: PositiveInt | None = None
    sp: bool | None = None
    zero: NonNegativeInt | None = None
    fsdp: bool | None = None
    shard_group: PositiveInt | None = None
    schedule: str = ""
    micro_batch: PositiveInt | None = None
    global_batch: PositiveInt | None = None
    precision: str = "unknown"
    precision_detail: str = ""
    recompute: str = "unknown"
    attention_kernel: str = ""
    offload: str = ""
    software: str = ""
    task: str = ""
    status: str = ""
    step_s: Positive | None = None
    step_from: str = ""
    mfu_printed: Figure | None = None
    tflops_printed: Figure | None = None
    tokens_per_s_per_gpu: Figure | None = None
    peak_mem_gib: Positive | None = None
    mem_allocated_gb: Figure | None = None
    mem_reserved_gb: Figure | None = None
    net_all_reduce_gbps: Positive | None = None
    net_all_gather_gbps: Positive | None = None
    net_reduce_scatter_gbps: Positive | None = None
    published_sim_step_s: Positive | None = None
    published_sim_mem_gib: Positive | None = None
    verified: bool | None = None
    notes: str = ""


COLUMNS: Final = tuple(Row.model_fields)


@dataclass(frozen=True)
class Corpus:
    """Rows in file order, and the shapes their `model` column names; a row whose model has none is unsupported."""

    rows: tuple[Row, ...]
    models: Mapping[str, Mapping[str, Any]]

    def of_source(self, source: str | None) -> "Corpus":
        """The rows of one source; None: all."""
        if source is None:
            return self
        known = {row.source for row in self.rows}
        if source not in known:
            raise WrongInput([Problem("--source", source, "has no rows here", nearest(source, known))])
        return Corpus(tuple(row for row in self.rows if row.source == source), self.models)


def corpus(folder: Path | None = None) -> Corpus:
    """Read runs.csv and models.json of `folder` (None: the shipped ones); WrongInput lists every problem of both."""
    folder = path_of(PUBLISHED) if folder is None else folder
    if not folder.is_dir():
        raise WrongInput([Problem("FOLDER", str(folder), "is not a folder", "it must hold runs.csv and models.json")])
    problems: list[Problem] = []
    models = _models(folder / "models.json", problems)
    rows = _rows(folder / "runs.csv", problems)
    if problems or models is None:
        raise WrongInput(problems)
    return Corpus(rows, models)


def _models(path: Path, problems: list[Problem]) -> dict[str, dict[str, Any]] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        problems.append(Problem(str(path), None, f"is not valid JSON: {error}"))
        return None
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem(str(path), None, f"cannot be read: {error}"))
        return None
    if not isinstance(found, dict) or not all(isinstance(shape, dict) for shape in found.values()):
        problems.append(Problem(str(path), None, "must map model names to shapes"))
        return None
    return found


def _rows(path: Path, problems: list[Problem]) -> tuple[Row, ...]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            lines = [(reader.line_num, cells) for cells in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.append(Problem(str(path), None, f"cannot be read: {error}"))
        return ()
    unknown = [name for name in columns if name not in COLUMNS]
    problems += [Problem(f"{path.name} column", name, "is not known", nearest(name, COLUMNS)) for name in unknown]
    problems += [Problem(f"{path.name} column", name, "is missing") for name in COLUMNS if name not in columns]
    if problems and set(columns) != set(COLUMNS):
        return ()
    rows: list[Row] = []
    seen: set[str] = set()
    for line, cells in lines:
        where = f"{path.name} line {line}"
        if None in cells or None in cells.values():
            problems.append(Problem(where, None, f"must have {len(COLUMNS)} cells"))
            continue
        try:
            row = Row.model_validate({name: text for name, text in cells.items() if text != ""})
        except ValidationError as error:
            problems += problems_of(error, Row, where)
            continue
        if row.id in seen:
            problems.append(Problem(f"{where}.id", row.id, "is there twice"))
        seen.add(row.id)
        rows.append(row)
    return tuple(rows)
