"""Files a user might bring."""

from pathlib import Path

CONFIG = """{
 "model_type": "llama",
 "hidden_size": 4096,
 "num_hidden_layers": 32,
 "num_attention_heads": 32,
 "num_key_value_heads": 8,
 "intermediate_size": 14336,
 "vocab_size": 128256,
 "max_position_embeddings": 8192,
 "tie_word_embeddings": false
}
"""
CLUSTER = """nodes = 2
[node]
device = "l40s"
devices = 8
nic = { count = 1, bandwidth = "50 GB/s" }
scaleup = { kind = "pcie", bandwidth = "25 GB/s", switched = false }
host = { memory = "1 TB", device_bandwidth = "25 GB/s" }
[fabric]
kind = "fat tree"
latency = "5 us"
oversubscription = 1
"""


def write(path: Path, text: str) -> Path:
    """The file with this text, its folder made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
