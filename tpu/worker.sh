#!/usr/bin/env bash
# Runs on every TPU VM; the launcher copies it there and calls one verb at a time:
#   setup                 Python environment and code, from the files copied beside this script
#   start ID COMMAND...   run the command in the background, with its output in job.log
#   status [ID]           one line: xtl-job HOST STATE [last line of the log]; STATE is idle, running, lost, done,
#                         failed:CODE, or other while a job with another ID runs
#   stop                  ask the job to save and leave (SIGTERM), after two minutes end it
#   log                   the whole log
# A job outlives the ssh connection that started it, so a launcher that is cut off can come back.
set -euo pipefail
shopt -s nullglob
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cd "$here"

alive() { [[ -f job.pid ]] && kill -0 "$(cat job.pid)" 2>/dev/null; }

setup() {
    local stamp python wheels=(./*.whl)
    stamp="$(cat source.tar.gz "${wheels[@]}" | sha256sum)"
    if [[ -f setup.done && "$(cat setup.done)" == "$stamp" ]]; then
        echo "set up already"
        return
    fi
    rm -rf setup.done source && mkdir source && tar -xzf source.tar.gz -C source
    for python in python3.11 python3.12 python3.13 python3; do
        "$python" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
        python=""
    done
    if [[ -n "$python" ]]; then
        "$python" -m venv venv
    else # the TPU VM images carry Python 3.10
        python3 -m pip install --user -q uv
        python3 -m uv venv -q --seed --clear --python 3.11 venv
    fi
    local pip=(venv/bin/python -m pip --disable-pip-version-check -q install --no-compile --no-deps)
    "${pip[@]}" -r source/requirements-tpu.lock -r source/requirements-gcs.lock
    if ((${#wheels[@]})); then
        "${pip[@]}" --force-reinstall "${wheels[@]}"
    else
        "${pip[@]}" --no-build-isolation -e source
    fi
    echo "$stamp" >setup.done
    echo "set up with $(venv/bin/python --version)"
}

start() {
    if alive; then
        echo "a job is running already, as process $(cat job.pid)" >&2
        return 1
    fi
    rm -f job.code job.pid
    echo "$1" >job.id
    shift
    local bin="$here/venv/bin"
    cd "$([[ -d source ]] && echo source || echo .)"
    # shellcheck disable=SC2016
    PATH="$bin:$PATH" setsid nohup bash -c '
        trap : TERM  # the command may save and leave on SIGTERM; its exit status is still written down
        echo $$ >"$0/job.pid"
        echo "== $(date -u +%FT%TZ) $(hostname): ${*@Q}"
        code=0
        "$@" || code=$?
        echo "$code" >"$0/job.code"
    ' "$here" "$@" >>"$here/job.log" 2>&1 </dev/null &
    for _ in $(seq 50); do
        [[ -s "$here/job.pid" ]] && break
        sleep 0.1
    done
    echo "started as $(cat "$here/job.pid")"
}

status() {
    local state=idle
    if [[ -n "${1:-}" && "$(cat job.id 2>/dev/null)" != "$1" ]]; then
        if alive; then state=other; fi
    elif [[ -f job.code ]]; then
        state=done
        [[ "$(cat job.code)" == 0 ]] || state="failed:$(cat job.code)"
    elif alive; then
        state=running
    elif [[ -f job.pid ]]; then
        state=lost
    fi
    echo "xtl-job $(hostname) $state $(tail -n 1 job.log 2>/dev/null | tr '\r' '\n' | tail -n 1 | cut -c 1-160)"
}

stop() {
    alive || return 0
    local group
    group="$(cat job.pid)"
    kill -TERM -- "-$group" 2>/dev/null || true
    for _ in $(seq "${XTL_STOP_SECONDS:-120}"); do
        alive || return 0
        sleep 1
    done
    kill -KILL -- "-$group" 2>/dev/null || true
}

log() { cat job.log 2>/dev/null || true; }

verb="$1"
shift
"$verb" "$@"
