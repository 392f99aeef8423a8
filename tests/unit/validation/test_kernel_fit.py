import numpy as np
import pytest

from simtrain.price.profile import FOLDER, profile_file
from simtrain.spec.library import path_of
from simtrain.validation import kernel_fit

MEASURED = ("a100-sxm-80gb", "h100-sxm-80gb", "h200-sxm-141gb", "b200-sxm-180gb", "gb200", "l40s")


@pytest.mark.parametrize("name", MEASURED)
def test_a_rerun_reproduces_the_committed_file(name):
    text = path_of(FOLDER, name, "meta.toml").read_text(encoding="utf-8")
    assert text.split(kernel_fit.MARK)[1] == kernel_fit.fitted_part(name, "1999-01-01")


def test_the_fit_recovers_a_known_law_despite_outliers():
    size = np.geomspace(1e3, 1e8, 200)
    measured = size / 3e9 + 5e-6
    measured[::20] *= 3
    found = kernel_fit.fit(
        lambda values: size / values[0] + values[1], measured, kernel_fit.half(200), (1e9, 1e-6), (1e6, 1e-9), (1e12, 1)
    )
    np.testing.assert_allclose(found.values, [3e9, 5e-6], rtol=0.01)
    assert np.median(found.error[~found.rows]) < 0.01


def test_half_of_the_rows_is_held_out():
    rows = kernel_fit.half(101)
    assert rows.sum() == 51
    assert (rows == kernel_fit.half(101)).all()


def test_changed_numbers_are_dated_today(monkeypatch):
    before = profile_file("l40s").fit
    assert before is not None
    monkeypatch.setattr(kernel_fit, "SOFT", 0.5)
    assert 'date = "1999-01-01"' in kernel_fit.fitted_part("l40s", "1999-01-01")
