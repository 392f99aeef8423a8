"""What was measured on a device, as the prices ask for it: law numbers, corrections by tables, ratios, evidence."""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import Problem, WrongInput, nearest
from simtrain.price.kernel_laws import (
    AttentionLaw,
    MatmulLaw,
    backward_correction,
    library_correction,
    matmul_correction,
    narrower,
    training_correction,
    training_rows,
)
from simtrain.price.profile_file import AttentionNumbers, ProfileFile
from simtrain.price.tables import columns, operand_of, where
from simtrain.spec.base import Evidence, checked
from simtrain.spec.hardware import Device
from simtrain.spec.library import path_of, read_toml

Array = NDArray[np.float64]
FOLDER: Final = "profiles/devices"
ELEMENT_BYTES: Final = {"fp32": 4.0, "tf32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.0, "fp4": 0.5}
SAME_RATE: Final = {"fp16": "bf16"}
"""Formats that share the tables of another: tensor cores run both at one rate (data sheets)."""
RUNS: Final[Mapping[str, Mapping[str, str]]] = {
    "volta": {"flash-1": "unfused", "flash-2": "unfused", "flash-3": "unfused"},
    "ampere": {"flash-3": "flash-2"},
    "ada": {"flash-3": "flash-2"},
    "hopper": {},
    "cpu": {"flash-1": "library", "flash-2": "library", "flash-3": "library"},
    "blackwell": {"flash-1": "library", "flash-2": "library", "flash-3": "library"},
    "cdna2": {"flash-3": "flash-2"},
    "cdna3": {"flash-3": "flash-2"},
}
"""What an architecture runs instead of a kernel it cannot (recalled from the requirements of Dao-AILab/flash-attention,
not opened)."""
NEAREST_KERNEL: Final = {
    "flash-1": ("flash-2", "library", "flash-3"),
    "flash-2": ("flash-2", "library", "flash-3"),
    "flash-3": ("flash-3", "library", "flash-2"),
    "library": ("library", "flash-3", "flash-2"),
}
"""Whose numbers price a kernel the profile has none for."""


@dataclass(frozen=True)
class Profile:
    """Measurements of a device, scaled to the peaks and the bandwidth of the device that names them."""

    name: str
    device: str
    architecture: str
    evidence: Evidence
    sources: tuple[str, ...]
    matmul: Mapping[str, MatmulLaw]
    attention: Mapping[tuple[str, bool], AttentionLaw]
    """By kernel and whether it is causal."""
    bandwidth: float
    memory_efficiency: float
    memory_launch: float
    backward_input_efficiency: float
    """Rate of the input-gradient product over the forward one's."""
    backward_weight_efficiency: float

    def matmul_law(self, datatype: str) -> MatmulLaw:
        """The law of a number format; WrongInput where the device has no peak for it."""
        if datatype not in self.matmul:
            known = ", ".join(sorted(self.matmul))
            rule = f"is no format of {self.device}"
            raise WrongInput([Problem("precision.matmul", datatype, rule, f"known: {known}")])
        return self.matmul[datatype]

    def attention_law(self, kernel: str, causal: bool) -> AttentionLaw:
        """The law of a fused kernel, or of the nearest the profile knows; without one of the full mask, the causal one.

        WrongInput where the profile has no fused kernel.
        """
        for known in NEAREST_KERNEL[kernel]:
            for mask in (causal, True):
                if (known, mask) in self.attention:
                    return self.attention[known, mask]
        raise WrongInput([Problem("attention_kernel", kernel, f"does not run on {self.device}", "use 'unfused'")])


UNFUSED: Final = ("unfused", "eager")
"""Attention as separate products and softmax."""
FIRST_GENERATION: Final = 0.5
"""Rate of FlashAttention over FlashAttention-2 ("about 2x", arXiv 2307.08691 abstract)."""


def attention_kernel(profile: Profile, wanted: str) -> str:
    """What runs where `wanted` ("flash-2", "flash-3", "unfused") is asked for: itself or the newest kernel that can."""
    runs = RUNS[profile.architecture].get(wanted, wanted)
    return runs if profile.attention or runs in UNFUSED else "unfused"


def profile(device: Device) -> Profile:
    """The profile of a device: the one it names, its own, or the assumed one of its architecture. Loaded once.

    Raises WrongInput when the named one does not exist or a file is wrong.
    """
    peak = tuple(sorted((name, fact.value) for name, fact in device.peak.items()))
    return _profile(device.name, device.profile, device.architecture, peak, device.memory_bandwidth.value)


def profile_file(name: str) -> ProfileFile:
    """The checked meta.toml of a measured device."""
    path = path_of(FOLDER, name, "meta.toml")
    return checked(ProfileFile, read_toml(path), f"profile {name}")


@functools.cache
def _profile(
    device: str, named: str | None, architecture: str, peak: tuple[tuple[str, float], ...], bandwidth: float
) -> Profile:
    folder = path_of(FOLDER, named or device)
    if (folder / "meta.toml").is_file():
        file = profile_file(named or device)
    elif named is not None:
        known = [path.parent.name for path in path_of(FOLDER).glob("*/meta.toml")]
        raise WrongInput([Problem("device.profile", named, "is not known", nearest(named, known))])
    else:
        assumed = path_of(FOLDER, "assumed", f"{architecture}.toml")
        file = checked(ProfileFile, read_toml(assumed), f"profile {architecture}")
    peaks = dict(peak)
    return Profile(
        name=file.name,
        device=device,
        architecture=architecture,
        evidence=file.evidence,
        sources=(file.source, *(table.source for table in file.tables.values())),
        matmul=MappingProxyType(_matmul_laws(file, folder, peaks, bandwidth)),
        attention=MappingProxyType(
            _attention_laws(file, folder, attention_peak(peaks)) if fused(architecture, peaks) else {}
        ),
        bandwidth=bandwidth,
        memory_efficiency=file.memory.efficiency.value,
        memory_launch=file.memory.launch.value,
        backward_input_efficiency=file.matmul.backward_input.value,
        backward_weight_efficiency=file.matmul.backward_weight.value,
    )


HALF: Final = {"bf16", "fp16"}
"""Number formats fused attention runs in; a device without them has none."""


def attention_peak(peak: Mapping[str, float]) -> float:
    """FLOP/s of the products inside fused attention: 16-bit ones where the device has them."""
    return next(peak[name] for name in ("bf16", "fp16", "fp32") if name in peak)


def fused(architecture: str, formats: Iterable[str]) -> bool:
    """Whether a device runs fused attention."""
    return architecture == "cpu" or bool(HALF & set(formats))


def _matmul_laws(file: ProfileFile, folder: Path, peak: dict[str, float], bandwidth: float) -> dict[str, MatmulLaw]:
    known = file.assumed.matmul | file.law.matmul
    path = folder / "matmul.csv"
    table = columns(path) if path.is_file() else None
    laws: dict[str, MatmulLaw] = {}
    for name, rate in peak.items():
        if name in file.matmul.speedup:
            continue
        format_ = name if name in known else SAME_RATE.get(name, name)
        if format_ not in known:
            continue
        numbers, efficiency = known[format_], file.memory.efficiency.value
        correction, operands = None, {}
        if table is not None and file.reference is not None and (table["dtype"] == format_).any():
            there = file.reference
            law = MatmulLaw(numbers, there.peak[format_], there.memory_bandwidth, efficiency, ELEMENT_BYTES[format_])
            rows = where(table, table["dtype"] == format_)
            measured = {operand: matmul_correction(law, part) for operand, part in operand_of(rows).items()}
            correction = measured.pop("forward")
            operands = measured
        laws[name] = MatmulLaw(
            numbers, rate, bandwidth, efficiency, ELEMENT_BYTES[name], correction, MappingProxyType(operands)
        )
    for name, speedup in file.matmul.speedup.items():
        if name in peak:
            laws[name] = narrower(laws["bf16"], speedup.value, peak[name], ELEMENT_BYTES[name])
    return laws


def _attention_laws(file: ProfileFile, folder: Path, peak: float) -> dict[tuple[str, bool], AttentionLaw]:
    grouped: dict[tuple[str, bool], list[AttentionNumbers]] = {}
    for entry in sorted((*file.assumed.attention, *file.law.attention), key=lambda entry: entry.head_dim):
        grouped.setdefault((entry.kernel, entry.causal), []).append(entry)
    training = None if file.attention.training is None else path_of(FOLDER, file.attention.training)
    laws = {}
    for (kernel, causal), numbers in grouped.items():
        rate = file.attention.backward_rate[kernel].value  # type: ignore[index]
        both, correction, backward = False, None, None
        if file.reference is not None:
            there = AttentionLaw(tuple(numbers), attention_peak(file.reference.peak), rate)  # type: ignore[arg-type]
            if kernel == "library":
                table = columns(folder / "attention_forward.csv")
                correction, backward = library_correction(there, table), backward_correction(there, table)
                both = backward is not None
            elif training is not None:
                rows = training_rows(columns(training / "attention_training.csv"), kernel, causal)
                both, correction = bool((rows["pass"] == "both").all()), training_correction(there, rows)
        laws[kernel, causal] = AttentionLaw(tuple(numbers), peak, rate, both, correction, backward)
    return laws
