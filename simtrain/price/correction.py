"""What a measured table says beyond its law: log(measured / law) on a grid, interpolated."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Correction:
    """Logarithms of measured over law on a regular grid of named axes, in log2 of the shape."""

    names: tuple[str, ...]
    axes: tuple[Array, ...]
    values: Array
    """Shape: the lengths of the axes; no gaps."""

    @classmethod
    def of(cls, coordinates: Mapping[str, Array], logarithms: Array) -> "Correction":
        """The grid spanned by the rows' coordinates; rows in one cell are averaged, empty cells take their nearest."""
        axes = tuple(np.unique(values) for values in coordinates.values())
        cells = tuple(np.searchsorted(axis, values) for axis, values in zip(axes, coordinates.values(), strict=True))
        total, count = np.zeros((2, *(len(axis) for axis in axes)))
        np.add.at(total, cells, logarithms)
        np.add.at(count, cells, 1)
        return cls(tuple(coordinates), axes, _filled(np.where(count > 0, total / np.maximum(count, 1), np.nan)))

    def at(self, coordinates: Mapping[str, Array]) -> tuple[Array, Array]:
        """Factor on the law's seconds, clamped to the edge of the grid, and how far outside (log2) the shape lies."""
        shape = np.broadcast_shapes(*(coordinates[name].shape for name in self.names))
        outside = np.zeros(shape)
        points = []
        for name, axis in zip(self.names, self.axes, strict=True):
            wanted = coordinates[name]
            inside = np.clip(wanted, axis[0], axis[-1])
            outside = np.maximum(outside, np.abs(wanted - inside))
            if len(axis) > 1:
                points.append(np.broadcast_to(inside, shape))
        if not points:
            return np.full(shape, np.exp(self.values.item())), outside
        return np.exp(self._interpolator(np.stack(points, axis=-1))).reshape(shape), outside

    @functools.cached_property
    def _interpolator(self) -> Any:
        from scipy.interpolate import RegularGridInterpolator

        return RegularGridInterpolator(tuple(axis for axis in self.axes if len(axis) > 1), self.values.squeeze())


def _filled(values: Array) -> Array:
    """The same grid with every gap set to the nearest cell that is not one."""
    gaps = np.isnan(values)
    if not gaps.any():
        return values
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(gaps, return_distances=False, return_indices=True)
    return np.asarray(values[tuple(nearest)])
