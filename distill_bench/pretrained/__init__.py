"""What is trained on real data before synthesis, kept once a machine and shared by all methods that need it."""

from distill_bench.pretrained.experts import (
    ExpertRecipe,
    Experts,
    adopt_experts,
    adopted_experts,
    expert_path,
    list_experts,
    obtain_experts,
    outdated,
)
from distill_bench.pretrained.store import Pretrained, kept, obtain
from distill_bench.pretrained.teachers import (
    Teacher,
    TeacherRecipe,
    list_teachers,
    obtain_teacher,
    teacher_path,
    teacher_recipe,
)

__all__ = [
    "ExpertRecipe",
    "Experts",
    "Pretrained",
    "Teacher",
    "TeacherRecipe",
    "adopt_experts",
    "adopted_experts",
    "expert_path",
    "kept",
    "list_experts",
    "list_teachers",
    "obtain",
    "obtain_experts",
    "obtain_teacher",
    "outdated",
    "teacher_path",
    "teacher_recipe",
]
