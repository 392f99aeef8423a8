"""Mixed-integer programs, solved by HiGHS."""

from typing import Final

import highspy
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
GAP: Final = 1e-6
"""Relative distance to the optimum at which the search ends."""
FEASIBLE: Final = 1e-9
"""What a row, or a whole number, may be off by."""


class Silent(highspy.Highs):
    """Without the solver's greeting on standard output, which setting up its callbacks prints."""

    def enableCallbacks(self) -> None:
        """Callbacks are not used here."""


def solved(cost: Array, rows: Array, low: Array, high: Array, whole: Array, most: Array) -> Array | None:
    """Columns of least `cost` with `low` <= rows x columns <= `high`, 0 <= columns <= `most`; None: there are none.

    `whole`: 1 for columns of whole numbers.
    """
    program = highspy.HighsLp()
    program.num_col_, program.num_row_ = len(cost), len(rows)
    program.col_cost_, program.col_lower_, program.col_upper_ = cost, np.zeros(len(cost)), most
    program.row_lower_, program.row_upper_ = low, high
    kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
    program.integrality_ = [kinds[int(one)] for one in whole]
    row, column = np.nonzero(rows)
    program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    program.a_matrix_.start_ = np.searchsorted(row, np.arange(len(rows) + 1))
    program.a_matrix_.index_, program.a_matrix_.value_ = column, rows[row, column]
    solver = Silent()  # type: ignore[no-untyped-call]
    exactly = [(f"{kind}_feasibility_tolerance", FEASIBLE) for kind in ("mip", "primal")]
    for option, value in (("output_flag", False), ("threads", 1), ("mip_rel_gap", GAP), *exactly):
        solver.setOptionValue(option, value)
    solver.passModel(program)
    solver.run()
    status = solver.getModelStatus()
    if status == highspy.HighsModelStatus.kOptimal:
        return np.array(solver.getSolution().col_value)
    if status in (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible):
        return None
    raise RuntimeError(f"mixed-integer program not solved: {status}")
