"""Speed of the search: GPT-3 175B on 4,096 A100, and Llama 3 70B on 512 H100."""

import resource
import subprocess
import sys
import time

import pytest

from simtrain.search.search import search
from simtrain.spec.request import Request

GPT3 = Request(model="gpt-3-175b", cluster="selene", gpus="4096", seq="2048", global_batch="1536..4096")
LLAMA = Request(model="llama-3-70b", cluster="dgx-h100", gpus="512", seq="8192", global_batch="1024", tokens="15T")


@pytest.mark.parametrize("request_", [GPT3, LLAMA], ids=["gpt-3-175b on 4096", "llama-3-70b on 512"])
def test_search(benchmark, request_) -> None:
    """The search alone."""
    job = request_.job()
    result = benchmark.pedantic(search, args=(job, 5), rounds=3, warmup_rounds=1)
    legal = result.tally.legal
    benchmark.extra_info["legal"] = legal
    benchmark.extra_info["candidates_per_second"] = round(legal / benchmark.stats.stats.median)
    print(f"\n{legal:,} legal plans, {legal / benchmark.stats.stats.median:,.0f} a second")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["plan", GPT3.model, GPT3.cluster, "--gpus", GPT3.gpus, "--global-batch", GPT3.global_batch, "--json"],
        ["plan", LLAMA.model, LLAMA.cluster, "--gpus", LLAMA.gpus, "--seq", LLAMA.seq, "--global-batch", "1024"],
    ],
    ids=["help", "gpt-3-175b on 4096", "llama-3-70b on 512"],
)
def test_command(benchmark, arguments) -> None:
    """The whole command, start-up included."""

    def run() -> float:
        start = time.perf_counter()
        code = "from simtrain.cli.main import main; main()"
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
        return time.perf_counter() - start

    benchmark.pedantic(run, rounds=3)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"\nlargest child so far {peak / 2**30:.2f} GiB")
