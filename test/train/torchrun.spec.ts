import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { CommandTraining } from '../../src/train/command.ts';
import { launchByTorchrun, torchrunFailure } from '../../src/train/torchrun.ts';
import { commandTraining, train } from './command-fixtures.ts';
import { inFolder } from './fixtures.ts';

const python = process.env.CDL_TORCH;
const missing = python ? '' : ' (skipped: CDL_TORCH names no python with torch)';

/** Three steps of a linear model over all 12 items, in as many processes as there are; each of them tells all it does. */
const program = `
import json, os, signal
import torch
import torch.distributed as dist

job = json.load(open(os.environ["CDL_JOB"]))
rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))

def tell(**event):
    with open(os.environ["CDL_EVENTS"], "a") as file:
        file.write(json.dumps(event) + "\\n")

def keep(name, state):
    folder = os.path.join(job["output"], name)
    os.makedirs(folder, exist_ok=True)
    if rank == 0:
        torch.save(state, os.path.join(folder, "state.pt"))
    return name

torch.manual_seed(job["seed"])
items, goals = torch.randn(12, 5), torch.randn(12, 1)
model = torch.nn.Linear(5, 1)
if world > 1:
    dist.init_process_group("gloo")
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
begin, gradients = 0, []
if job["resume"]:
    state = torch.load(os.path.join(job["resume"], "state.pt"), weights_only=True)
    begin, gradients = state["epoch"], state["gradients"]
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
for epoch in range(begin + 1, job["hyperparameters"]["epochs"] + 1):
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(items[rank::world]), goals[rank::world])
    loss.backward()
    for weight in model.parameters() if world > 1 else []:
        dist.all_reduce(weight.grad, dist.ReduceOp.SUM)
        weight.grad /= world
    gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]).tolist())
    optimizer.step()
    state = {"epoch": epoch, "gradients": gradients, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    tell(kind="epoch", epoch=epoch, metrics={"loss": loss.item()}, checkpoint=keep(f"at/{epoch}", state))
    if world > 1:
        dist.barrier()
    if rank == 1 and epoch == 2 and job["hyperparameters"].get("kill") and not job["resume"]:
        os.kill(os.getpid(), signal.SIGKILL)
keep("model", {})
if rank == 0:
    weights = torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()
    json.dump({"gradients": gradients, "weights": weights}, open(os.path.join(job["output"], "model", "end.json"), "w"))
tell(kind="done", model="model")
if world > 1:
    dist.destroy_process_group()
`;

interface End {
  gradients: number[][];
  weights: number[];
}

/** Trains in so many processes; 1 is without torchrun. */
const trainIn = (processes: number, hyperparameters: CommandTraining['job']['hyperparameters']) =>
  inFolder(async (folder) => {
    const training = await commandTraining(folder, python!, ['train.py', program], { restarts: 1 });
    const { messages, error } = await train({
      ...training,
      ...(processes > 1 && { launch: launchByTorchrun(processes) }),
      job: { ...training.job, hyperparameters },
    });
    expect(error).toBeNull();
    const end = JSON.parse(await readFile(join(folder, 'output', 'model', 'end.json'), 'utf8')) as End;
    return { messages, end };
  });

it.skipIf(!python)(
  `two processes of torchrun give the gradients of one over the same batch and its end, also when rank 1 is killed on the way${missing}`,
  async () => {
    const undisturbed = await trainIn(1, { epochs: 3 });
    const killed = await trainIn(2, { epochs: 3, kill: true });
    // Each event once, although both processes tell it.
    expect(killed.messages.map((message) => message.kind)).toEqual([
      'epoch',
      'epoch',
      'log',
      'epoch',
      'done',
    ]);
    expect(killed.messages[2]).toMatchObject({
      message: expect.stringMatching(/^process 1 of the training command was ended by SIGKILL.*goes on/s),
    });
    const numbers = ({ gradients, weights }: End) => [...gradients.flat(), ...weights];
    const difference = numbers(killed.end).map((value, index) => value - numbers(undisturbed.end)[index]!);
    expect(difference).toHaveLength(3 * 6 + 6);
    expect(Math.max(...difference.map(Math.abs))).toBeLessThan(1e-5);
  },
);

it.skipIf(!python)(
  `torchrun hands SIGTERM on to every process, and what the first keeps then is told${missing}`,
  () =>
    inFolder(async (folder) => {
      const text = `
import json, os, signal, sys
job, rank = json.load(open(os.environ["CDL_JOB"])), os.environ["RANK"]
def tell(event):
    with open(os.environ["CDL_EVENTS"], "a") as file: file.write(json.dumps(event) + "\\n")
def stop(*_):
    open(os.path.join(job["output"], "at", rank), "w").close()
    tell({"kind": "checkpoint", "path": "at", "epoch": 1, "step": 7})
    sys.exit(0)
os.makedirs(os.path.join(job["output"], "at"), exist_ok=True)
signal.signal(signal.SIGTERM, stop)
open(os.path.join(job["output"], "ready" + rank), "w").close()
while rank == "0" and not os.path.exists(os.path.join(job["output"], "ready1")): pass
tell({"kind": "log", "message": "ready"})
while True: signal.pause()
`;
      const training = await commandTraining(folder, python!, ['train.py', text]);
      const { messages, error } = await train(
        { ...training, launch: launchByTorchrun(2) },
        (_message, stop) => stop(),
      );
      expect(error?.code).toBe('interrupted');
      expect(messages.map((message) => message.kind)).toEqual(['log', 'checkpoint', 'stopped']);
      expect(await readdir(join(folder, 'output', 'at'))).toEqual(['0', '1']);
    }),
);

it('torchrun’s report of a failure tells the process that failed first, and what it wrote alone', () => {
  const elastic = 'torch/distributed/elastic/multiprocessing/api.py';
  const output = `Setting OMP_NUM_THREADS environment variable
[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB
[rank0]: RuntimeError: Connection closed by peer
W1126 21:18:48.799000 12242 ${elastic}:1028] Sending process 12387 closing signal SIGTERM
E1126 21:18:48.868000 12242 ${elastic}:1002] failed (exitcode: STATUS) local_rank: 1 (pid: 12388) of binary: sh
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
  exitcode  : -15 (pid: 12387)  (SIGTERM)`;
  expect(torchrunFailure(output.replace('STATUS', '1'))).toEqual({
    rank: 1,
    code: 1,
    signal: null,
    lines: ['[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB'],
  });
  expect(torchrunFailure(output.replace('STATUS', '-9'))).toMatchObject({ code: null, signal: 'SIGKILL' });
  expect(torchrunFailure('Traceback: no such layer')).toBeNull();
});
