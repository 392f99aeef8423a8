import subprocess
import sys

import numpy as np
import pytest

from simtrain.errors import WrongInput
from simtrain.price import kernels
from simtrain.price.profile import FOLDER, RUNS, attention_kernel, profile, profile_file
from simtrain.price.tables import columns
from simtrain.spec.base import Evidence
from simtrain.spec.library import names, path_of
from simtrain.spec.load import device

MEASURED = ("a100-sxm-80gb", "h100-sxm-80gb", "h200-sxm-141gb", "b200-sxm-180gb", "gb200", "l40s")


@pytest.mark.parametrize("name", names("hardware/devices"))
def test_every_device_prices_its_16_bit_matmul_below_its_peak(name):
    described = device(name)
    datatype = "bf16" if "bf16" in described.peak else "fp16"
    timed = kernels.matmul(profile(described), datatype, 8192, 8192, 8192)
    assert 0.3 < 2 * 8192**3 / timed.seconds / described.peak[datatype].value < 0.95


@pytest.mark.parametrize("name", names("hardware/devices"))
def test_every_device_runs_a_kernel_it_has_numbers_for(name):
    loaded = profile(device(name))
    for wanted in ("flash-2", "flash-3", "unfused"):
        kernel = attention_kernel(loaded, wanted)
        if kernel != "unfused":
            assert kernels.attention_forward(loaded, kernel, 1, 4096, 4096, 16, 8, 128).seconds > 0


@pytest.mark.parametrize("name", names("hardware/devices"))
def test_only_unmeasured_devices_are_assumed(name):
    described = device(name)
    measured = (described.profile or name) in MEASURED
    assert (profile(described).evidence is Evidence.ASSUMED) is not measured


@pytest.mark.parametrize("name", MEASURED)
def test_the_reference_is_the_data_sheet(name):
    reference = profile_file(name).reference
    described = device(name)
    assert reference is not None
    assert reference.peak == {key: fact.value for key, fact in described.peak.items()}
    assert reference.memory_bandwidth == described.memory_bandwidth.value


@pytest.mark.parametrize("name", MEASURED)
def test_tables_have_the_rows_their_notes_say(name):
    for table, note in profile_file(name).tables.items():
        assert len(path_of(FOLDER, name, table).read_text(encoding="utf-8").splitlines()) - 1 == note.rows
        assert note.source
        assert note.licence


def test_kernels_an_architecture_cannot_run_fall_back():
    shipped = {device(name).architecture for name in names("hardware/devices")}
    assert set(RUNS) == shipped | {"cpu"}
    by_device = {
        "a100-sxm-80gb": "flash-2",
        "h100-sxm-80gb": "flash-3",
        "b200-sxm-180gb": "library",
        "v100-sxm2-32gb": "unfused",
    }
    for name, kernel in by_device.items():
        assert attention_kernel(profile(device(name)), "flash-3") == kernel
        assert attention_kernel(profile(device(name)), "unfused") == "unfused"


def test_a_sibling_uses_the_tables_at_its_own_speed():
    original, slower = profile(device("a100-sxm-80gb")), profile(device("a100-sxm-40gb"))
    size = 10e9
    ratio = kernels.memory_bound(slower, size).seconds / kernels.memory_bound(original, size).seconds
    assert ratio == pytest.approx(2039 / 1555, rel=1e-3)
    compute_bound = [kernels.matmul(each, "bf16", 8192, 8192, 8192) for each in (original, slower)]
    assert compute_bound[0].seconds == compute_bound[1].seconds
    assert slower.name == "a100-sxm-80gb"


def test_half_the_peak_is_twice_the_time():
    described = device("h100-sxm-80gb")
    halved = {key: fact.model_copy(update={"value": fact.value / 2}) for key, fact in described.peak.items()}
    slow = profile(described.model_copy(update={"peak": halved, "name": "half", "profile": "h100-sxm-80gb"}))
    both = [kernels.matmul(each, "bf16", 16384, 16384, 16384).seconds for each in (profile(described), slow)]
    assert both[1] == pytest.approx(2 * both[0], rel=1e-3)


def test_a_profile_is_loaded_once():
    assert profile(device("l40s")) is profile(device("l40s"))


def test_an_unknown_profile_names_the_nearest():
    described = device("a100-sxm-40gb").model_copy(update={"profile": "a100-sxm-80"})
    with pytest.raises(WrongInput, match="is not known") as caught:
        profile(described)
    assert "a100-sxm-80gb" in caught.value.problems[0].hint


def test_a_format_the_device_lacks_is_wrong_input():
    with pytest.raises(WrongInput, match="bf16") as caught:
        kernels.matmul(profile(device("v100-sxm2-32gb")), "bf16", 1024, 1024, 1024)
    assert "fp16" in caught.value.problems[0].hint


def test_fused_attention_on_volta_is_wrong_input():
    with pytest.raises(WrongInput, match="flash-2"):
        kernels.attention_forward(profile(device("v100-sxm2-32gb")), "flash-2", 1, 512, 512, 8, 8, 64)


def test_the_backward_rate_is_the_published_ratio():
    """Median over lengths of 2k and more, full mask, head size 128 (the only kernel with both passes published)."""
    table = columns(path_of(FOLDER, "h100-sxm-80gb", "attention_training.csv"))
    same = (table["kernel"] == "flash-3") & (table["head_dim"] == 128) & (table["causal"] == "false")
    rate = {
        which: table["flop_per_s"][same & (table["pass"] == which) & (table["seq"] >= 2048)]
        for which in ("forward", "backward")
    }
    stated = profile_file("h100-sxm-80gb").attention.backward_rate["flash-3"].value
    assert stated == pytest.approx(np.median(rate["backward"] / rate["forward"]), abs=0.01)


def test_importing_the_prices_does_not_import_scipy():
    code = "import sys, simtrain.price.kernels; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
