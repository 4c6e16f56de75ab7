"""The line that says what was read of data of one's own, and how far reading is."""

import io
import re
from contextlib import contextmanager

from folders import images_folder

from distill_bench import load_dataset
from distill_bench.runtime import reading
from distill_bench.runtime.progress import StreamMonitor


def messy(root):
    images_folder(root)
    (root / "train/list.txt").write_text("x")
    (root / "train/cat/a.heic").write_text("x")
    (root / "train/dog/b.mp4").write_text("x")


def test_a_command_says_images_classes_and_what_was_skipped_and_why(command, tmp_path):
    messy(tmp_path / "photos")
    data = f"folder:{tmp_path / 'photos'}"
    request = ["synthesize", "random", "--dataset", data, "--ipc", "1", "--out", tmp_path / "x.safetensors"]
    code, _, said = command(*request)
    reasons = "1 in no class folder, 2 no pictures of a kind read here"
    line = f"training split: 12 images, 2 classes, 3 files skipped ({reasons})"
    assert code == 0 and said.count(f"{data}, {line}\n") == 1
    code, _, said = command(*request, "--quiet")
    assert code == 0 and "training split:" not in said
    load_dataset(data).train  # noqa: B018
    assert command("info", tmp_path / "x.safetensors")[2] == ""  # nobody hears of it any more


def test_every_picture_is_a_step_and_named_data_is_not_counted(tmp_path):
    images_folder(tmp_path / "photos")
    steps, stream = [], io.StringIO()

    class Counting(StreamMonitor):
        @contextmanager
        def stage(self, title, total, done=0):
            with super().stage(title, total, done) as stage:
                steps.append([title, total, 0])
                advance = stage.advance

                def counted(number=1):
                    steps[-1][2] += number
                    advance(number)

                stage.advance = counted
                yield stage

    with reading.reported_to(Counting(stream)):
        assert reading.is_heard()
        data = load_dataset(f"folder:{tmp_path / 'photos'}")
        assert len(data.train) + len(data.test) == 24
        load_dataset("digits").train  # noqa: B018
    assert not reading.is_heard()
    assert [(re.sub(r".*, ", "", title), total, done) for title, total, done in steps] == [
        ("training split", 12, 12), ("test split", 12, 12),
    ]  # fmt: skip
    assert stream.getvalue().count("12 images, 2 classes, 0 files skipped\n") == 2
