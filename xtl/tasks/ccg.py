"""CCG supertagging: one of 1,363 categories per word. English; CCGbank (LDC2005T13) is licensed: bring your own files.

jiant's layout: ccg.train, ccg.dev, ccg.test with `words TAB tags` on each line, both separated by spaces, and
tags_to_id.json, the tag set.
"""

from xtl.data.sources.formats import columns
from xtl.data.sources.formats.base import At, Files
from xtl.task import Task

TASK = Task(
    name="ccg",
    family="tag",
    about="CCG supertagging of newspaper English (licensed: CCGbank, user-supplied)",
    languages=("en",),
    splits=("train", "dev", "test"),
    metric="accuracy",
    labels=tuple(f"tag{i}" for i in range(1363)),
    max_length=256,
    sizes={"train": 38015, "dev": 5484},
    files=Files(
        task="ccg",
        at=(At(paths=("ccg.{split}", "tags_to_id.json"), read=columns.read_lines_with_tag_file(1363)),),
        get="Convert CCGbank (LDC2005T13) to ccg.train, ccg.dev, ccg.test and tags_to_id.json in ccg/",
    ),
    licence="LDC, paid",
)
