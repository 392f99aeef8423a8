"""Parts of a model whose weights are trained or not, by part."""

from typing import Annotated, Final, Literal, get_args

from pydantic import Field

Part = Literal["attention", "feed-forward", "embedding", "head"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)
"""Norms belong to the half of a layer they stand in; experts and their router to the feed-forward."""
IN_LAYERS: Final[tuple[Part, ...]] = ("attention", "feed-forward")
"""Parts that every layer has: a share of the layers may be frozen, spread evenly over the model."""
Share = Annotated[float, Field(ge=0, le=1)]
Freeze = dict[Part, Share]
"""Share of a part that is not trained; what is not named is."""
