"""Fit the kernel laws of measured devices.

`python -m simtrain.validation.kernel_fit DEVICE...` rewrites [fit] and [law] in profiles/devices/DEVICE/meta.toml by
robust least squares of log(law / measured) on half of the shapes; the errors written beside the numbers are of the
other half. A rerun on the same tables writes the same file.
"""

import datetime
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from simtrain.price.kernel_laws import (
    AttentionLaw,
    MatmulLaw,
    library_correction,
    matmul_correction,
    training_rows,
)
from simtrain.price.profile import ELEMENT_BYTES, FOLDER, attention_peak, profile_file
from simtrain.price.profile_file import AttentionNumbers, FusedKernel, MatmulNumbers, ProfileFile
from simtrain.price.tables import (
    Columns,
    columns,
    forward_seconds,
    library_cells,
    matmul_coordinates,
    operand_of,
    where,
)
from simtrain.spec.base import Evidence
from simtrain.spec.library import path_of

Array = NDArray[np.float64]
MARK: Final = "# Below: written by `python -m simtrain.validation.kernel_fit`; edits are lost.\n"
SOFT: Final = 0.05
"""Relative error beyond which a row counts linearly (soft L1)."""
DIGITS: Final = 3
KERNELS: Final[tuple[FusedKernel, ...]] = ("flash-2", "flash-3")


@dataclass(frozen=True)
class Fitted:
    """Numbers of one law with the rows and errors that belong to them."""

    values: Array
    rows: NDArray[np.bool_]
    """True: fitted on; False: held out."""
    error: Array
    """Relative error of the law on each row."""


def half(count: int) -> NDArray[np.bool_]:
    """Half of `count` rows, always the same."""
    return np.random.default_rng(0).permutation(np.arange(count) % 2 == 0)


def fit(
    law: Callable[[Array], Array],
    measured: Array,
    rows: NDArray[np.bool_],
    start: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
) -> Fitted:
    """Positive numbers of `law` (numbers -> seconds of every row) that bring it nearest to `measured` (s) on `rows`."""
    from scipy.optimize import least_squares

    def distance(logarithms: Array) -> Array:
        return np.log(law(np.exp(logarithms)) / measured)[rows]

    solution = least_squares(
        distance, np.log(start), bounds=(np.log(low), np.log(high)), loss="soft_l1", f_scale=SOFT, xtol=1e-12
    )
    values = np.array([float(f"{value:.{DIGITS}g}") for value in np.exp(solution.x)])
    return Fitted(values, rows, np.abs(law(values) / measured - 1))


def matmul_numbers(file: ProfileFile, folder: Path) -> dict[str, MatmulNumbers]:
    """The laws of every format with a matmul table."""
    assert file.reference is not None
    table = columns(folder / "matmul.csv")
    result = {}
    for name in sorted(set(table["dtype"])):
        rows = operand_of(where(table, table["dtype"] == name))["forward"]
        m, n, k, measured = (rows[field] for field in ("m", "n", "k", "time_s"))

        def law(values: Array, name: str = name) -> MatmulLaw:
            numbers = MatmulNumbers.model_construct(
                evidence=Evidence.MEASURED_ELSEWHERE, source="candidate",
                ceiling=values[0], ramp_depth=values[1], launch=values[2],
            )  # fmt: skip
            reference = file.reference
            assert reference is not None
            peak, bandwidth = reference.peak[name], reference.memory_bandwidth  # type: ignore[index]
            return MatmulLaw(numbers, peak, bandwidth, file.memory.efficiency.value, ELEMENT_BYTES[name])

        found = fit(
            lambda values, law=law, m=m, n=n, k=k: law(values).seconds(m, n, k),  # type: ignore[misc]
            measured, half(len(m)), (0.7, 64, 3e-6), (0.1, 1, 1e-6), (1, 1000, 3e-5),
        )  # fmt: skip
        held = ~np.isin(n, np.unique(n)[::2])
        correction = matmul_correction(law(found.values), where(rows, ~held))
        again = law(found.values).seconds(m, n, k) * correction.at(matmul_coordinates(m, n, k))[0]
        result[name] = MatmulNumbers.model_validate(
            _report(found, "matmul.csv")
            | _interpolated(np.abs(again / measured - 1)[held])
            | {"ceiling": found.values[0], "ramp_depth": found.values[1], "launch": f"{found.values[2]:.3g} s"}
        )
    return result


def attention_numbers(file: ProfileFile, folder: Path, launch: float) -> list[AttentionNumbers]:
    """The laws of the library table, then of the published training kernels; all start in `launch` seconds.

    The launch is the matrix multiply's: fitted here it would trade off against the idle end of the last wave.
    """
    assert file.reference is not None
    peak = attention_peak(file.reference.peak)  # type: ignore[arg-type]
    table = columns(folder / "attention_forward.csv")
    library = [
        _library(where(table, table["head_dim"] == head_dim), int(head_dim), peak, launch)
        for head_dim in np.unique(table["head_dim"])
    ]
    if file.attention.training is None:
        return library
    path = path_of(FOLDER, file.attention.training, "attention_training.csv")
    training = columns(path)
    result = list(library)
    for kernel in KERNELS:
        for causal in (True, False):
            rows = training_rows(training, kernel, causal)
            for head_dim in np.unique(rows["head_dim"]):
                blocks = min(library, key=lambda entry: abs(entry.head_dim - head_dim)).ramp_blocks
                one = where(rows, rows["head_dim"] == head_dim)
                rate = file.attention.backward_rate[kernel].value
                source = f"{file.attention.training}/attention_training.csv; ramp_blocks on attention_forward.csv"
                result.append(_training(one, kernel, causal, int(head_dim), peak, blocks, launch, rate, source))
    return result


def _attention_law(
    values: Sequence[float] | Array, kernel: FusedKernel, causal: bool, head_dim: int, peak: float
) -> AttentionLaw:
    ceiling, length, blocks, launch = values
    numbers = AttentionNumbers.model_construct(
        evidence=Evidence.MEASURED_ELSEWHERE, source="candidate", kernel=kernel, causal=causal, head_dim=head_dim,
        ceiling=ceiling, ramp_length=length, ramp_blocks=blocks, launch=launch,
    )  # fmt: skip
    return AttentionLaw((numbers,), peak, backward_rate=1.0)


def _library(rows: Columns, head_dim: int, peak: float, launch: float) -> AttentionNumbers:
    shape = tuple(rows[name] for name in ("batch", "seq", "seq", "heads", "head_dim"))
    measured = rows["time_s"]

    def law(values: Array) -> AttentionLaw:
        return _attention_law((*values, launch), "library", True, head_dim, peak)

    found = fit(
        lambda values: law(values).seconds(*shape),
        measured, half(len(measured)), (0.5, 500, 100), (0.1, 1, 1), (1, 4000, 2000),
    )  # fmt: skip
    correction = library_correction(law(found.values), where(rows, found.rows))
    again = law(found.values).seconds(*shape) * correction.at(library_cells(rows))[0]
    return AttentionNumbers.model_validate(
        _report(found, "attention_forward.csv")
        | _interpolated(np.abs(again / measured - 1)[~found.rows])
        | {"kernel": "library", "head_dim": head_dim, "causal": True}
        | _numbers((*found.values, launch))
    )


def _training(
    rows: Columns,
    kernel: FusedKernel,
    causal: bool,
    head_dim: int,
    peak: float,
    blocks: float,
    launch: float,
    rate: float,
    source: str,
) -> AttentionNumbers:
    shape = tuple(rows[name] for name in ("batch", "seq", "seq", "heads", "head_dim"))
    order = np.argsort(rows["seq"])
    alternate = np.zeros(len(order), bool)
    alternate[order[::2]] = True
    measured = forward_seconds(rows, launch, rate)

    def seconds(values: Array) -> Array:
        return _attention_law((*values, blocks, launch), kernel, causal, head_dim, peak).seconds(*shape)

    found = fit(seconds, measured, alternate, (0.6, 400), (0.1, 1), (1, 4000))
    return AttentionNumbers.model_validate(
        _report(found, source)
        | {"kernel": kernel, "head_dim": head_dim, "causal": causal}
        | _numbers((*found.values, blocks, launch))
    )


def _numbers(values: Sequence[float] | Array) -> dict[str, Any]:
    ceiling, length, blocks, launch = values
    return {"ceiling": ceiling, "ramp_length": length, "ramp_blocks": blocks, "launch": f"{launch:.3g} s"}


def _report(found: Fitted, source: str) -> dict[str, Any]:
    held = found.error[~found.rows]
    return {
        "evidence": Evidence.MEASURED_ELSEWHERE,
        "source": f"fitted on {source}",
        "rows_fitted": int(found.rows.sum()),
        "rows_held_out": len(held),
        "median_error": round(float(np.median(held)), 4),
        "p90_error": round(float(np.quantile(held, 0.9)), 4),
    }


def _interpolated(errors: Array) -> dict[str, float]:
    return {
        "interpolated_median_error": round(float(np.median(errors)), 4),
        "interpolated_p90_error": round(float(np.quantile(errors, 0.9)), 4),
    }


def fitted_part(name: str, today: str) -> str:
    """The text below the mark: laws of one device as TOML, dated `today` unless nothing changed since the last fit."""
    file, folder = profile_file(name), path_of(FOLDER, name)
    matmul = matmul_numbers(file, folder)
    attention = attention_numbers(file, folder, matmul["bf16"].launch)
    body = "".join(_table(f"[law.matmul.{format_}]", numbers) for format_, numbers in matmul.items())
    body += "".join(_table("[[law.attention]]", numbers) for numbers in attention)
    old = (folder / "meta.toml").read_text(encoding="utf-8")
    date = file.fit.date if file.fit is not None and old.endswith(body) else today
    return f'[fit]\ncommand = "python -m simtrain.validation.kernel_fit {name}"\ndate = "{date}"\n{body}'


def _table(header: str, numbers: MatmulNumbers | AttentionNumbers) -> str:
    lines = []
    for key, value in numbers.model_dump(exclude_none=True).items():
        quoted = isinstance(value, str)
        shown = f'"{value}"' if quoted else str(value).lower() if isinstance(value, bool) else repr(value)
        lines.append(f"{key} = {shown}\n")
    return f"\n{header}\n" + "".join(lines)


def main(devices: Sequence[str]) -> None:
    """Rewrite the fitted part of each device's meta.toml and print its errors."""
    today = datetime.date.today().isoformat()
    for name in devices:
        path = path_of(FOLDER, name, "meta.toml")
        kept = path.read_text(encoding="utf-8").split(MARK)[0]
        path.write_text(kept + MARK + fitted_part(name, today), encoding="utf-8")
        law = profile_file(name).law
        for entry in (*law.matmul.values(), *law.attention):
            print(name, entry.model_dump_json(exclude_none=True, exclude={"source", "evidence"}))


if __name__ == "__main__":
    main(sys.argv[1:])
