"""The entrypoint of a Ray job: runs a training command in its folder, for as long as who submitted the job is there.

CDL_RAY names a folder that both sides see. plan.json in it says what to run; the file lease is touched while the other side
lives and removed to kill at once. What the command prints goes to Ray and to the file log in it. Needs Python alone.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

place = os.environ["CDL_RAY"]
lease = os.path.join(place, "lease")
with open(os.path.join(place, "plan.json"), encoding="utf-8") as file:
    plan = json.load(file)
log = open(os.path.join(place, "log"), "wb", buffering=0)
# Ray sends SIGTERM to every process of the job itself; a handler, unlike SIG_IGN, is not inherited.
signal.signal(signal.SIGTERM, lambda *_: None)


def is_over(last=[None, 0.0]):
    """Whether the lease was removed, or not touched for too long by this machine's clock."""
    try:
        touched = os.stat(lease).st_mtime_ns
    except FileNotFoundError:
        return True
    if touched != last[0]:
        last[:] = touched, time.monotonic()
    return time.monotonic() - last[1] > plan["seconds"]


if is_over():
    sys.exit(128 + signal.SIGKILL)
try:
    child = subprocess.Popen(
        plan["command"],
        cwd=plan["folder"],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
except OSError as problem:
    log.write(f"{plan['command'][0]} could not be started: {problem}\n".encode())
    sys.exit(127)


def show():
    while chunk := os.read(child.stdout.fileno(), 65536):
        os.write(1, chunk)
        log.write(chunk)


shown = threading.Thread(target=show, daemon=True)
shown.start()
try:
    while child.poll() is None and not is_over():
        try:
            child.wait(0.5)
        except subprocess.TimeoutExpired:
            pass
finally:
    # Also what it left behind.
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
status = child.wait()
# A process that left the group may hold the pipe; nobody waits for it.
shown.join(2)
sys.exit(status if status >= 0 else 128 - status)
