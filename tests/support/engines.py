"""Engines for the tests of xtl/emit: an sbatch that only queues, a scheduler for its queue, and published schemas."""

import json
import os
import random
import re
import stat
import subprocess
import sys
from pathlib import Path

# ---------------------------------------------------------------- Slurm

SBATCH = """\
#!{python}
# A stub of sbatch: keeps the script and what was asked for, and prints the job's number.
import json, os, sys
spool = {spool!r}
asked = {{"script": sys.stdin.read(), "words": sys.argv[1:], "cwd": os.getcwd()}}
number = 100 + len(os.listdir(spool))
open(f"{{spool}}/{{number}}.json", "w").write(json.dumps(asked))
print(f"{{number}};cluster" if "--parsable" in sys.argv else f"Submitted batch job {{number}}")
"""
SRUN = """\
#!/bin/sh
# A stub of srun: one task, here.
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
"""


class Slurm:
    """A cluster of one machine. `bin` goes on the PATH; `run()` works off what was submitted, in a random order that
    honours dependencies; `ran` lists (job, task, exit status), `never` those whose dependency failed."""

    def __init__(self, folder: Path):
        self.spool, self.bin = folder / "spool", folder / "bin"
        self.spool.mkdir(parents=True)
        self.bin.mkdir()
        self.program("sbatch", SBATCH.format(python=sys.executable, spool=str(self.spool)))
        self.program("srun", SRUN)
        self.ran: list[tuple[str, int, int]] = []
        self.never: list[str] = []

    def program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}"}

    def jobs(self) -> dict[str, dict]:
        jobs = {}
        for path in sorted(self.spool.glob("*.json")):
            asked = json.loads(path.read_text())
            options = dict(re.fullmatch(r"--([\w-]+)(?:=(.*))?", word).groups() for word in asked["words"])
            low, _, high = (options.get("array") or "0-0").partition("-")
            jobs[path.stem] = {**asked, "options": options, "tasks": range(int(low), int(high) + 1)}
        return jobs

    def run(self, *, seed: int = 0) -> None:
        jobs, chance, ended = self.jobs(), random.Random(seed), {}
        waiting = [(job, task) for job in jobs for task in jobs[job]["tasks"]]
        while waiting:
            ready = [(j, t) for j, t in waiting if self._may_start(jobs[j], jobs, ended) is True]
            doomed = {j for j, _ in waiting if self._may_start(jobs[j], jobs, ended) is None}
            assert ready or doomed, "jobs wait for each other"
            for job in doomed:
                assert jobs[job]["options"].get("kill-on-invalid-dep") == "yes", "such a job would wait for ever"
                self.never.append(job)
                ended |= {(job, task): -1 for task in jobs[job]["tasks"]}
            waiting = [one for one in waiting if one[0] not in doomed]
            if ready:
                job, task = chance.choice(ready)
                waiting.remove((job, task))
                environment = {**self.environment, "SLURM_ARRAY_TASK_ID": str(task)}
                script = self.spool.parent / "script.sh"
                script.write_text(jobs[job]["script"])
                status = subprocess.run(["sh", str(script)], cwd=jobs[job]["cwd"], env=environment).returncode
                ended[job, task] = status
                self.ran.append((job, task, status))

    @staticmethod
    def _may_start(job: dict, jobs: dict[str, dict], ended: dict) -> bool | None:
        """None: never."""
        kind, *others = (job["options"].get("dependency") or "").split(":")
        for other in others:
            name, _, task = other.partition("_")
            wanted = [(name, int(task))] if task else [(name, t) for t in jobs[name]["tasks"]]
            if any(one not in ended for one in wanted):
                return False
            if kind == "afterok" and any(ended[one] for one in wanted):
                return None
        return True


# ---------------------------------------------------------------- Kubernetes
# The fields of the published types that xtl uses, with the type of each; "!" marks required ones.
# argo-workflows: pkg/apis/workflow/v1alpha1; jobset: api/jobset/v1alpha2; kubernetes: batch/v1 and core/v1.

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
QUANTITY = int
CONTAINER = {
    "name!": str,
    "image!": str,
    "command": [str],
    "env": [{"name!": str, "value": str}],
    "securityContext": {"privileged": bool},
    "ports": [{"containerPort!": int}],
    "resources": {"requests": {"*": QUANTITY}, "limits": {"*": QUANTITY}},
}
POD = {
    "restartPolicy": ("Never", "OnFailure", "Always"),
    "hostNetwork": bool,
    "dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    "serviceAccountName": str,
    "terminationGracePeriodSeconds": int,
    "nodeSelector": {"*": str},
    "containers!": [CONTAINER],
}
JOB = {
    "completionMode": ("Indexed", "NonIndexed"),
    "parallelism": int,
    "completions": int,
    "backoffLimit": int,
    "template!": {"spec!": POD},
}
META = {"name": str, "generateName": str, "labels": {"*": str}, "annotations": {"*": str}}
JOBSET = {
    "apiVersion!": ("jobset.x-k8s.io/v1alpha2",),
    "kind!": ("JobSet",),
    "metadata!": META,
    "spec!": {
        "failurePolicy": {"maxRestarts": int},
        "replicatedJobs!": [{"name!": str, "replicas": int, "template!": {"spec!": JOB}}],
    },
}
PARAMETER = {"name!": str, "value": str}
TASK = {
    "name!": str,
    "template!": str,
    "depends": str,
    "arguments": {"parameters": [PARAMETER]},
}
RESOURCE = {
    "action!": ("get", "create", "apply", "delete", "replace", "patch"),
    "setOwnerReference": bool,
    "successCondition": str,
    "failureCondition": str,
    "manifest!": str,
}
TEMPLATE = {
    "name!": str,
    "inputs": {"parameters": [PARAMETER]},
    "dag": {"failFast": bool, "tasks!": [TASK]},
    "resource": RESOURCE,
}
WORKFLOW = {
    "apiVersion!": ("argoproj.io/v1alpha1",),
    "kind!": ("Workflow",),
    "metadata!": META,
    "spec!": {"entrypoint!": str, "templates!": [TEMPLATE]},
}


def violations(value, schema, where="$"):
    """Where a value is not of a schema: unknown and missing fields, wrong types, values that are not allowed."""
    if isinstance(schema, list):
        if not isinstance(value, list):
            return [f"{where} is not a list"]
        return [v for i, item in enumerate(value) for v in violations(item, schema[0], f"{where}[{i}]")]
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return [f"{where} is not an object"]
        known = {key.rstrip("!"): rest for key, rest in schema.items()}
        faults = [
            f"{where}.{key.rstrip('!')} is missing" for key in schema if key.endswith("!") and key[:-1] not in value
        ]
        for key, item in value.items():
            if key not in known and "*" not in known:
                faults.append(f"{where}.{key} is unknown")
            else:
                faults += violations(item, known.get(key, known.get("*")), f"{where}.{key}")
        return faults
    if isinstance(schema, tuple):
        return [] if value in schema else [f"{where} {value!r} is not one of {schema}"]
    right = isinstance(value, schema) and not (schema is int and isinstance(value, bool))
    return [] if right else [f"{where} {value!r} is not {schema.__name__}"]
