"""Slurm: one script that submits a job array for every set of stages with the same parent.

    xtl plan --config=FILE.py --workdir=DIR --emit=slurm > submit.sh
    sh submit.sh --partition=tpu --nodes=4 --ntasks-per-node=1 --time=24:00:00     (any options of sbatch)

An array waits for the one task that trained its parent (afterok:JOB_TASK); when that fails, Slurm removes the array
(--kill-on-invalid-dep) and nothing else. A last job, after all the others however they ended, writes the report.
"""

import shlex

from xtl.cli.emit import Request, families

SCRIPT = """\
#!/bin/sh
# {count} stages of pipeline {name}, {arrays} job arrays. Every word after the name of this script goes to sbatch.
# Start it where the paths of the config and of WORKDIR mean the same as on the nodes.
set -eu
all=

array() {{  # array AFTER STAGE...: a job array, which starts when AFTER (JOB_TASK, or -) has succeeded
    after=$1
    shift
    stages=$*
    set -- --parsable --job-name={name} --array=0-$(($# - 1)) --requeue
    [ "$after" = - ] || set -- "$@" --dependency=afterok:"$after" --kill-on-invalid-dep=yes
    job=$(sbatch "$@" $options <<JOB
#!/bin/sh
set -- $stages
shift "\\$SLURM_ARRAY_TASK_ID"
exec srun {command} --stage="\\$1"
JOB
    )
    job=${{job%%;*}}
    all=$all:$job
}}

options=$*
{arrays_text}
sbatch --parsable --job-name={name}-report --dependency=afterany"$all" $options <<JOB
#!/bin/sh
exec srun --nodes=1 --ntasks=1 xtl report --workdir={workdir}
JOB
"""


def emit(request: Request) -> str:
    """The text of submit.sh."""
    sets = families(request.graph)
    variable = {parent.parent: f"job{i}" for i, parent in enumerate(sets)}
    place = {stage: (variable[one.parent], i) for one in sets for i, stage in enumerate(one.stages)}
    lines = []
    for one in sets:
        after = "-" if not one.parent else '"${{{}}}_{}"'.format(*place[one.parent])
        lines.append(f"array {after} {shlex.join(one.stages)}\n{variable[one.parent]}=$job")
    return SCRIPT.format(
        count=len(request.graph.units),
        arrays=len(sets),
        name=request.graph.name,
        command=_inside(shlex.join(request.command)),
        workdir=_inside(shlex.quote(request.workdir)),
        arrays_text="\n".join(lines),
    )


def _inside(words: str) -> str:
    """Words for a here-document that expands."""
    return words.replace("\\", "\\\\").replace("$", "\\$").replace("`", "\\`")
