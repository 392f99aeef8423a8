"""Run under torchrun: a rank that says it started and waits."""

import sys
import time

if __name__ == "__main__":
    sys.stdout.write("started\n")
    time.sleep(120)
