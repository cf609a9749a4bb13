"""Samples a second of PyTorch on this processor: the networks of bench/train.ts, batch 64, Adam; best of three epochs."""
import json
import sys
import time

import torch
from torch import nn

BATCH = 64


def perceptron():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))


def measure(build, count):
    torch.manual_seed(1)
    items = torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8)
    labels = torch.randint(0, 10, (count,))
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    best = 0.0
    for _ in range(3):
        order = torch.randperm(count)
        begin = time.perf_counter()
        for at in range(0, count, BATCH):
            chosen = order[at:at + BATCH]
            logits = model(items[chosen].float() / 255)
            loss = nn.functional.cross_entropy(logits, labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            # As the built-in trainer: loss and accuracy of every batch are told.
            loss.item(), (logits.argmax(1) == labels[chosen]).sum().item()
        best = max(best, count / (time.perf_counter() - begin))
    return best


torch.set_num_threads(int(sys.argv[1]))
print(json.dumps({"mlp": measure(perceptron, 12800), "lenet": measure(lenet, 3200), "torch": torch.__version__}))
