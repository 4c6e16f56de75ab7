# %% [markdown]
# # Checking a set that somebody released
#
# A file of distilled images, and an accuracy that is claimed for it: what is in it, and does the claim hold? Nothing
# in the file is run. On one core of a CPU this takes about half a minute.

# %%
from pathlib import Path

import torch
from PIL import Image

from distill_bench import evaluate, load_dataset
from distill_bench.distilled.render import render_grid
from distill_bench.evaluation.claim import check_claim, claim_of
from distill_bench.evaluation.measures import privacy
from distill_bench.hub import import_release

# %% [markdown]
# ## The file
#
# Yours is one that you downloaded: a `res_*.pt` of DC, DSA or DM, the tensors of MTT or DATM, pictures in folders,
# NumPy arrays. Where there is none of this name, the next cell writes one in the form of the DC repository, of real
# digits.

# %%
RELEASE = Path("res_DM_digits_ConvNet_1ipc.pt")
dataset = load_dataset("digits")

if not RELEASE.exists():
    first = torch.stack([(dataset.train.labels == label).nonzero()[3, 0] for label in range(10)])
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (dataset.mean, dataset.std))
    images = (dataset.train.images(first).float() / 255 - mean) / std
    torch.save({"data": [[images, torch.arange(10)]], "accs_all_exps": {"ConvNet": [70.0, 71.0, 72.0]}}, RELEASE)

# %% [markdown]
# ## What it says
#
# The form is recognised by its content. What the file does not say and was taken for granted stands on the set's card;
# what is wanted and cannot be told, such as the pixel space, is asked for, never guessed. Training images in it are
# counted.

# %%
imported = import_release([RELEASE], dataset)
distilled = imported.sets[0]
print(f"{distilled.card.method}, {len(distilled.images)} images, {distilled.card.pixel_space.kind} pixels")
for remark in imported.remarks:
    print("-", remark)

# %%
render_grid(distilled, Path("release.png"))
Image.open("release.png").copy()

# %% [markdown]
# ## Does the claim hold?
#
# The paper's protocol is on the card; here a quicker one stands in, and the notes say so. They stand beside every
# number that is in doubt.

# %%
result = evaluate(distilled, dataset, protocol="quick-v1", networks=3)
print(f"measured {result.accuracy:.1f} ± {result.half_width:.1f} %")
for note in result.notes:
    print("note:", note)

# %%
claimed = distilled.card.origin.stored_accuracies["ConvNet"]
claim = claim_of(sum(claimed) / len(claimed), std=1.0, networks=len(claimed))
verdict = check_claim([result.accuracies], claim)
print(
    f"{verdict.outcome}: claimed {claim}, measured {verdict.measured:.1f} %, apart by {verdict.difference:+.1f} points"
)

# %% [markdown]
# ## What it tells of the training images
#
# Real pictures in a "distilled" set are at distance 0 from a training image.

# %%
found = privacy(distilled, dataset, protocol="quick-v1", networks=1)
print(f"{found.nearest.copies} of {len(distilled.images)} images are training images")
print(f"membership by loss: {found.membership.area.value:.2f}, where 0.5 tells nothing")

# %% [markdown]
# In a terminal: `distill-bench import`, `evaluate`, `verify FILE --claim 71 --std 1` and `measure FILE privacy`.
# Published sets go by their id: `distill-bench list published`.
