"""One board a dataset: what several suites say of one set, and which rows of studies stand on the page."""

from result_files import score

from distill_bench.benchmark.leaderboard.merged import Source, merged_rows, without_studies


def rows_of(*results):
    return merged_rows([Source("checkout", results)])


def test_a_set_that_two_suites_measured_differently_is_one_row_with_the_datasets_own_accuracies():
    """As random images of seed 2 on digits, of which one network came out differently in a study."""
    seeds = [score("random", seed=seed) for seed in (0, 1)]
    own = score("random", seed=2, accuracies=(70.0, 71.0), suite="digits")
    other = score("random", seed=2, accuracies=(70.0, 68.0), suite="difficulty")
    further = score("random", seed=2, accuracies=(70.0, 69.0), suite="compensators")
    (row,) = rows_of(*seeds, other, further, own)
    assert (row["preset"], row["seeds"], row["accuracies"]["2"]) == ("cpu", 3, [70.0, 71.0])
    assert row["suites"] == ["digits", "compensators", "difficulty"]
    notes = [note for result in row["results"] for note in result.notes]
    assert notes == [
        "measured otherwise in the suite compensators: 69.50 % (70.00, 69.00)",
        "measured otherwise in the suite difficulty: 69.00 % (70.00, 68.00)",
    ]


def test_where_no_suite_is_the_datasets_own_one_that_is_no_study_goes_first():
    study = score("dm", suite="difficulty", accuracies=(60.0, 61.0))
    (row,) = rows_of(study, score("dm", suite="ncfm", accuracies=(70.0, 71.0)))
    assert (row["accuracy"], row["suites"]) == (70.5, ["ncfm", "difficulty"])


def test_more_networks_of_a_set_go_on_where_fewer_ended():
    """As those that `evaluate --networks 20` adds to a suite's three, whichever suite they are of."""
    for suites in (("digits", "ncfm"), ("ncfm", "digits"), ("digits", None)):
        few, many = (
            score(accuracies=(88.0, 89.0), suite=suites[0]),
            score(accuracies=(88.0, 89.0, 80.0), suite=suites[1]),
        )
        (row,) = rows_of(few, many)
        assert (row["accuracies"]["0"], row["networks"], row["results"][0].notes) == ([88.0, 89.0, 80.0], 3, ())


def test_random_images_of_studies_alone_are_no_rows_of_the_page():
    rows = rows_of(
        score("random"), score("random", ipc=50, suite="difficulty"), score("dm", ipc=50, suite="difficulty")
    )
    assert [(row["method"], row["ipc"]) for row in without_studies(rows)] == [("random", 1), ("dm", 50)]
    alone = rows_of(score("random", suite="difficulty"), score("dm", suite="difficulty"))
    assert without_studies(alone) == alone
