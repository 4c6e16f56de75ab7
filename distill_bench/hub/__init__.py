"""Distilled sets that others released: into this project's format, and back into theirs; found, fetched, published."""

from distill_bench.hub.convert.exporting import export, losses_in, way_back
from distill_bench.hub.convert.format import all_formats, writable_format, writable_formats
from distill_bench.hub.convert.importing import import_release
from distill_bench.hub.convert.released_file import CLASS_ORDERS, LABELS, LAYOUTS, ImportOptions
from distill_bench.hub.convert.unpickle import load_pickled
from distill_bench.hub.convert.writing import release_accuracies
