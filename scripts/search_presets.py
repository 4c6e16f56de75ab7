"""The search behind the `cpu` presets: every candidate is scored on a fifth held out of the training split.

    python scripts/search_presets.py digits            # or mnist, fashion_mnist; --jobs N processes of one thread each

Writes results/presets/<dataset>.json, one entry a candidate; what is there already is not run again. No test image is
read: the source handed to synthesis and evaluation is the training split cut in two.
"""

import argparse
import itertools
import json
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch

from distill_bench import evaluate, load_dataset, synthesize
from distill_bench.runtime.files import write_atomically
from distill_bench.runtime.run_info import run_block

RESULTS = Path(__file__).parent.parent / "results" / "presets"
HOLDOUT, PROTOCOL, SEED = 0.2, "quick-v1", 0

EXPERT = {"epochs": 20, "batch_size": 64, "learning_rate": 0.05}
PLAIN = {"experts": [8], "expert": [EXPERT], "student_steps": [20], "segment_epochs": [2], "student_lr": [0.05],
         "rate_lr": [1e-5], "iterations": [200]}  # fmt: skip
FEW = PLAIN | {"segment": [[0, 5, 5]]}
MANY = PLAIN | {"segment": [[0, 10, 10]], "student_batch": [50]}
# few steps, for TESLA, whose gradient is true at one step only; late segments, whose snapshots know the labels
SHORT = PLAIN | {"student_steps": [5], "segment_epochs": [1], "rate_lr": [1e-7], "iterations": [100]}

TEACHER = {"network": "ConvNetBN", "epochs": 2, "minimum_steps": 500, "learning_rate": 0.01, "batch_size": 256,
           "augment": "dsa", "schedule": "constant"}  # fmt: skip

TOGETHER = {"labels": ["soft"], "temperature": [1.0], "teacher": [TEACHER],
            "further_teachers": [[{"network": "ConvNetD1W64BN", "epochs": 2, "minimum_steps": 500}]]}  # fmt: skip

# the evaluation's own optimiser inside
INSIDE = {"optimizer": ["sgd"], "inner_lr": [0.01], "inner_momentum": [0.9], "inner_decay": [5e-4]}
ALL = [["color", "crop", "cutout", "flip", "scale", "rotate"]]
THROUGH = INSIDE | {"total": [60], "window": [20], "real_batch": [128], "operations": ALL}
AT_1 = THROUGH | {"init": ["k-means"], "iterations": [120]}
AT_10 = THROUGH | {"init": ["k-center"], "iterations": [55], "image_lr": [0.01], "images_per_class": [5]}
NARROW = AT_1 | {"network": ["ConvNetW32"], "image_lr": [0.05], "total": [100], "iterations": [100]}
NARROW_10 = NARROW | {"init": ["k-center"], "images_per_class": [5], "total": [200], "window": [40], "iterations": [25],
                      "image_lr": [0.005]}  # fmt: skip
ADAM = {name: values for name, values in NARROW.items() if name not in INSIDE} | {"optimizer": ["adam"]}
LONG = {"image_lr": [0.005], "total": [200], "window": [40], "iterations": [25]}
# the preset with one thing otherwise: its start alone, several losses, windows elsewhere, Adam inside
OTHERWISE = [
    {"iterations": [1], "image_lr": [1e-9]}, {"losses": [3]}, {"window_from": ["end"]},
    {"window_from": ["staged"], "window_spread": [5]},
    {"optimizer": ["adam"], "inner_lr": [0.001], "inner_momentum": [0.0], "inner_decay": [0.0]},
]  # fmt: skip
TAUGHT = {"temperature": [1.0], "teacher": [TEACHER]}
# 30 epochs of recorded views, of crops of 0.08 of the image or more, or of half
RECORDS = [{"epochs": 30}, {"epochs": 30, "views": {"scale": [0.5, 1.0]}}]
REFINED = TAUGHT | {"scale": [[0.5, 1.0]], "iterations": [200], "record": RECORDS[1:]}

PLAIN_EXPERT = EXPERT | {"momentum": 0.0, "weight_decay": 0.0, "decay_after": 0}  # mtt's, whatever the recipe's are
MATCHED = {"formation": [1], "experts": [8], "expert": [PLAIN_EXPERT], "frequencies": [256], "real_batch": [64],
           "iterations": [300]}  # fmt: skip

SMOOTH_EXPERT = EXPERT | {"learning_rate": 0.015, "momentum": 0.9, "weight_decay": 1e-3, "decay_after": 12,
                          "ramp_epochs": 4, "penalty_norm": "image"}  # fmt: skip
SMOOTH = PLAIN | {"expert": [SMOOTH_EXPERT], "student_lr": [0.005], "rate_lr": [1e-6], "init": ["representative"],
                  "image_lr": [10.0, 30.0]}  # fmt: skip
WITHOUT_WAVES = {name: values for name, values in MATCHED.items() if name != "frequencies"}

# of a teacher that others share, the projector's fields as the preset has them
LIGHT = {"encoder": "teacher", "head": "prototypes", "rank": 4, "head_rank": 4, "convolutions": 5, "snapshots": 4,
         "steps": 150, "network": "ConvNetW32", "expert": {"epochs": 3, "batch_size": 256, "learning_rate": 0.05,
                                                           "momentum": 0.9}}  # fmt: skip

GRIDS = {
    "digits": [
        ("ncfm", (1, 10), MATCHED | {"image_lr": [0.006, 0.02, 0.06]}),
        ("ncfm", (1, 10), MATCHED | {"image_lr": [0.02], "calibration": [0.0]}),
        ("ncfm", (1, 10), WITHOUT_WAVES | {"image_lr": [0.02], "distance": ["mean"]}),
        ("ncfm", (1,), MATCHED | {"image_lr": [0.02], "frequency_net": [True]}),
        ("ncfm", (1,), MATCHED | {"image_lr": [0.02], "amplitude": [0.8]}),
        ("ncfm", (1,), MATCHED | {"image_lr": [0.02], "mixture": ["random"]}),
        ("infer", (2, 10), TOGETHER | {"iterations": [200], "jitter": [1], "image_lr": [0.05, 0.25],
                                       "bn_weight": [0.1, 1.0]}),
        # four of rat-bptt without `operations` ran before its recipe had the field, with all six
        ("rat-bptt", (10,), AT_10 | {"label_lr": [0.01]}),
        ("rat-bptt", (1,), AT_1 | {"image_lr": [0.02], "rate_lr": [0.02]}),
        ("rat-bptt", (10,), AT_10 | LONG),
        ("rat-bptt", (1,), AT_1 | {"image_lr": [0.02], "total": [40], "window": [40], "iterations": [70]}),
        *(("rat-bptt", (1,), AT_1 | {"image_lr": [0.05]} | fields) for fields in OTHERWISE),
        *(("rat-bptt", (10,), AT_10 | LONG | fields) for fields in OTHERWISE),
        ("datm", (1,), FEW | {"image_lr": [10.0], "label_lr": [1.0]}),
        ("tesla", (1,), FEW | {"image_lr": [20.0]}),
        ("ftd", (1,), FEW | {"image_lr": [10.0], "ema_decay": [0.97]}),
        ("mtt", (1,), FEW | {"image_lr": [30.0, 3.0, 10.0]}),
        ("mtt", (10,), MANY | {"image_lr": [10.0]}),
        ("tesla", (10,), MANY | {"image_lr": [20.0]}),
        ("datm", (10,), MANY | {"segment": [[0, 5, 10]], "segment_growth": [100], "image_lr": [10.0],
                                "label_lr": [1.0]}),
        ("ftd", (10,), MANY | {"image_lr": [10.0], "ema_decay": [0.97]}),
        ("datm", (1,), FEW | {"image_lr": [30.0], "label_lr": [1.0]}),
        ("tesla", (1,), FEW | {"image_lr": [60.0]}),
        ("tesla", (1,), FEW | {"image_lr": [5.0], "segment": [[3, 5, 5]]}),
        ("tesla", (10,), MANY | {"image_lr": [2.0], "segment": [[10, 18, 18]], "student_lr": [0.02],
                                 "iterations": [200, 40]}),
        ("tesla", (1,), FEW | {"segment": [[0, 1, 1]], "segment_epochs": [3, 6], "student_steps": [10],
                               "image_lr": [5.0, 20.0]}),
        ("tesla", (10,), MANY | {"segment": [[0, 1, 1]], "segment_epochs": [3], "student_steps": [10],
                                 "image_lr": [5.0]}),
        ("tesla", (1,), SHORT | {"segment": [[4, 15, 15]], "image_lr": [5.0, 20.0]}),
        ("tesla", (10,), SHORT | {"segment": [[8, 15, 15]], "student_batch": [50], "image_lr": [2.0, 5.0]}),
        ("ftd", (1,), FEW | {"image_lr": [30.0], "ema_decay": [0.97]}),
        ("mtt", (10,), MANY | {"image_lr": [30.0]}),
        ("dm", (1, 10), {"iterations": [100, 300], "image_lr": [1.0, 10.0], "real_batch": [32, 128]}),
        ("dsa", (1,), {"iterations": [200], "image_lr": [0.1, 1.0], "real_batch": [32]}),
        ("dsa", (10,), {"iterations": [15], "outer_loop": [10], "inner_loop": [10], "image_lr": [0.1, 1.0],
                        "real_batch": [32]}),
        ("dc", (1,), {"iterations": [200], "init": ["noise", "real"], "image_lr": [0.1, 1.0], "real_batch": [32]}),
        ("dc", (10,), {"iterations": [15], "outer_loop": [10], "inner_loop": [10], "init": ["noise", "real"],
                       "image_lr": [0.1, 1.0], "real_batch": [32]}),
        ("dsa", (10,), {"iterations": [10], "outer_loop": [5], "inner_loop": [5], "image_lr": [0.1, 1.0],
                        "real_batch": [32]}),
        ("dc", (10,), {"iterations": [10], "outer_loop": [5], "inner_loop": [5], "image_lr": [0.1, 1.0],
                       "real_batch": [32]}),
        ("datadam", (1, 10), {"iterations": [300], "image_lr": [0.1, 1.0, 10.0], "real_batch": [32]}),
        ("random-soft", (1,), {"labels": ["soft"], "temperature": [1.0, 4.0], "teacher": [TEACHER]}),
        ("rded", (1,), {"labels": ["soft"], "temperature": [1.0], "teacher": [TEACHER],
                        "scale": [[0.08, 1.0], [0.5, 1.0]]}),
        ("sre2l", (1,), {"labels": ["soft"], "temperature": [1.0], "teacher": [TEACHER], "iterations": [500],
                         "jitter": [0], "image_lr": [0.1], "bn_weight": [0.01, 0.1], "least_scale": [0.08, 0.5]}),
        *((method, (10,), {"labels": ["soft"], "temperature": [1.0], "teacher": [TEACHER], "iterations": [500],
                           "jitter": [0], "image_lr": [0.1], "bn_weight": [0.01, 0.1], "least_scale": [0.5]})
          for method in ("sre2l", "cda")),
        ("cda", (1,), {"labels": ["soft"], "temperature": [1.0], "teacher": [TEACHER], "iterations": [500],
                       "jitter": [0], "image_lr": [0.1], "bn_weight": [0.01, 0.1], "least_scale": [0.08, 0.5]}),
        ("sre2l", (1, 10), {"labels": ["soft"], "temperature": [1.0], "teacher": [TEACHER], "iterations": [500],
                            "jitter": [0], "image_lr": [0.1], "bn_weight": [0.01, 0.1], "crop": [False]}),
        ("random-top2", (1, 10), TAUGHT | {"record": RECORDS}),
        ("random-distances", (1, 10), TAUGHT | {"record": RECORDS, "distance_weight": [0.1, 1.0]}),
        ("nrr-dd", (1, 10), REFINED | {"threshold": [0.3, 0.5, 0.7]}),
        ("nrr-dd", (1, 10), REFINED | {"record": RECORDS[:1]}),
        ("ast", (1,), SMOOTH | {"segment": [[0, 5, 5]]}),
        ("ast", (10,), SMOOTH | {"segment": [[0, 10, 10]], "student_batch": [50]}),
        ("nrr-dd-distances", (1, 10), REFINED | {"distance_weight": [0.1, 1.0]}),
    ],
    "mnist": [
        ("rat-bptt", (1,), NARROW),
        ("rat-bptt", (1,), NARROW | {"iterations": [300]}),
        ("rat-bptt", (1,), NARROW | {"rate_lr": [0.02]}),
        ("rat-bptt", (1,), NARROW | {"inner_lr": [0.03]}),
        ("rat-bptt", (1,), ADAM | {"inner_lr": [0.001, 0.003]}),
        ("rat-bptt", (1,), ADAM | {"inner_lr": [0.001], "formation": [2]}),
        ("rat-bptt", (1,), NARROW | {"total": [200], "window": [40]}),
        ("rat-bptt", (1,), NARROW | {"init": ["real"]}),
        ("rat-bptt", (1,), NARROW | {"image_lr": [0.02, 0.1]}),
        ("rat-bptt", (1,), NARROW | {"formation": [2]}),
        ("rat-bptt", (1,), NARROW | {"formation": [2], "iterations": [1], "image_lr": [1e-9]}),  # the start alone
        ("rat-bptt", (10,), NARROW_10 | {"formation": [2], "images_per_class": [10], "init": ["k-means", "k-center"]}),
        ("rat-bptt", (10,), NARROW_10 | {"init": ["k-means", "k-center"]}),
        ("dm", (1,), {"iterations": [100], "image_lr": [1.0, 10.0], "real_batch": [32]}),
        ("dsa", (1,), {"iterations": [60], "image_lr": [0.1, 1.0], "real_batch": [32]}),
    ],
    "fashion_mnist": [
        ("random-projector", (1,), TAUGHT | {"projector": [LIGHT, LIGHT | {"centred": True}]}),
        ("datadam", (1,), {"iterations": [100], "image_lr": [0.1, 1.0], "real_batch": [32]}),
    ],
}  # fmt: skip


def candidates(dataset: str) -> list[tuple[str, int, dict]]:
    """Every (method, IPC, fields) of a dataset's grids."""
    return [
        (method, ipc, dict(zip(grid, values, strict=True)))
        for method, ipcs, grid in GRIDS[dataset]
        for ipc in ipcs
        for values in itertools.product(*grid.values())
    ]


def try_candidate(dataset: str, method: str, ipc: int, fields: dict, networks: int) -> dict:
    """Make a set with the fields and score it on the held-out fifth."""
    torch.set_num_threads(1)
    source = load_dataset(dataset, holdout=HOLDOUT)
    began = time.monotonic()
    made = synthesize(source, method, ipc, seed=SEED, **fields)
    seconds = time.monotonic() - began
    result = evaluate(made, source, PROTOCOL, networks=networks)
    return {
        "method": method,
        "ipc": ipc,
        "fields": fields,
        "holdout_accuracy": result.accuracy,
        "accuracies": result.accuracies,
        "synthesis_seconds": round(seconds, 1),
        "run": run_block(time.monotonic() - began),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=GRIDS)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--networks", type=int, default=3)
    parser.add_argument("--most", type=int, help="try only so many of the candidates that are left")
    arguments = parser.parse_args()
    path = RESULTS / f"{arguments.dataset}.json"
    entries = json.loads(path.read_text())["candidates"] if path.exists() else []
    tried = [(entry["method"], entry["ipc"], entry["fields"]) for entry in entries]
    todo = [candidate for candidate in candidates(arguments.dataset) if candidate not in tried]
    todo = todo[: arguments.most]
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(try_candidate, arguments.dataset, *each, arguments.networks) for each in todo]
        for future in as_completed(futures):
            entries.append(future.result())
            entries.sort(key=lambda entry: (entry["method"], entry["ipc"], json.dumps(entry["fields"])))
            found = {"kind": "preset-search", "dataset": arguments.dataset, "holdout": HOLDOUT, "protocol": PROTOCOL}
            write_atomically(path, json.dumps({**found, "seed": SEED, "candidates": entries}, indent=1) + "\n")


if __name__ == "__main__":
    main()
