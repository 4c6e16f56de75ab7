"""One table of several sets from the JSON of ``distill-bench measure FILE transfer --json``: networks by sets.

python scripts/transfer_table.py results/transfer/digits-random.json results/transfer/digits-dm.json
"""

import json
import sys
from pathlib import Path

from distill_bench.evaluation.measures import Transfer, shown


def main(paths: list[Path]) -> None:
    found = [read(path) for path in paths]
    by_network = [{score.network: score for score in transfer.scores} for transfer in found]
    names = [score.network for score in found[0].scores]
    titles = [transfer.scores[0].method for transfer in found]
    lines = ["| network | " + " | ".join(titles) + " |", "| :-- |" + " --: |" * len(found)]
    for name in names:
        cells = [shown(scores[name]) if name in scores else "–" for scores in by_network]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    means = ["–" if transfer.mean_of_others is None else f"{transfer.mean_of_others:.1f}" for transfer in found]
    lines.append(f"| mean without {found[0].home} | " + " | ".join(means) + " |")
    sys.stdout.write("\n".join(lines) + "\n")


def read(path: Path) -> Transfer:
    content = json.loads(path.read_text())
    if "made_with" not in content:  # of an earlier version, which began with the protocol's network
        content |= {"made_with": None, "protocol_network": content["scores"][0]["network"]}
    return Transfer.model_validate({key: content[key] for key in Transfer.model_fields})


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
