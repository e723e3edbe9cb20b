"""A gcloud that plays a cloud in the folder $CLOUD, for the launcher's tests. Not a test itself.

plan.json says what will happen:
  hosts     workers of each node
  lives     for each slice that gets created: the states its queue shows, one a look, the last one for ever
  create, delete, ssh   answers to the next such calls: ok, or a way to fail
  orphan    the next deletion leaves the node behind;  delete_s: seconds a deletion takes;  login: false for none
state.json holds what exists. Workers are folders below life<N>/; ssh runs its command there for real, and a slice that
is taken away loses its processes.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

CLOUD = Path(os.environ["CLOUD"])
WORDS = sys.argv[1:]
LOCK = (CLOUD / "lock").open("w")
fcntl.flock(LOCK, fcntl.LOCK_EX)  # two launchers may call at once; each call's reading and writing is one
PLAN = json.loads((CLOUD / "plan.json").read_text())
STATE = json.loads((CLOUD / "state.json").read_text())
ERRORS = {
    "quota": "RESOURCE_EXHAUSTED: Quota limit 'TPUV6EPreemptiblePerProject' has been exceeded. Limit: 0",
    "denied": "PERMISSION_DENIED: tpu.nodes.create",
    "flaky": "UNAVAILABLE: try again",
    "stuck": "INTERNAL: stuck",
    "silent": "ssh: connection refused",
}


def save() -> None:
    for name, value in (("plan", PLAN), ("state", STATE)):
        aside = CLOUD / f"{name}.aside"
        aside.write_text(json.dumps(value))
        aside.replace(CLOUD / f"{name}.json")  # the tests look on without the lock


def fail(text: str) -> None:
    save()
    sys.exit(f"ERROR: (gcloud) {text}")


def flag(name: str) -> str | None:
    return next((word.split("=", 1)[1] for word in WORDS if word.startswith(f"--{name}=")), None)


def spend(verb: str) -> None:
    """Take the planned answer to this call."""
    answer = PLAN[verb].pop(0) if PLAN.get(verb) else "ok"
    save()
    if answer != "ok":
        fail(ERRORS[answer])


def life() -> Path:
    return CLOUD / f"life{STATE['life']}"


def homes(node: str) -> list[Path]:
    folders = [life() / node / f"w{index}" for index in range(PLAN["hosts"])]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    return folders


def kill() -> None:
    """What happens to the processes of a slice that is taken away."""
    for path in life().glob("*/*/xtl-run/job.pid"):
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.killpg(int(path.read_text()), signal.SIGKILL)


def create() -> None:
    spend("create")
    if STATE["queue"]:
        fail("ALREADY_EXISTS: there is such a queue")
    one, many = flag("node-id"), int(flag("node-count") or 0)
    nodes = [one] if one else [f"{flag('node-prefix')}-{index}" for index in range(many)]
    STATE.update(queue=WORDS[4], nodes=nodes, life=STATE["life"] + 1, looks=0)
    save()


def describe() -> None:
    if PLAN.get("login") is False:
        fail("You do not currently have an active account selected.")
    if not STATE["queue"]:
        fail("NOT_FOUND: no such queue")
    states = PLAN["lives"][min(STATE["life"], len(PLAN["lives"])) - 1]
    state, _, message = states[min(STATE["looks"], len(states) - 1)].partition(":")
    STATE["looks"] += 1
    save()
    if state.startswith("SUSPEND"):
        kill()
    print(json.dumps({"state": {"state": state, "failedData": {"error": {"message": message}}}}))


def delete() -> None:
    time.sleep(PLAN.get("delete_s", 0))
    spend("delete")
    if not STATE["queue"]:
        fail("NOT_FOUND: no such queue")
    kill()
    STATE.update(queue=None, nodes=STATE["nodes"] if PLAN.pop("orphan", False) else [])
    save()


def list_nodes() -> None:
    for node in STATE["nodes"]:
        print(f"projects/p/locations/z/nodes/{node}")


def delete_node() -> None:
    STATE["nodes"].remove(WORDS[4])
    save()


def scp() -> None:
    *files, target = [word for word in WORDS[4:] if not word.startswith("--")]
    node, folder = target.split(":")
    for home in homes(node):
        for file in files:
            shutil.copy(file, home / folder)


def ssh() -> None:
    spend("ssh")
    fcntl.flock(LOCK, fcntl.LOCK_UN)  # nothing is written after this, and commands may take long
    node, worst = WORDS[4], 0
    for index, home in enumerate(homes(node)):
        who = {"HOME": str(home), "HOST": f"{node}-w{index}", "WORKER": str(index), "LIFE": str(STATE["life"])}
        command = ["bash", "-c", flag("command") or ""]
        done = subprocess.run(command, cwd=home, env={**os.environ, **who}, capture_output=True, text=True)
        worst = max(worst, done.returncode)
        sys.stderr.write(done.stderr)
        if folder := flag("output-directory"):
            Path(folder, f"{index}.log").write_text(done.stdout)
        else:
            sys.stdout.write(done.stdout)
    sys.exit(worst)


VERBS = {
    "queued-resources create": create,
    "queued-resources describe": describe,
    "queued-resources delete": delete,
    "queued-resources list": lambda: print(STATE["queue"] or ""),
    "tpu-vm list": list_nodes,
    "tpu-vm delete": delete_node,
    "tpu-vm scp": scp,
    "tpu-vm ssh": ssh,
}

if __name__ == "__main__":
    with (CLOUD / "calls.log").open("a") as log:
        log.write(" ".join(WORDS) + "\n")
    assert WORDS[:2] == ["compute", "tpus"], WORDS
    VERBS[" ".join(WORDS[2:4])]()
