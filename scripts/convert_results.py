"""Turn results of a JSON file each, as they were before there was one ``Result``, into JSON lines, a file a suite.

    python scripts/convert_results.py results

Accuracies are taken over as they are. What the old files said by their names or not at all becomes a field: whether an
evaluation was strict, and where the released sets of results/published came from. The old files are deleted.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

from distill_bench.benchmark.results import as_lines
from distill_bench.evaluation import Result
from distill_bench.hub.registry.registry import load_registry
from distill_bench.runtime.files import write_atomically


def converted(old: dict, path: Path) -> Result:
    """The result that an old file holds."""
    new = {key: value for key, value in old.items() if key in Result.model_fields} | {"kind": "score"}
    new["strict"] = path.stem.endswith(".hard")
    if old["kind"] == "published":
        form = load_registry()[old["release"]].importer
        sets = max(1, len(list(path.parent.glob(f"{old['release']}-[0-9].*.json"))))
        origin = {"form": form, "files": old["files"], "set_index": old["set_index"], "sets": sets}
        new |= {"suite": "published", "origin": origin}
    return Result.model_validate_json(json.dumps(new))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    folder = parser.parse_args().results
    suites = defaultdict(dict)
    for path in sorted(folder.rglob("*.json")):
        old = json.loads(path.read_text())
        if isinstance(old, dict) and old.get("kind") in ("score", "published"):
            result = converted(old, path)
            suites[result.suite][path] = result
    for suite, results in suites.items():
        write_atomically(folder / f"{suite}.jsonl", as_lines(results.values()))
        for path in results:
            path.unlink()


if __name__ == "__main__":
    main()
