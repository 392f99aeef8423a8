import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from simtrain.errors import WrongInput
from simtrain.spec import load
from simtrain.spec.base import Evidence, Spec
from simtrain.spec.hardware import Cluster, Device
from simtrain.spec.library import names, path_of, read_toml

READERS: dict[str, Callable[[str], Any]] = {
    load.DEVICES: load.device,
    load.NODES: load.node,
    load.CLUSTERS: load.cluster,
    load.STACKS: load.stack,
    load.PRECISIONS: load.precision,
    load.OPTIMIZERS: load.optimizer,
}
EVERY_FILE = [(folder, name) for folder in READERS for name in names(folder)]
NVLINK_CHIPS = {"a800-sxm-80gb": "a100-sxm-80gb", "h800-sxm-80gb": "h100-sxm-80gb", "a100-sxm-40gb": "a100-sxm-80gb"}


def facts(data: Any) -> Iterator[dict[str, Any]]:
    if isinstance(data, dict):
        if "value" in data:
            yield data
        for value in data.values():
            yield from facts(value)


@pytest.mark.parametrize(("folder", "name"), EVERY_FILE)
def test_every_file_loads_and_round_trips(folder: str, name: str) -> None:
    spec: Spec = READERS[folder](name)
    assert spec.model_dump()["name"] == name
    assert type(spec).model_validate(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("folder", "name"), [pair for pair in EVERY_FILE if pair[0] not in (load.PRECISIONS, load.OPTIMIZERS)]
)
def test_every_number_states_source_and_evidence(folder: str, name: str) -> None:
    found = list(facts(read_toml(path_of(folder, f"{name}.toml"))))
    assert found
    for fact in found:
        assert len(fact.get("source", "")) > 3, fact
        assert fact.get("evidence") in set(Evidence), fact


@pytest.mark.parametrize(("folder", "name"), EVERY_FILE)
def test_no_bare_fact(folder: str, name: str) -> None:
    def sources(spec: Any) -> Iterator[str]:
        for value in spec.__dict__.values() if isinstance(spec, Spec) else spec.values():
            if isinstance(value, (Spec, dict)):
                yield from sources(value)
        if isinstance(spec, Spec) and hasattr(spec, "source"):
            yield spec.source

    assert "stated by the user" not in set(sources(READERS[folder](name)))


def test_figures_in_si() -> None:
    h100 = load.device("h100-sxm-80gb")
    assert h100.peak["bf16"].value == pytest.approx(989.4e12)
    assert h100.memory.value == 81559 * 2**20
    assert h100.memory_bandwidth.value == pytest.approx(3.35e12)
    node = load.node("p5")
    assert node.nic.count * node.nic.bandwidth.value == pytest.approx(400e9)
    rack = load.cluster("gb200-nvl72")
    assert rack.node.devices * rack.domain_nodes == 72
    assert rack.price is None
    assert load.cluster("dgx-h100").price.value * 3600 == pytest.approx(2.99)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", names(load.DEVICES))
def test_a_peak_is_ordered_and_dense(name: str) -> None:
    peak = {kind: fact.value for kind, fact in load.device(name).peak.items()}
    assert math.isclose(peak.get("bf16", peak["fp16"]), peak["fp16"])
    assert peak["fp32"] < peak["fp16"]
    if "fp8" in peak:
        assert peak["fp8"] / peak["fp16"] == pytest.approx(2, rel=0.03)


@pytest.mark.parametrize(("name", "profile"), NVLINK_CHIPS.items())
def test_devices_that_share_a_chip_share_its_measurements(name: str, profile: str) -> None:
    device = load.device(name)
    assert device.profile == profile
    assert device.peak["bf16"].value == load.device(profile).peak["bf16"].value


@pytest.mark.parametrize("name", [n for n in names(load.DEVICES) if load.device(n).profile])
def test_a_profile_belongs_to_a_device_of_equal_peak(name: str) -> None:
    device = load.device(name)
    owner: Device = load.device(device.profile or "")
    assert owner.profile is None
    assert owner.architecture == device.architecture
    assert owner.peak["bf16"].value == device.peak["bf16"].value


@pytest.mark.parametrize(("devices", "nodes"), [(1, 1), (8, 1), (9, 2), (64, 8), (100, 13)])
def test_cluster_of_some_devices_has_the_fewest_whole_nodes(devices: int, nodes: int) -> None:
    assert load.cluster("dgx-h100", devices).nodes == nodes
    assert load.cluster("dgx-h100").nodes == 32


def test_no_devices_is_wrong() -> None:
    with pytest.raises(WrongInput, match="must be at least 1"):
        load.cluster("dgx-h100", 0)


@pytest.mark.parametrize(
    ("reader", "wrong", "right"),
    [
        (load.device, "h100-sxm", "h100-sxm-80gb"),
        (load.node, "dgx-h10", "dgx-h100"),
        (load.cluster, "seleen", "selene"),
        (load.stack, "megatron", "megatron-core"),
        (load.precision, "bf16", "bf16-mixed"),
        (load.optimizer, "adam", "adamw"),
    ],
)
def test_an_unknown_name_hints_at_the_nearest(reader: Any, wrong: str, right: str) -> None:
    with pytest.raises(WrongInput) as caught:
        reader(wrong)
    (problem,) = caught.value.problems
    assert problem.value == wrong
    assert right in problem.hint


def test_names_ignore_case() -> None:
    assert load.device("H100-SXM-80GB").name == "h100-sxm-80gb"


def test_a_file_must_bear_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "named", lambda *_: {"name": "other"})
    with pytest.raises(WrongInput, match="must equal the name of its file, 'dgx-h100'"):
        load.node("dgx-h100")


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nnodes = = 4\n', encoding="utf-8")
    with pytest.raises(WrongInput, match=r"mine\.toml: is not valid TOML: .*line 2"):
        load.cluster(str(path))


def test_an_absent_file_is_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="cannot be read"):
        load.cluster(str(tmp_path / "none.toml"))


FABRIC = '[fabric]\nkind = "fat tree"\nlatency = "3 us"\noversubscription = 2\n'
NODE = """
[node]
devices = 4
[node.scaleup]
kind = "pcie"
bandwidth = "31 GB/s"
switched = false
[node.nic]
count = 1
bandwidth = "400 Gbit/s"
[node.host]
memory = "512 GB"
device_bandwidth = "25 GB/s"
"""
DEVICE = """
[device]
name = "mychip"
vendor = "AMD"
architecture = "cdna3"
memory = "100 GiB"
memory_bandwidth = "4 TB/s"
power_limit = "500 W"
[device.peak]
bf16 = "700 TFLOP/s"
"""


def own(tmp_path: Path, text: str) -> Cluster:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return load.cluster(str(path))


def problems(tmp_path: Path, text: str) -> dict[str, str]:
    with pytest.raises(WrongInput) as caught:
        own(tmp_path, text)
    return {problem.where: problem.rule + " " + problem.hint for problem in caught.value.problems}


def test_a_device_idles_below_its_limit(tmp_path: Path) -> None:
    text = "nodes = 1\n" + FABRIC + NODE + DEVICE.replace('"500 W"', '"500 W"\nidle_power = "600 W"')
    assert "below the limit" in " ".join(problems(tmp_path, text).values())


def test_own_cluster_of_a_shipped_node(tmp_path: Path) -> None:
    mine = own(tmp_path, 'node = "dgx-h100"\nnodes = 4\nprice = "2 USD/h"\n' + FABRIC)
    assert mine.name == "mine"
    assert mine.devices == 32
    assert mine.device == load.device("h100-sxm-80gb")
    assert mine.price is not None
    assert mine.price.evidence is Evidence.ASSUMED
    assert mine.price.source == "stated by the user"


def test_own_node_of_a_shipped_device(tmp_path: Path) -> None:
    mine = own(tmp_path, "nodes = 2\n" + FABRIC + NODE.replace("devices = 4", 'devices = 4\ndevice = "l40s"'))
    assert mine.device == load.device("l40s")
    assert mine.node.nic.bandwidth.value == 50e9


@pytest.mark.parametrize("named", ["", 'device = "mychip"\n'])
def test_own_node_and_own_device(tmp_path: Path, named: str) -> None:
    mine = own(tmp_path, "nodes = 2\n" + FABRIC + NODE.replace("[node]\n", "[node]\n" + named) + DEVICE)
    assert mine.device.peak["bf16"].value == 700e12
    assert mine.node.device == mine.device.name == "mychip"


def test_every_mistake_of_a_file_is_listed(tmp_path: Path) -> None:
    text = 'nodes = 0\npue = 0.9\ncolour = "red"\nprise = "2 USD/h"\n' + FABRIC.replace("3 us", "3")
    text += (
        NODE.replace("400 Gbit/s", "400 GiB").replace('kind = "pcie"', 'kind = "nvlnk"').replace("switched", "swiched")
    )
    found = problems(tmp_path, text + DEVICE.replace('memory = "100 GiB"\n', ""))
    assert "greater than" in found["cluster.nodes"]
    assert "greater than or equal to 1" in found["cluster.pue.value"]
    assert "known" in found["cluster.colour"]
    assert "price" in found["cluster.prise"]
    assert "has no unit" in found["cluster.fabric.latency.value"]
    assert "GiB" in found["cluster.node.nic.bandwidth.value"]
    assert "nvlink" in found["cluster.node.scaleup.kind"]
    assert "did you mean switched" in found["cluster.node.scaleup.swiched"]
    assert "missing" in found["cluster.node.scaleup.switched"]
    assert "missing" in found["cluster.device.memory"]
    assert len(found) == 10


@pytest.mark.parametrize(
    ("text", "where", "rule"),
    [
        ('node = "dgx-h10"\n', "cluster.node", "dgx-h100"),
        ("node = 3\n", "cluster.node", "must be a name or a table"),
        ("", "cluster.node", "is missing"),
        ('node = "dgx-h100"\ndevice = "a40"\n', "cluster.device.name", "must be the device of the node"),
        ('node = "dgx-h100"\ndevice = "h100"\n', "cluster.device", "h100-sxm-80gb"),
    ],
)
def test_a_wrong_node_or_device_hides_no_other_mistake(tmp_path: Path, text: str, where: str, rule: str) -> None:
    found = problems(tmp_path, "nodes = 0\n" + text + FABRIC)
    assert set(found) == {where, "cluster.nodes"}
    assert rule in found[where]


@pytest.mark.parametrize(
    ("device", "rule"),
    [('device = "l40"\n', "l40s"), ("", "is missing"), ("device = 5\n", "must be a name or a table")],
)
def test_a_wrong_device_of_an_own_node(tmp_path: Path, device: str, rule: str) -> None:
    found = problems(tmp_path, "nodes = 1\n" + FABRIC + NODE.replace("[node]\n", "[node]\n" + device))
    assert set(found) == {"cluster.node.device"}
    assert rule in found["cluster.node.device"]


def test_zero_counts_sixteen_bytes_a_parameter() -> None:
    """arXiv 1910.02054 section 3.1: 2 weights + 2 gradients + 4 master + 8 moments."""
    precision, optimizer = load.precision("bf16-mixed"), load.optimizer("adamw")
    gradient = load.stack("deepspeed").gradient_bytes.value
    assert gradient == precision.minimum_gradient_bytes == 2
    assert precision.weight_bytes + gradient + precision.master_bytes + optimizer.moment_bytes == 16
    megatron = load.stack("megatron-core").gradient_bytes.value
    assert precision.weight_bytes + megatron + precision.master_bytes + optimizer.moment_bytes == 18


@pytest.mark.parametrize("name", names(load.OPTIMIZERS))
def test_an_update_reads_and_writes_each_moment(name: str) -> None:
    optimizer = load.optimizer(name)
    assert optimizer.traffic_bytes == 2 * optimizer.moment_bytes


def test_a_stack_of_ones_own_says_what_differs_from_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'base = "megatron-core"\nlaunch = { value = "3 us", source = "our graphs", evidence = "measured here" }\n'
        '[overlap]\ntensor = { value = 0.5, source = "our profile", evidence = "measured here" }\n'
    )
    mine, shipped = load.stack(str(tmp_path / "mine.toml")), load.stack("megatron-core")
    assert (mine.name, mine.launch.value, mine.overlap.tensor.value) == ("mine", 3e-6, 0.5)
    same = {"name": shipped.name, "title": shipped.title, "launch": shipped.launch}
    overlap = mine.overlap.model_copy(update={"tensor": shipped.overlap.tensor})
    assert mine.model_copy(update=same | {"overlap": overlap}) == shipped


def test_a_base_that_is_no_shipped_stack_is_refused(tmp_path: Path) -> None:
    for base, said in (('"megatron-cor"', "megatron-core"), ("3", "name of a shipped stack")):
        (tmp_path / "mine.toml").write_text(f"base = {base}\n")
        with pytest.raises(WrongInput) as wrong:
            load.stack(str(tmp_path / "mine.toml"))
        assert said in f"{wrong.value.problems[0].rule} {wrong.value.problems[0].hint}"
