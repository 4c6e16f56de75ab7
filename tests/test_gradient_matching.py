"""Gradient and distribution matching: distances against loops, gradients against finite differences, all in float64."""

import dataclasses
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from distill_bench.augment import dsa
from distill_bench.networks import ConvNet, initialise
from distill_bench.progress import SILENT
from distill_bench.randomness import generator
from distill_bench.sources import Source, Split
from distill_bench.synthesizers import Checkpoint, Job
from distill_bench.synthesizers import distribution_matching as dm
from distill_bench.synthesizers import gradient_matching as gm
from distill_bench.synthesizers.job import TrainingData
from distill_bench.synthesizers.matching import MatchingFields

