"""What is trained on real data before synthesis, kept once a machine and shared by all methods that need it."""

from distill_bench.pretrained.store import Pretrained, kept, obtain
from distill_bench.pretrained.teachers import Teacher, TeacherRecipe, list_teachers, obtain_teacher, teacher_recipe

__all__ = [
    "Pretrained",
    "Teacher",
    "TeacherRecipe",
    "kept",
    "list_teachers",
    "obtain",
    "obtain_teacher",
    "teacher_recipe",
]
