"""`simtrain show`: what the program knows, with evidence and source of every number."""

from typing import Annotated, Any

import typer

from simtrain.cli.options import AsJson

SINGULAR = {"policies": "policy"}
HELP = r"""List what is known, or show one thing with the evidence and source of every number.

Examples:

  simtrain show models
  simtrain show clusters dgx-h100
  simtrain show devices h100-sxm-80gb --json

KIND is devices, nodes, clusters, models, stacks, precisions, optimizers
or policies (what is done with activations).

Exit codes: 0 shown, 2 wrong input."""


def show(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="What to list.")],
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The one to show; all are listed without.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print names, or one description."""
    from simtrain.cli.output import console, print_json
    from simtrain.errors import Problem, WrongInput, nearest
    from simtrain.spec import load
    from simtrain.spec.catalog import model, model_names
    from simtrain.spec.library import names
    from simtrain.views.document import FORMAT_VERSION
    from simtrain.views.tables import print_facts, print_names
    from simtrain.workload.parameters import active, total

    kinds: dict[str, tuple[tuple[str, ...], Any]] = {
        "devices": (names(load.DEVICES), load.device),
        "nodes": (names(load.NODES), load.node),
        "clusters": (names(load.CLUSTERS), load.cluster),
        "models": (model_names(), model),
        "stacks": (names(load.STACKS), load.stack),
        "precisions": (names(load.PRECISIONS), load.precision),
        "optimizers": (names(load.OPTIMIZERS), load.optimizer),
        "policies": (names(load.POLICIES), load.policy),
    }
    if kind not in kinds:
        raise WrongInput([Problem("KIND", kind, "is not known", nearest(kind, kinds))])
    known, read = kinds[kind]
    if name is None:
        if as_json:
            print_json({"format_version": FORMAT_VERSION, kind: list(known)})
        else:
            print_names(console(), {each: getattr(read(each), "title", "") for each in known})
        return
    found = read(name)
    data = found.model_dump(mode="json")
    if kind == "models":
        data |= {"parameters": total(found), "active_parameters": active(found)}
    if as_json:
        print_json({"format_version": FORMAT_VERSION, SINGULAR.get(kind, kind.removesuffix("s")): data})
    else:
        print_facts(console(), name, data)
