"""A profile of one's own device: the tables that validate/measure wrote, with laws fitted, and a cluster file.

The folder then holds meta.toml beside its tables, and cluster.toml: `simtrain plan MODEL FOLDER/cluster.toml`.
"""

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any, Final

import numpy as np
import tomli_w

from simtrain.errors import Problem, WrongInput
from simtrain.price.profile_file import AttentionNumbers, MatmulNumbers, ProfileFile
from simtrain.price.tables import Columns, columns, where
from simtrain.spec import load
from simtrain.spec.base import Evidence, checked
from simtrain.spec.hardware import Device
from simtrain.spec.library import names, read_toml
from simtrain.validation.kernel_fit import attention_numbers, matmul_numbers
from simtrain.workload import passes

PASSES: Final = {
    "residual": passes.residual(4.0, False, False),
    "norm": passes.norm(4.0, False),
    "activation": passes.activation(4.0, True, False),
}
"""What the measured element-wise steps move, in fp32."""
FUSED: Final = {"norm": passes.norm(4.0, True)}
"""On GPUs: PyTorch's rms_norm is one kernel there since 2.8."""
FRESH: Final = (("norm", 2), ("residual", 2), ("activation", 3))
"""How often a layer runs each, an activation over a feed-forward about three times as wide as the hidden state."""
ARCHITECTURES: Final = {7: "volta", 8: "ampere", 9: "hopper", 10: "blackwell", 12: "blackwell"}
"""By the first number of the compute capability (NVIDIA CUDA C++ Programming Guide, compute capabilities)."""
SOURCE: Final = "simtrain measure"
RECORDED: Final = "recorded"
"""Row of launch.csv: a kernel that autograd records. A processor's start of a kernel holds the host's part."""
NEEDED: Final = ("launch.csv", "copy.csv", "elementwise.csv", "attention_forward.csv", "matmul.csv")


def bring(raw: Path, folder: Path) -> None:
    """Copy what validate/measure wrote elsewhere; WrongInput where `raw` holds no whole measurement."""
    if not (raw / "machine.json").is_file():
        rule = "holds no machine.json, which ends a measurement"
        raise WrongInput([Problem("--from", str(raw), rule, "name the --out of python -m measure")])
    _complete(raw, json.loads((raw / "machine.json").read_text(encoding="utf-8")))
    folder.mkdir(parents=True, exist_ok=True)
    for path in (raw / "machine.json", *sorted(raw.glob("*.csv"))):
        if path.resolve() != (folder / path.name).resolve():
            shutil.copyfile(path, folder / path.name)


def _complete(folder: Path, facts: dict[str, Any]) -> None:
    """WrongInput where a needed table is missing, with what raised while it was measured."""
    failed = "; ".join(f"{what}: {why}" for what, why in facts.get("failed", {}).items())
    problems = [
        Problem(str(folder), name, "was not measured", failed) for name in NEEDED if not (folder / name).is_file()
    ]
    if problems:
        raise WrongInput(problems)


def write(folder: Path, command: str) -> dict[str, Any]:
    """Write meta.toml and cluster.toml beside the measured tables of `folder`; returns what machine.json says.

    WrongInput where a table that a profile needs was not measured.
    """
    facts: dict[str, Any] = json.loads((folder / "machine.json").read_text(encoding="utf-8"))
    _complete(folder, facts)
    matmul = columns(folder / "matmul.csv")
    device = _device(facts, matmul, columns(folder / "copy.csv"))
    links = _links(folder, facts)
    meta = _meta(folder, facts, device, links, command)
    file = checked(ProfileFile, meta, "profile")
    laws = matmul_numbers(file, folder)
    half = "bf16" if "bf16" in laws and facts["device"] == "cuda" else "fp32"
    attention = attention_numbers(file, folder, laws[half].launch)
    here = {"evidence": Evidence.MEASURED_HERE.value}
    meta["fit"] = {"command": command, "date": facts["date"]}
    meta["law"] = {
        "matmul": {name: numbers.model_dump(mode="json", exclude_none=True) | here for name, numbers in laws.items()},
        "attention": [numbers.model_dump(mode="json", exclude_none=True) | here for numbers in attention],
    }
    _dump(folder / "meta.toml", meta)
    _dump(folder / "cluster.toml", _cluster(facts, device, links, columns(folder / "copy.csv")))
    return facts


def _dump(path: Path, document: dict[str, Any]) -> None:
    """TOML that reads back."""
    text = tomli_w.dumps(document)
    tomllib.loads(text)
    path.write_text(text, encoding="utf-8")


def _fact(value: Any, note: str = "", evidence: Evidence = Evidence.MEASURED_HERE) -> dict[str, Any]:
    return {"value": value, "source": SOURCE, "evidence": evidence.value} | ({"note": note} if note else {})


def _device(facts: dict[str, Any], matmul: Columns, copies: Columns) -> dict[str, Any]:
    """The shipped device of that name, or one whose peaks are the best that was measured."""
    known = [load.device(name) for name in names(load.DEVICES)]
    shipped = next((entry for entry in known if facts["name"] in entry.driver_names), None)
    if shipped is not None:
        return _plain(shipped) | {"profile": "."}
    flops = 2 * matmul["m"] * matmul["n"] * matmul["k"] / matmul["time_s"]
    peak = {str(name): float(flops[matmul["dtype"] == name].max()) for name in np.unique(matmul["dtype"])}
    moved = 2 * copies["bytes"] / copies["time_s"]
    note = "the best measured; no data sheet of this device is known"
    sensors = facts.get("sensors") or {}
    power = sensors.get("power_limit_w")
    return {
        "name": "cpu" if facts["device"] == "cpu" else "gpu",
        "title": facts["name"],
        "vendor": "NVIDIA" if facts["device"] == "cuda" else "other",
        "architecture": "cpu" if facts["device"] == "cpu" else ARCHITECTURES[facts["capability"][0]],
        "peak": {name: _fact(f"{rate!r} FLOP/s", note) for name, rate in peak.items()},
        "memory": _fact(f"{facts.get('memory_bytes') or facts['host_memory_bytes'] / facts['ranks']!r} B"),
        "memory_bandwidth": _fact(f"{float(moved[_inside(copies)].max())!r} B/s", note),
        "power_limit": _fact(f"{power} W") if power else _fact("100 W", "not measured", Evidence.ASSUMED),
        "profile": ".",
    }


def _plain(device: Device) -> dict[str, Any]:
    return device.model_dump(mode="json", exclude_none=True)


def _inside(copies: Columns) -> Any:
    return copies["name"] == "inside"


def _links(folder: Path, facts: dict[str, Any]) -> dict[str, Any] | None:
    """What the ranks' collectives ran over: the bus bandwidth of the largest all-reduce stands for the links."""
    path = folder / "collective.csv"
    if not path.is_file():
        return None
    table = columns(path)
    rows = where(table, table["collective"] == "all_reduce")
    moved = 2 * (rows["gpus"] - 1) / rows["gpus"] * rows["bytes"] / rows["time_s"]
    kind = "none" if facts["device"] == "cpu" else "nvlink"
    return {"kind": kind, "bandwidth": f"{float(moved.max())!r} B/s", "multicast": False}


def _meta(
    folder: Path, facts: dict[str, Any], device: dict[str, Any], links: dict[str, Any] | None, command: str
) -> dict[str, Any]:
    """What the profile says before its laws are fitted."""
    efficiency, launch = _memory(folder, device)
    tables = {
        path.name: {"source": command, "licence": "your own", "measured": "s, median of batches; see validate/measure"}
        | {"rows": len(path.read_text(encoding="utf-8").splitlines()) - 1}
        for path in sorted(folder.glob("*.csv"))
    }
    lost = "".join(f"; {what} failed: {why}" for what, why in facts.get("failed", {}).items())
    one = _fact(1.0, "both gradients' products have rows of their own")
    attention = columns(folder / "attention_forward.csv")
    back = float(np.median(2.5 * attention["time_s"] / attention["backward_s"]))
    return {
        "name": device["name"],
        "evidence": Evidence.MEASURED_HERE.value,
        "source": f"{command}: {facts['name']}, torch {facts['torch']}, {facts['ranks']} ranks, {facts['date']}{lost}",
        "reference": {
            "memory_bandwidth": device["memory_bandwidth"]["value"],
            "peak": {name: fact["value"] for name, fact in device["peak"].items()},
        },
        "tables": tables,
        **({"links": links} if links else {}),
        "memory": {"efficiency": _fact(efficiency), "launch": _fact(f"{launch!r} s")},
        "matmul": {
            "backward_input": one,
            "backward_weight": one,
        },
        "attention": {"backward_rate": {"library": _fact(min(back, 1.0))}},
    }


def _memory(folder: Path, device: dict[str, Any]) -> tuple[float, float]:
    """Share of the copy bandwidth that the mix of a layer's element-wise steps reaches, and seconds of one launch."""
    table, launch = columns(folder / "elementwise.csv"), columns(folder / "launch.csv")
    start = float(launch["time_s"][launch["name"] == (RECORDED if device["architecture"] == "cpu" else "queued")][0])
    width = {"fp32": 1.0}.get(str(table["dtype"][0]), 0.5)
    moved = seconds = 0.0
    largest = max(float(n) for n in table["elements"][table["name"] == "norm"])
    for name, times in FRESH:
        row = where(table, (table["name"] == name) & (table["elements"] == largest))
        step = (PASSES if device["architecture"] == "cpu" else PASSES | FUSED)[name]
        back = name != "residual"  # alone, its gradient is handed on as it is: nothing moves
        moved += times * float(row["elements"][0]) * width * (step.forward + back * step.backward)
        took = float(row["time_s"][0] + back * row["backward_s"][0])
        seconds += times * max(took - start * (step.kernels + back * step.backward_kernels), 0.5 * took)
    bandwidth = float(device["memory_bandwidth"]["value"].split()[0]) * (
        1e9 if "GB/s" in device["memory_bandwidth"]["value"] else 1.0
    )
    return min(moved / seconds / bandwidth, 1.0), start


def _cluster(
    facts: dict[str, Any], device: dict[str, Any], links: dict[str, Any] | None, copies: Columns
) -> dict[str, Any]:
    """This machine as a cluster of one node."""
    host = where(copies, copies["name"] == "from host") if (copies["name"] == "from host").any() else copies
    to_host = float((host["bytes"] / host["time_s"]).max())
    scaleup = {
        "kind": links["kind"] if links else "none",
        "bandwidth": _fact(links["bandwidth"] if links else "1 GB/s"),
        "switched": True,
    }
    unknown = Evidence.ASSUMED
    return {
        "name": "this-machine",
        "title": f"{facts['ranks']} x {facts['name']}",
        "nodes": 1,
        "device": device,
        "node": {
            "devices": facts["ranks"],
            "scaleup": scaleup,
            "nic": {"count": 1, "bandwidth": _fact("1 GB/s", "no second node", unknown)},
            "host": {
                "memory": _fact(f"{float(facts['host_memory_bytes'])!r} B"),
                "device_bandwidth": _fact(f"{to_host!r} B/s"),
            },
        },
        "fabric": {
            "kind": "fat tree",
            "latency": _fact("10 us", "no second node", unknown),
            "oversubscription": _fact(1, "no second node", unknown),
        },
    }


def devices_here(device: str) -> int:
    """Devices a profile is measured on: all GPUs the driver shows, or two ranks of a processor."""
    if device == "cpu":
        return 2
    return max(len(list(Path("/dev").glob("nvidia[0-9]*"))), 1)


def errors(folder: Path) -> dict[str, tuple[float, float]]:
    """Median errors of every fitted law on rows held out: by itself, and with its table."""
    law = checked(ProfileFile, read_toml(folder / "meta.toml"), str(folder)).law
    named: dict[str, MatmulNumbers | AttentionNumbers] = {f"{name} products": n for name, n in law.matmul.items()}
    named |= {f"attention, head size {entry.head_dim}": entry for entry in law.attention}
    return {name: (n.median_error or 0.0, n.interpolated_median_error or 0.0) for name, n in named.items()}
