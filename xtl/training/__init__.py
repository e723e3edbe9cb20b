"""One stage: state, step, loop, checkpoints, evaluation."""
