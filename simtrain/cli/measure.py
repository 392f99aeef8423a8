"""`simtrain measure`: a profile of the devices in this machine."""

from pathlib import Path
from typing import Annotated

import typer

from simtrain.cli.options import AsJson

HELP = r"""Measure this machine's devices with torch and write a profile that plans use.

Examples:

  simtrain measure --device cuda --out my-h100
  simtrain measure --device cpu --quick --out here --ranks 2
  simtrain plan llama-3-8b here/cluster.toml

--out gets the measured tables (CSV), meta.toml with the fitted laws, and
cluster.toml: this machine as a cluster. A full profile takes at most five
minutes, --quick one. What you have can be used instead of measured tables:
--nccl-tests reads what nccl-tests printed, --from the tables that python -m
measure (or make gpu) wrote on a machine without simtrain.

Exit codes: 0 measured, 1 a rank failed (what it said), 2 wrong input."""


def measure(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the profile goes; made if there is none.")],
    device: Annotated[str | None, typer.Option(metavar="cuda|cpu", help="What to measure.")] = None,
    raw: Annotated[
        Path | None, typer.Option("--from", metavar="FOLDER", help="Tables measured elsewhere; nothing is run.")
    ] = None,
    ranks: Annotated[
        str | None, typer.Option(metavar="N", help="Processes, one a device; all GPUs, or 2 on cpu, if not given.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", metavar="", help="Fewer shapes, within a minute.")] = False,
    nccl_tests: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Output of nccl-tests: its rows replace the measured collectives."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the scripts, then fit."""
    from simtrain.cli.output import console, note, print_json
    from simtrain.errors import Problem, WrongInput
    from simtrain.validation import nccl_tests_output, own_profile

    problems = []
    if raw is not None and (device is not None or ranks is not None or quick):
        problems.append(Problem("--from", str(raw), "runs nothing", "leave --device, --ranks and --quick out"))
    if raw is None and device not in ("cpu", "cuda"):
        problems.append(Problem("--device", device, "is not known", "known: cpu, cuda; or bring tables with --from"))
    if ranks is not None and (not ranks.isdecimal() or not 1 <= int(ranks) <= 1024):
        problems.append(Problem("--ranks", ranks, "must be a whole number from 1 to 1,024"))
    if out.exists() and not out.is_dir():
        problems.append(Problem("--out", str(out), "is a file", "name a folder"))
    brought = []
    for path in nccl_tests or ():
        try:
            brought += nccl_tests_output.read(path)
        except WrongInput as wrong:
            problems += wrong.problems
    if problems:
        raise WrongInput(problems)
    if raw is not None:
        own_profile.bring(raw, out)
        command = "python -m measure"
    else:
        assert device is not None
        _run(device, ranks, quick, out)
        command = f"simtrain measure --device {device}" + (" --quick" if quick else "")
    if brought:
        nccl_tests_output.write(out / "collective.csv", brought)
    document = own_profile.write(out, command)
    if as_json:
        print_json({"format_version": 1, "folder": str(out)} | document)
    else:
        screen = console()
        screen.print(f"{document['ranks']} x {document['name']}, torch {document['torch']}: {out}")
        for name, errors in own_profile.errors(out).items():
            screen.print(
                f"  {name}: law off by {errors[0]:.1%} in the median, {errors[1]:.1%} with its table, held out"
            )
    note(f"plan with it: simtrain plan MODEL {out / 'cluster.toml'}")


def _run(device: str, ranks: str | None, quick: bool, out: Path) -> None:
    """Measure here; exit code 1 and what the ranks said last where one failed."""
    from simtrain.cli.output import note
    from simtrain.validation import launch, own_profile

    launch.needs_torch()
    count = int(ranks) if ranks else own_profile.devices_here(device)
    arguments = ["--device", device, "--out", str(out.resolve()), *(["--quick"] if quick else [])]
    ended = launch.run(launch.torchrun("measure", count, arguments), 600.0, _say)
    if ended.code != 0:
        plain = next((line for line in ended.said if "sees no CUDA" in line or "is too old" in line), None)
        for line in ended.said if plain is None else (plain,):
            note(line)
        raise typer.Exit(1)


def _say(line: str) -> None:
    from simtrain.cli.output import note

    if line.startswith("measuring "):
        note(line)
