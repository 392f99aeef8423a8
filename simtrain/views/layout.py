"""A plan in one line."""

from simtrain.spec.plan import Plan


def layout(plan: Plan) -> str:
    """The degrees that are not 1 and the choices that are not default, e.g. `tp8 sp pp4x2 dp16 zero1 mb1 selective`."""
    parts = [f"tp{plan.tp}" + ("+sp" if plan.sp else "")]
    if plan.cp_ring > 1:
        parts.append(f"cp{plan.cp_ring}")
    if plan.cp_head > 1:
        parts.append(f"ulysses{plan.cp_head}")
    parts.append(f"pp{plan.pp}" + (f"x{plan.vpp}" if plan.vpp > 1 else ""))
    parts.append(f"dp{plan.dp}")
    if plan.ep > 1 or plan.etp > 1:
        parts.append(f"ep{plan.ep}" + (f" etp{plan.etp}" if plan.etp > 1 else ""))
    if plan.zero:
        whole = plan.shard_group == plan.dp * plan.cp_ring * plan.cp_head
        parts.append(f"zero{plan.zero}" + ("" if whole else f"/{plan.shard_group}"))
    parts.append(f"mb{plan.micro_batch}")
    if plan.schedule not in ("1f1b", "interleaved"):
        parts.append(plan.schedule)
    if plan.recompute != "none":
        parts.append(plan.recompute)
    if plan.full_layers:
        parts.append(f"full:{plan.full_layers}")
    if plan.offload != "none":
        parts.append(f"offload:{plan.offload}")
    if plan.memory is not None:
        parts.append("memory-plan")
    return " ".join(parts)
