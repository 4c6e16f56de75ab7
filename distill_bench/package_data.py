"""Where suites and published accuracies lie: inside an installed wheel, or in the checkout."""

from pathlib import Path


def package_data(relative: str) -> Path:
    """The path of a shipped file or folder, such as ``"baselines/published.csv"`` or ``"benchmarks/suites"``.

    A wheel carries them under ``distill_bench/data/``; a checkout has them beside the package. The path is not
    checked to exist in the second case: whoever reads it says what is missing.
    """
    package = Path(__file__).parent
    packaged = package / "data" / relative
    return packaged if packaged.exists() else package.parent / relative
