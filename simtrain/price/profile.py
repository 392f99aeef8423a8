"""What was measured on a device, as the prices ask for it: law numbers, corrections by tables, ratios, evidence."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import Problem, WrongInput, nearest
from simtrain.laws.kernels import attention_flops, attention_seconds, matmul_seconds
from simtrain.price.correction import Correction
from simtrain.price.profile_file import AttentionNumbers, MatmulNumbers, ProfileFile
from simtrain.price.tables import (
    TILE,
    columns,
    forward_seconds,
    library_cells,
    matmul_coordinates,
    training_coordinates,
    where,
)
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
class MatmulLaw:
    """Matrix multiplies of one number format on one device."""

    numbers: MatmulNumbers
    peak: float
    bandwidth: float
    bandwidth_efficiency: float
    element_bytes: float
    correction: Correction | None = None

    def seconds(self, m: Array, n: Array, k: Array, batch: Array | float = 1.0, launch: float | None = None) -> Array:
        """Seconds by the law alone; `launch` replaces that of the tables, which were timed a kernel at a time."""
        return np.asarray(
            matmul_seconds(
                m,
                n,
                k,
                batch,
                peak=self.peak,
                ceiling=self.numbers.ceiling,
                ramp_depth=self.numbers.ramp_depth,
                bandwidth=self.bandwidth,
                bandwidth_efficiency=self.bandwidth_efficiency,
                element_bytes=self.element_bytes,
                launch=self.numbers.launch if launch is None else launch,
            )
        )


@dataclass(frozen=True)
class AttentionLaw:
    """Forward pass of one fused kernel under one mask on one device; numbers interpolated over head sizes."""

    numbers: tuple[AttentionNumbers, ...]
    """One a head size, ascending."""
    peak: float
    backward_rate: float
    backward_measured: bool = False
    """Whether both passes together were measured, so that only their split rests on `backward_rate`."""
    correction: Correction | None = None

    def at(self, field: str, head_dim: Array) -> Array:
        """One of the law's numbers at a head size."""
        known = [np.log2(entry.head_dim) for entry in self.numbers]
        values = [float(getattr(entry, field)) for entry in self.numbers]
        return np.asarray(np.interp(np.log2(head_dim), known, values))

    def seconds(self, batch: Array, query: Array, key: Array, heads: Array, head_dim: Array) -> Array:
        """Seconds by the law alone."""
        flops = attention_flops(batch, query, key, heads, head_dim, self.numbers[0].causal)
        blocks = batch * heads * query / TILE
        fields = ("ceiling", "ramp_length", "ramp_blocks", "launch")
        return np.asarray(
            attention_seconds(flops, key, blocks, peak=self.peak, **{name: self.at(name, head_dim) for name in fields})
        )


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
    grouped_efficiency: float
    """Rate of grouped expert products over one product of the same size."""

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
        attention=MappingProxyType(_attention_laws(file, folder, attention_peak(peaks)) if HALF & set(peaks) else {}),
        bandwidth=bandwidth,
        memory_efficiency=file.memory.efficiency.value,
        memory_launch=file.memory.launch.value,
        backward_input_efficiency=file.matmul.backward_input.value,
        backward_weight_efficiency=file.matmul.backward_weight.value,
        grouped_efficiency=file.matmul.grouped.value,
    )


HALF: Final = {"bf16", "fp16"}
"""Number formats fused attention runs in; a device without them has none."""


def attention_peak(peak: Mapping[str, float]) -> float:
    """FLOP/s of the 16-bit products inside fused attention."""
    return peak["bf16"] if "bf16" in peak else peak["fp16"]


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
        correction = None
        if table is not None and file.reference is not None and (table["dtype"] == format_).any():
            there = file.reference
            law = MatmulLaw(numbers, there.peak[format_], there.memory_bandwidth, efficiency, ELEMENT_BYTES[format_])
            correction = matmul_correction(law, where(table, table["dtype"] == format_))
        laws[name] = MatmulLaw(numbers, rate, bandwidth, efficiency, ELEMENT_BYTES[name], correction)
    for name, speedup in file.matmul.speedup.items():
        if name in peak:
            laws[name] = narrower(laws["bf16"], speedup.value, peak[name], ELEMENT_BYTES[name])
    return laws


def narrower(wide: MatmulLaw, speedup: float, peak: float, element_bytes: float) -> MatmulLaw:
    """The law of products `speedup` times as fast as the `wide` ones of the same shape."""
    ceiling = wide.numbers.ceiling * wide.peak * speedup / peak
    numbers = wide.numbers.model_copy(update={"ceiling": ceiling})
    return replace(wide, numbers=numbers, peak=peak, element_bytes=element_bytes)


def matmul_correction(law: MatmulLaw, table: dict[str, Array]) -> Correction:
    """What the measured rows say beyond the law of the device they were measured on."""
    m, n, k = (table[name] for name in "mnk")
    return Correction.of(matmul_coordinates(m, n, k), np.log(table["time_s"] / law.seconds(m, n, k)))


def _attention_laws(file: ProfileFile, folder: Path, peak: float) -> dict[tuple[str, bool], AttentionLaw]:
    grouped: dict[tuple[str, bool], list[AttentionNumbers]] = {}
    for entry in sorted((*file.assumed.attention, *file.law.attention), key=lambda entry: entry.head_dim):
        grouped.setdefault((entry.kernel, entry.causal), []).append(entry)
    training = None if file.attention.training is None else path_of(FOLDER, file.attention.training)
    laws = {}
    for (kernel, causal), numbers in grouped.items():
        rate = file.attention.backward_rate[kernel].value  # type: ignore[index]
        both, correction = False, None
        if file.reference is not None:
            there = AttentionLaw(tuple(numbers), attention_peak(file.reference.peak), rate)  # type: ignore[arg-type]
            if kernel == "library":
                correction = library_correction(there, columns(folder / "attention_forward.csv"))
            elif training is not None:
                rows = training_rows(columns(training / "attention_training.csv"), kernel, causal)
                both, correction = bool((rows["pass"] == "both").all()), training_correction(there, rows)
        laws[kernel, causal] = AttentionLaw(tuple(numbers), peak, rate, both, correction)
    return laws


def library_correction(law: AttentionLaw, table: dict[str, Array]) -> Correction:
    """What an inference library's rows say beyond the law fitted on them."""
    batch, length, heads, head_dim = (table[name] for name in ("batch", "seq", "heads", "head_dim"))
    return Correction.of(
        library_cells(table), np.log(table["time_s"] / law.seconds(batch, length, length, heads, head_dim))
    )


def training_rows(table: dict[str, Array], kernel: str, causal: bool) -> dict[str, Array]:
    """Published rows of a kernel and mask that hold its forward pass: alone, or with the backward pass."""
    same = (table["kernel"] == kernel) & (table["causal"] == str(causal).lower()) & (table["pass"] != "backward")
    return where(table, same)


def training_correction(law: AttentionLaw, table: dict[str, Array]) -> Correction:
    """What published training rates say beyond the law fitted on them."""
    batch, length, heads, head_dim = (table[name] for name in ("batch", "seq", "heads", "head_dim"))
    launch = law.numbers[0].launch
    seconds = forward_seconds(table, launch, law.backward_rate)
    by_law = law.seconds(batch, length, length, heads, head_dim)
    return Correction.of(training_coordinates(head_dim, length), np.log(seconds / by_law))
