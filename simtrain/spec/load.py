"""Reading what a user names (device, node, cluster, stack, precision, optimizer), shipped or in their own file."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from simtrain.errors import Problem, WrongInput
from simtrain.spec import calibration
from simtrain.spec.base import checked
from simtrain.spec.hardware import Cluster, Device, Node
from simtrain.spec.library import named, read_toml
from simtrain.spec.memory_policy import Policy
from simtrain.spec.precision import Optimizer, Precision
from simtrain.spec.stack import Stack

DEVICES = "hardware/devices"
NODES = "hardware/nodes"
CLUSTERS = "hardware/clusters"
STACKS = "profiles/stacks"
PRECISIONS = "catalog/precisions"
OPTIMIZERS = "catalog/optimizers"
POLICIES = "catalog/memory"

S = TypeVar("S", bound=BaseModel)


def device(name: str) -> Device:
    """The accelerator described in hardware/devices; WrongInput names the nearest known one."""
    return _shipped(DEVICES, name, Device, "device")


def node(name: str) -> Node:
    """The server described in hardware/nodes; WrongInput names the nearest known one."""
    return _shipped(NODES, name, Node, "node")


def stack(name: str) -> Stack:
    """The training framework described in profiles/stacks, with the numbers calibration found for it.

    A path ending in .toml is a user's own; its `base` is a shipped one with the numbers found for it. WrongInput names
    the nearest known one.
    """
    if name.endswith(".toml"):
        own = {"name": Path(name).stem, "title": name} | read_toml(Path(name))
        return checked(Stack, _on_base(own, lambda base: stack(base).model_dump(mode="json")), "stack")
    described = stack_as_described(name)
    fitted = calibration.table(calibration.STACKS).get(described.name, {})
    return checked(Stack, described.model_dump(mode="json") | fitted, "stack") if fitted else described


@functools.cache
def stack_as_described(name: str) -> Stack:
    """The training framework as profiles/stacks describes it, before calibration."""
    data = _shipped_data(STACKS, name, "stack")
    return checked(Stack, _on_base(data, lambda base: stack_as_described(base).model_dump(mode="json")), "stack")


def _on_base(data: dict[str, Any], described: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """A stack's data with what it leaves unsaid taken from the stack its `base` names; of tables entry by entry."""
    if "base" not in data:
        return data
    base = data["base"]
    if not isinstance(base, str) or base.endswith(".toml"):
        raise WrongInput([Problem("stack.base", base, "must be the name of a shipped stack")])
    below = described(base)
    tables = {
        key: below[key] | value
        for key, value in data.items()
        if isinstance(value, dict) and "value" not in value and isinstance(below.get(key), dict)
    }
    return below | {key: value for key, value in data.items() if key != "base"} | tables


def precision(name: str) -> Precision:
    """The number formats described in the catalog; WrongInput names the nearest known ones."""
    return _shipped(PRECISIONS, name, Precision, "precision")


def policy(name: str) -> Policy:
    """The memory policy described in the catalog; WrongInput names the nearest known one."""
    return _shipped(POLICIES, name, Policy, "policy")


def optimizer(name: str) -> Optimizer:
    """The optimizer described in the catalog; WrongInput names the nearest known one."""
    return _shipped(OPTIMIZERS, name, Optimizer, "optimizer")


def cluster(name_or_path: str, devices: int | None = None) -> Cluster:
    """The cluster described in hardware/clusters, or in a user's own file (a path ending in .toml).

    In either file `node` is a name or a table, whose `device` is a name or, with a [device] table at the top, that one.
    With `devices`, the cluster has the fewest whole nodes that hold them; otherwise the count in the file, which a
    user's own file may not be asked to exceed (a shipped one is a design that scales).
    WrongInput lists every problem of the file at once.
    """
    if devices is not None and devices < 1:
        raise WrongInput([Problem("devices", devices, "must be at least 1")])
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path)
        data = {"name": path.stem} | read_toml(path)
        data.setdefault("title", data["name"])
    else:
        data = _shipped_data(CLUSTERS, name_or_path, "cluster")
    found = _assembled(data)
    if name_or_path.endswith(".toml"):
        found = _beside(found, Path(name_or_path).parent)
    if devices is None:
        return found
    if name_or_path.endswith(".toml") and devices > found.devices:
        rule = f"is more than the {found.devices} devices of {name_or_path} ({found.nodes} nodes)"
        raise WrongInput([Problem("--gpus", devices, rule, f"use at most {found.devices} or raise nodes in the file")])
    return found.model_copy(update={"nodes": -(-devices // found.node.devices)})


def _beside(found: Cluster, folder: Path) -> Cluster:
    """The cluster with the profile of its device made an absolute path, where it names a folder beside the file."""
    named = found.device.profile
    own = None if named is None else (folder / named).resolve()
    if own is None or not (own / "meta.toml").is_file():
        return found
    return found.model_copy(update={"device": found.device.model_copy(update={"profile": str(own)})})


def _shipped_data(folder: str, name: str, what: str) -> dict[str, Any]:
    data = named(folder, name, what)
    if data.get("name") != name.lower():
        raise WrongInput(
            [Problem(f"{what}.name", data.get("name"), f"must equal the name of its file, {name.lower()!r}")]
        )
    return data


def _shipped(folder: str, name: str, spec: type[S], what: str) -> S:
    return checked(spec, _shipped_data(folder, name, what), what)


def _assembled(data: dict[str, Any]) -> Cluster:
    """The cluster of a file's data, names of node and device replaced by what they name; every problem is reported."""
    problems: list[Problem] = []
    name, title = data.get("name"), data.get("title")
    of_node = {"name": f"{name}-node", "title": f"node of {title}"}
    node_data = _part(NODES, data.get("node"), "cluster.node", of_node, problems)
    named_device = None if node_data is None else node_data.get("device")
    where = "cluster.device" if "device" in data else "cluster.node.device"
    of_device = {"name": named_device or f"{name}-device", "title": f"device of {title}"}
    device_data = _part(DEVICES, data.get("device", named_device), where, of_device, problems)
    if node_data is not None and device_data is not None:
        node_data = {"device": device_data.get("name")} | node_data
        if node_data["device"] != device_data.get("name"):
            rule = f"must be the device of the node, {named_device!r}"
            problems.append(Problem("cluster.device.name", device_data.get("name"), rule, "leave out one of the two"))
    parts = {"node": node_data, "device": device_data}
    whole = {key: value for key, value in (data | parts).items() if value is not None}
    try:
        found = checked(Cluster, whole, "cluster")
    except WrongInput as wrong:
        reported = {"cluster.device", *(problem.where for problem in problems)}
        raise WrongInput([*problems, *(p for p in wrong.problems if p.where not in reported)]) from None
    if problems:
        raise WrongInput(problems)
    return found


def _part(folder: str, wanted: Any, where: str, own: dict[str, str], problems: list[Problem]) -> dict[str, Any] | None:
    """Data of a part given by name or as a table (`own`: its name and title when it has none); else None and a problem.

    Nothing wanted is None without a problem: what is missing is reported with the whole.
    """
    if wanted is None:
        return None
    if isinstance(wanted, dict):
        return own | wanted
    if not isinstance(wanted, str):
        problems.append(Problem(where, wanted, "must be a name or a table"))
        return None
    try:
        return _shipped_data(folder, wanted, where)
    except WrongInput as wrong:
        problems.extend(wrong.problems)
        return None
