"""Run under torchrun: a rank that says it started and waits."""

import time

if __name__ == "__main__":
    print("started", flush=True)
    time.sleep(120)
