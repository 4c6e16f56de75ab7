# %% [markdown]
# # Your own photographs, as a tiny set
#
# A folder of pictures becomes a set of one synthetic image per class, and you see how much of it a network needs. On
# one core of a CPU this takes about a minute.

# %%
from pathlib import Path

from PIL import Image, ImageDraw

from distill_bench import evaluate, load_dataset, load_distilled, synthesize
from distill_bench.distilled.render import render_grid

# %% [markdown]
# ## The pictures
#
# A folder `train/<class>/*` and a folder `test/<class>/*`, in any format that Pillow reads. Put the name of yours
# here. Where there is none of that name, the next cell draws some: discs and squares of many colours.

# %%
PHOTOS = Path("photos")


def drawn(shape: str, number: int) -> Image.Image:
    """A disc or a square, somewhere, of some colour."""
    picture = Image.new("RGB", (48, 40), (number * 37 % 90, number * 71 % 90, number * 13 % 90))
    left, top, side = number * 5 % 16, number * 3 % 12, 14 + number * 7 % 12
    box = (left, top, left + side, top + side)
    colour = (120 + number * 41 % 130, 120 + number * 29 % 130, 120 + number * 17 % 130)
    pen = ImageDraw.Draw(picture)
    (pen.ellipse if shape == "disc" else pen.rectangle)(box, fill=colour)
    return picture


if not PHOTOS.exists():
    for shape in ("disc", "square"):
        for split, numbers in (("train", range(30)), ("test", range(30, 50))):
            folder = PHOTOS / split / shape
            folder.mkdir(parents=True)
            for number in numbers:
                drawn(shape, number).save(folder / f"{number}.png")

# %% [markdown]
# `size` resizes and crops, which pictures of different sizes need. Pictures are turned as their EXIF data say and
# transparency is laid on white; files that are no pictures are counted and named. Without a test folder, give
# `holdout=0.2` as well. For letters or traffic signs, say `flip_invariant=False`.

# %%
dataset = load_dataset(f"folder:{PHOTOS}", size=16)
print(f"{len(dataset.train)} training and {len(dataset.test)} test images of {', '.join(dataset.class_names)}")

# %% [markdown]
# ## One image per class
#
# By distribution matching (`dm`). The preset `cpu` is a scaled-down recipe; without it the paper's runs, for hours.
# `random` stands beside it: what does one real picture per class do?

# %%
distilled = synthesize(dataset, "dm", ipc=1, preset="cpu", iterations=100, network="ConvNetD2W32")
real = synthesize(dataset, "random", ipc=1)

# %% [markdown]
# The set is one file, with a card that says how it was made. It can be sent to somebody who then needs no photographs
# to train with.

# %%
distilled.save("photos.safetensors")
render_grid(distilled, Path("photos.png"))
Image.open("photos.png").copy()

# %% [markdown]
# ## What a network learns from it
#
# Freshly initialised networks are trained on the set alone and tested on the test pictures. Network number k is the
# same for both sets. `±` is half of the 95 % interval; there is none with a single network.

# %%
results = {
    name: evaluate(images, dataset, protocol="quick-v1", network="ConvNetD2W32", networks=3)
    for name, images in (("dm", load_distilled("photos.safetensors")), ("random", real))
}
for name, result in results.items():
    print(f"{name}: {result.accuracy:.1f} ± {result.half_width or 0:.1f} %")

# %% [markdown]
# From here: more images per class (`ipc=10`), other methods (`distill-bench list methods`), or all of it at once and
# in a table: `distill-bench bench own --dataset folder:photos --size 16`.
