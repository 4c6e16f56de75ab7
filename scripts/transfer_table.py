"""One table of several sets from the JSON of ``distill-bench measure FILE transfer --json``: networks by sets.

python scripts/transfer_table.py results/transfer/digits-random.json results/transfer/digits-dm.json
"""

import json
import sys
from pathlib import Path

import pandas

from distill_bench.evaluation.measures import Transfer, shown


def main(paths: list[Path]) -> None:
    found = [read(path) for path in paths]
    rows = [(index, result.network, shown(result)) for index, each in enumerate(found) for result in each.scores]
    table = pandas.DataFrame(rows, columns=["set", "network", "text"]).pivot(
        index="network", columns="set", values="text"
    )
    table = table.loc[[result.network for result in found[0].scores]].fillna("–")
    means = ["–" if each.mean_of_others is None else f"{each.mean_of_others:.1f}" for each in found]
    table.loc[f"mean without {found[0].home}"] = means
    titles = ["network", *(each.scores[0].method for each in found)]
    lines = [titles, [":--", *["--:"] * len(found)], *([name, *texts] for name, texts in table.iterrows())]
    sys.stdout.write("".join(f"| {' | '.join(line)} |\n" for line in lines))


def read(path: Path) -> Transfer:
    content = json.loads(path.read_text())
    if "made_with" not in content:  # of an earlier version, which began with the protocol's network
        content |= {"made_with": None, "protocol_network": content["scores"][0]["network"]}
    return Transfer.model_validate_json(json.dumps({key: content[key] for key in Transfer.model_fields}))


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
