"""What is trained on real data before synthesis, kept once a machine and shared by all methods that need it."""

from distill_bench.pretrained.experts import (
    ExpertRecipe,
    Experts,
    adopt_experts,
    adopted_experts,
    expert_path,
    get_or_train_experts,
    list_experts,
    outdated,
)
from distill_bench.pretrained.store import Pretrained, get_or_create, list_stored
from distill_bench.pretrained.teachers import (
    Teacher,
    TeacherRecipe,
    get_or_train_teacher,
    list_teachers,
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
    "get_or_create",
    "get_or_train_experts",
    "get_or_train_teacher",
    "list_experts",
    "list_stored",
    "list_teachers",
    "outdated",
    "teacher_path",
    "teacher_recipe",
]
