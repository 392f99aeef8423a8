"""Memory plans: what a cap costs in time, and what is done with which tensor."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from simtrain.search.memory import Layout, Planned
from simtrain.search.memory_front import Front, Peak, Worth
from simtrain.spec import load
from simtrain.spec.job import Job
from simtrain.spec.library import names
from simtrain.spec.memory_plan import MemoryPlan
from simtrain.spec.memory_policy import ACTIONS
from simtrain.views.document import FORMAT_VERSION
from simtrain.views.format import gib, percent, seconds
from simtrain.views.layout import layout as written
from simtrain.views.plotted import write_page
from simtrain.views.tables import asked

NOTHING: Final = "keeps everything"


def memory_document(
    layout: Layout,
    front: Front | None,
    within: Planned | None,
    gains: Worth | None,
    moment: Peak | None,
    cap: float,
    allowed: Sequence[str],
) -> dict[str, Any]:
    """The trade-off of one layout as plain data."""
    return {
        "format_version": FORMAT_VERSION,
        "layout": written(layout.plan),
        "allowed": list(allowed),
        "cap_bytes": cap,
        "kept_bytes": layout.peak,
        "kept_step_time_s": layout.base.step.seconds,
        "least_cap_bytes": None if front is None else front.least,
        "host_full": gains is not None and "cpu" in gains.full,
        "drives_full": gains is not None and "nvme" in gains.full,
        "points": [] if front is None else [_point(one) for one in front.points],
        "within_cap": None if within is None else _point(within),
        "peak": None
        if moment is None
        else {
            "stage": moment.stage,
            "phase": moment.phase,
            "microbatch": moment.microbatch,
            "live_bytes": moment.live,
            "packed_bytes": moment.packed,
        },
        "gain_s": None
        if gains is None
        else {
            "one_gib_more": gains.memory,
            "one_gb_per_s_more_to_host": gains.link,
            "one_gb_per_s_more_of_drives": gains.drives,
        },
    }


def _point(one: Planned) -> dict[str, Any]:
    return {
        "plan": one.plan.model_dump(mode="json"),
        "step_time_s": one.step_time,
        "expected_step_time_s": one.expected,
        "agrees": one.agrees,
        "memory_bytes": one.peak,
        "fullest_stage": one.stage,
    }


def print_memory(console: Console, job: Job, document: dict[str, Any]) -> None:
    """The trade-off as a table, what is done at the cap, and what more would be worth."""
    console.print(asked(job))
    console.print(Text(document["layout"]))
    allowed, cap = ", ".join(document["allowed"]), document["cap_bytes"]
    if not document["points"]:
        console.print(Text(f"No treatment ({allowed}) makes this layout smaller.", style="red"))
        return
    table = Table(title="Time for memory", title_justify="left", box=None)
    for heading in ("memory", "step", "slower", "fullest stage", "treatment of the first stages"):
        table.add_column(heading, no_wrap=heading != "treatment of the first stages")
    for point in document["points"]:
        slower = point["step_time_s"] / document["kept_step_time_s"] - 1
        doubt = "" if point["agrees"] else " (program and replay differ)"
        table.add_row(
            gib(point["memory_bytes"]),
            seconds(point["step_time_s"]),
            percent(max(slower, 0.0)) + doubt,
            str(point["fullest_stage"]),
            _treatment(point),
        )
    console.print(table)
    within = document["within_cap"]
    if within is None:
        least = document["least_cap_bytes"]
        console.print(
            Text(f"Nothing keeps {gib(cap)}: the least is {gib(least)}, {gib(least - cap)} more.", style="red")
        )
        for hint in _ways_out(job, least, document["allowed"]):
            console.print(f"would make it fit: {hint}")
        return
    console.print(Text(f"Within {gib(cap)}: {seconds(within['step_time_s'])} a step", style="bold"))
    memory = within["plan"]["memory"] or {"stages": []}
    for stage in memory["stages"]:
        span = (
            f"stage {stage['first']}" if stage["first"] == stage["last"] else f"stages {stage['first']}-{stage['last']}"
        )
        console.print(f"  {span}: {_told(stage['tensors'], memory)}")
    if not memory["stages"]:
        console.print(f"  {NOTHING}")
    peak, gain = document["peak"], document["gain_s"]
    console.print(f"peak: stage {peak['stage']}, {peak['phase']} of microbatch {peak['microbatch']}")
    console.print(
        f"with a place planned for every tensor: {gib(peak['packed_bytes'])} ({gib(peak['live_bytes'])} alive at once)"
    )
    binding = {
        "device memory": gain["one_gib_more"] > 0,
        "the link to the host": gain["one_gb_per_s_more_to_host"] > 0,
        "the drives' rate": gain["one_gb_per_s_more_of_drives"] > 0,
        "host memory": document["host_full"],
        "the drives' size": document["drives_full"],
    }
    binds = [name for name, does in binding.items() if does]
    drives = gain["one_gb_per_s_more_of_drives"]
    more = f", of drives {seconds(drives)}" if drives > 0 else ""
    console.print(
        f"binds: {', '.join(binds) or 'nothing'}; one GiB more gains {seconds(gain['one_gib_more'])} a step, "
        f"one GB/s more to the host {seconds(gain['one_gb_per_s_more_to_host'])}{more}"
    )


def _ways_out(job: Job, least: float, allowed: list[str]) -> Iterator[str]:
    """What to change, or to buy, for a layout that needs `least` bytes."""
    if least <= job.cluster.device.memory.value:
        yield f"a cap of {gib(least)}, which the device has"
    else:
        devices = map(load.device, names(load.DEVICES))
        larger = sorted((device.memory.value, device.title) for device in devices if device.memory.value >= least)
        if larger:
            yield f"devices with at least as much memory as {larger[0][1]}"
    missing = [action for action in ACTIONS if action not in allowed] if set(allowed) <= set(ACTIONS) else []
    if missing:
        yield f"--allow {','.join([*allowed, *missing])}"


def _treatment(point: dict[str, Any]) -> str:
    memory = point["plan"]["memory"] or {"stages": []}
    return _told(memory["stages"][0]["tensors"], memory) if memory["stages"] else NOTHING


def _told(tensors: dict[str, dict[str, int]], memory: dict[str, Any]) -> str:
    """Layers treated, e.g. `attention: 12 recomputed; expanded: 20 to cpu`."""
    plan = MemoryPlan.model_validate(memory)
    words = {"recompute": "recomputed", "offload": f"to {plan.tier}", "quantise": f"in {plan.bits} bits"}
    parts = [
        f"{name}: " + ", ".join(f"{layers} {words[how]}" for how, layers in counts.items() if layers)
        for name, counts in tensors.items()
    ]
    chunks = [
        f"{what} in {number} chunks"
        for what, number in (("loss", plan.loss_chunks), ("rebuilt layers", plan.layer_chunks))
        if number > 1
    ]
    return "; ".join([*parts, *chunks])


def write_front(path: Path, document: dict[str, Any]) -> None:
    """Step time over memory as one self-contained page; WrongInput where `path` cannot be written. Needs plotly."""
    import plotly.graph_objects as plot

    points = document["points"]
    figure = plot.Figure()
    figure.add_scatter(
        x=[point["memory_bytes"] / 2**30 for point in points],
        y=[point["step_time_s"] for point in points],
        mode="lines+markers",
        text=[_treatment(point).replace("; ", "<br>") for point in points],
        hovertemplate="%{x:.1f} GiB, %{y:.4g} s<br>%{text}<extra></extra>",
        name="replayed",
    )
    figure.add_vline(x=document["cap_bytes"] / 2**30, line_dash="dot", annotation_text="cap")
    figure.update_layout(
        title=f"What memory is worth: {document['layout']}",
        xaxis={"title": "peak memory of a device (GiB)"},
        yaxis={"title": "step time (s)"},
        template="plotly_white",
    )
    write_page(path, figure)
