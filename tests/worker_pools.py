"""Starts pools of workers, tells their process ids, and waits to be killed."""

import os
import sys
import time

from torch.utils.data import DataLoader, Dataset

from flowact.data.actors.dataset import _make_all
from flowact.training.signals import start_worker


class Ids(Dataset[int]):
    def __getitem__(self, sample: int) -> int:
        return os.getpid()

    def __len__(self) -> int:
        return 4


def tell(index: int) -> None:
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    loading = iter(DataLoader(Ids(), None, num_workers=2, worker_init_fn=start_worker))
    for _ in range(4):
        sys.stdout.write(f"{next(loading)}\n")
    making = _make_all(tell, list(range(4)), workers=2)
    next(making)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    time.sleep(60)
