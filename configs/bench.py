"""One fine-tuning step at the published sizes with filled rows: what a slice can reach (docs/tpu_performance.md).

    xtl compile --config=configs/bench.py:size=large --topology=v5e:4x4 --steps=train
    xtl compile --config=configs/bench.py:size=large,length=512,rows=16 --topology=v6e:4x4 --steps=train

`rows` is on each device; what the file gives is the global batch: rows x chips.
"""

from ml_collections import ConfigDict

from xtl import config


def get_config(arg: str = "") -> ConfigDict:
    a = config.arguments(
        arg, size="large", length=128, rows=64, chips=16, data=1, fsdp=-1, tensor=1, remat="none", scan=0, layers=0
    )
    stage = config.stage(
        "bench",
        tasks={"mnli": {"batch_size": a.rows * a.chips // a.tensor, "max_length": a.length}},
        train={"steps": 1000, "row_length": a.length},
        evaluate={"xnli": {}},
    )
    return config.pipeline(
        "bench",
        encoder=config.encoder(a.size, dtype="bfloat16", layers=a.layers),
        system={"mesh": {"data": a.data, "fsdp": a.fsdp, "tensor": a.tensor}, "remat": a.remat, "scan": a.scan},
        stages=[stage],
    )
