"""Compute the distance columns of xtl/report/languages.csv again and print what changed; --write updates the file.

    pip install -e '.[typology]'                (urielplus)
    python scripts/language_table.py            compares, exit status 1 if a value differs
    python scripts/language_table.py --write

syn_angular, syn_shared, genetic, geographic and featural come from urielplus (original URIEL, angular distance on
features known for both). syn_knn_cos, pho_knn_cos and inv_knn_cos are cosine distances of lang2vec's completed vectors;
they are compared where lang2vec 1.1.2 is installed, and kept otherwise. All other columns are kept as they are.
"""

import argparse
import csv
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TABLE = Path(__file__).resolve().parent.parent / "xtl" / "report" / "languages.csv"
ENGLISH = "eng"
DIGITS = 4
COMPLETED = {"syn_knn_cos": "syntax_knn", "pho_knn_cos": "phonology_knn", "inv_knn_cos": "inventory_knn"}


def from_urielplus(codes: list[str]) -> dict[str, dict[str, float]]:
    """Column -> ISO 639-3 code -> value, by urielplus; it copies its data into its own folder the first time."""
    from urielplus import urielplus

    uriel = urielplus.URIELPlus()
    kinds = {"syn_angular": "syntactic", "genetic": "genetic", "geographic": "geographic", "featural": "featural"}
    distances = {column: {code: _distance(uriel, kind, code) for code in codes} for column, kind in kinds.items()}
    known = {code: np.array(v, float) >= 0 for code, v in uriel.get_syntactic_vector(codes).items()}  # -1: no value
    shared = {code: int((known[ENGLISH] & known[code]).sum()) for code in codes}
    return {**distances, "syn_shared": {**shared, ENGLISH: 0}}


def _distance(uriel: Any, kind: str, code: str) -> float:
    return 0.0 if code == ENGLISH else round(float(uriel.new_distance(kind, ENGLISH, code)), DIGITS)


def from_lang2vec(codes: list[str]) -> dict[str, dict[str, float]]:
    """The same from the kNN-completed vectors of lang2vec, where it is installed."""
    if importlib.util.find_spec("lang2vec") is None:
        print(f"lang2vec is not installed: {', '.join(COMPLETED)} are kept")
        return {}
    from lang2vec import lang2vec

    columns = {}
    for column, kind in COMPLETED.items():
        vectors = {code: np.array(v, float) for code, v in lang2vec.get_features(codes, kind).items()}
        cosine = lambda a, b: 1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
        columns[column] = {code: round(float(cosine(vectors[ENGLISH], v)), DIGITS) for code, v in vectors.items()}
    return columns


def main(argv: list[str] | None = None, *, sources: tuple[Callable, ...] = (from_urielplus, from_lang2vec)) -> int:
    """0 if every computed value is what the table holds (or was written)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the new values into the file")
    parser.add_argument("--table", type=Path, default=TABLE)
    args = parser.parse_args(argv)
    lines = args.table.read_text(encoding="utf-8").splitlines()
    notes = [line for line in lines if line.startswith("#")]
    reader = csv.DictReader(line for line in lines if not line.startswith("#"))
    rows, columns = list(reader), reader.fieldnames or []
    computed: dict[str, dict[str, float]] = {}
    for source in sources:
        computed |= source([row["iso639_3"] for row in rows])
    changed = 0
    for column, values in computed.items():
        differ = []
        for row in rows:
            new = values[row["iso639_3"]]
            if row[column] == "" or abs(float(row[column]) - new) > 1.5 * 10**-DIGITS:
                differ.append(f"{row['lang']} {row[column] or 'empty'} -> {new:g}")
                row[column] = f"{new:g}"
        print(
            f"{column}: {len(rows) - len(differ)} of {len(rows)} as in the table" + "".join(f"\n  {d}" for d in differ)
        )
        changed += len(differ)
    if args.write and changed:
        with args.table.open("w", encoding="utf-8", newline="") as out:
            out.write("\n".join(notes) + "\n")
            writer = csv.DictWriter(out, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return int(bool(changed) and not args.write)


if __name__ == "__main__":
    sys.exit(main())
