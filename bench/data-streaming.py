"""Samples per second of a PyTorch DataLoader: out of shards, and out of the same files one by one. Prints JSON."""

import json
import os
import sys
import time

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

shards = json.loads(sys.argv[1])
root = sys.argv[2]


def decode(data):
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


class Files(Dataset):
    def __init__(self):
        self.paths = sorted(os.path.join(d, f) for d, _, names in os.walk(root) for f in names)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with open(self.paths[index], "rb") as file:
            return decode(file.read())


class Shards(IterableDataset):
    """A shard is a plain tar file: a header of 512 bytes, the file, up to the next block (POSIX.1-2017 pax, ustar)."""

    def __iter__(self):
        for path in shards:
            with open(path, "rb", buffering=1 << 20) as tar:
                while True:
                    header = tar.read(512)
                    if len(header) < 512 or header[0] == 0:
                        break
                    size = int(header[124:135], 8)
                    data = tar.read(size)
                    tar.read(-size % 512)
                    if header[156:157] == b"0":
                        yield decode(data)


def measure(dataset):
    start, count = time.perf_counter(), 0
    for batch in DataLoader(dataset, batch_size=64):
        count += len(batch)
    return count, count / (time.perf_counter() - start)


assert measure(Files())[0] == measure(Shards())[0]
runs = [(measure(Files())[1], measure(Shards())[1]) for _ in range(3)]
print(json.dumps({"files": max(run[0] for run in runs), "shards": max(run[1] for run in runs)}))
