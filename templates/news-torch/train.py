"""Trains the network on the counts that model.ts made of the articles, and exports it as ONNX.

CDL_JOB names the job, CDL_EVENTS takes one event a line; README.md of cdl has both.
"""

import json
import os
import signal
import sys
import warnings

import numpy
import torch
from torch import distributed, nn

with open(os.environ["CDL_JOB"], encoding="utf-8") as file:
    job = json.load(file)
chosen = job["hyperparameters"]
classes = len(job["classes"])
# torchrun (launcher: in cdl.yaml) starts several of these, one for each GPU.
rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or CUDA is not deterministic
device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else torch.device("cpu")
stopping = False


def tell(**event):
    with open(os.environ["CDL_EVENTS"], "a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\n")


def stop(*_):
    global stopping
    stopping = True


class Scaled(nn.Module):
    """Counts to log(1 + count), each text scaled to length 1. Part of the exported graph: a server computes the same."""

    def forward(self, counts):
        logs = torch.log1p(counts)
        return logs / (logs.square().sum(1, keepdim=True).sqrt() + 1e-6)


def network(inputs):
    layers, width = [Scaled()], inputs
    for units in (256, 128, 64):
        layers += [nn.Linear(width, units), nn.LayerNorm(units), nn.ReLU(), nn.Dropout(float(chosen.get("dropout", 0.3)))]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, classes))


def load(part):
    items = numpy.load(job["data"][part]["items"]).astype(numpy.float32)
    labels = numpy.load(job["data"][part]["labels"]).astype(numpy.int64)
    return torch.from_numpy(items).to(device), torch.from_numpy(labels).to(device)


def scores(model, items, labels):
    model.eval()
    with torch.no_grad():
        logits = model(items)
    return nn.functional.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).float().mean().item()


def keep(model, optimizer, epoch):
    path = f"checkpoints/{epoch}"
    folder = os.path.join(job["output"], path)
    os.makedirs(folder, exist_ok=True)
    state = {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, os.path.join(folder, "state.pt"))
    return path


def over_all(*values):
    """Sums over the processes."""
    sums = torch.tensor(values, dtype=torch.float64).to(device, torch.float32)
    if world > 1:
        distributed.all_reduce(sums)
    return sums.tolist()


def main():
    signal.signal(signal.SIGTERM, stop)
    torch.manual_seed(job["seed"])
    torch.use_deterministic_algorithms(True)
    items, labels = load("train")
    held = load("validation")
    model = net = network(items.shape[1]).to(device)
    if world > 1:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        net = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=float(chosen.get("learning_rate", 0.0005)))
    begin, batch = 0, int(chosen.get("batch_size", 32))
    if job["resume"]:
        state = torch.load(os.path.join(job["resume"], "state.pt"), map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        begin = state["epoch"]
    metrics = {}
    for epoch in range(begin + 1, int(chosen.get("epochs", 8)) + 1):
        # By epoch, so that a training that was interrupted goes on as if it had not been.
        seed = job["seed"] * 1_000_003 + epoch
        order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed))
        torch.manual_seed(seed + rank)  # no two processes drop the same units
        model.train()
        total = 0.0
        for part in order.split(batch):
            mine = part[rank::world]
            optimizer.zero_grad()
            # The mean over the whole batch, once the gradients of all processes are averaged.
            loss = nn.functional.cross_entropy(net(items[mine]), labels[mine], reduction="sum") * world / len(part)
            loss.backward()
            optimizer.step()
            total += loss.item() / world * len(part)
        total, stopped = over_all(total, stopping)
        if rank == 0:
            loss, accuracy = scores(model, *held)
            metrics = {"loss": total / len(items), "validation_loss": loss, "validation_accuracy": accuracy}
            tell(kind="epoch", epoch=epoch, metrics=metrics, checkpoint=keep(model, optimizer, epoch))
        if stopped:
            sys.exit(0)
    if world > 1:
        distributed.destroy_process_group()
    if rank == 0:
        export(model.cpu(), items[:2].cpu(), metrics)


def export(model, items, metrics):
    folder = os.path.join(job["output"], "model")
    os.makedirs(folder, exist_ok=True)
    model.eval()
    # The older exporter needs no package besides torch and onnx, and is done in a second; that it is older is known.
    warnings.filterwarnings("ignore", message=".*legacy TorchScript-based", category=DeprecationWarning)
    torch.onnx.export(
        model,
        (items,),
        os.path.join(folder, "model.onnx"),
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
        dynamo=False,
    )
    tell(kind="done", model="model", metrics=metrics, environment={"torch": torch.__version__, "device": device.type})


main()
