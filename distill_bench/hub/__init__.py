"""Distilled sets that others released: into this project's format, and back into theirs; found, fetched, published."""

from distill_bench.hub.formats.export import EXPORTERS, export, stored_accuracies
from distill_bench.hub.formats.importing import IMPORTERS, Imported, import_release
from distill_bench.hub.formats.losses import losses, way_back
from distill_bench.hub.formats.released import CLASS_ORDERS, LABELS, LAYOUTS, Options
from distill_bench.hub.formats.unpickle import load_pickled

__all__ = [
    "CLASS_ORDERS",
    "EXPORTERS",
    "IMPORTERS",
    "LABELS",
    "LAYOUTS",
    "Imported",
    "Options",
    "export",
    "import_release",
    "load_pickled",
    "losses",
    "stored_accuracies",
    "way_back",
]
