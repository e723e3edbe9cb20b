"""Write tests/golden/*.txt anew: the resolved configs, so that a changed default or derived value shows in review.

    python scripts/refresh_golden.py

Resolved without looking at data: languages and splits are the catalog's, and fingerprints cover no data revision.
"""

import json
from pathlib import Path

from xtl.config import fingerprints, load_config, resolve
from xtl.config.schema import as_dict

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
CONFIGS = ("demo", "real_small")


def golden(name: str) -> str:
    """One block a stage, one line a section."""
    stages = resolve(load_config(ROOT / "configs" / f"{name}.py"), look=False).stages
    prints = fingerprints(stages)
    blocks = []
    for stage_name, stage in stages.items():
        lines = [f"{key}: {json.dumps(value)}" for key, value in as_dict(stage).items()]
        blocks.append("\n".join([f"== {stage_name} {prints[stage_name].full[:16]}", *lines]))
    return "\n\n".join(blocks) + "\n"


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name in CONFIGS:
        path = GOLDEN / f"{name}.txt"
        path.write_text(golden(name))
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
