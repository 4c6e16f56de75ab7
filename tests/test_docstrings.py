"""Docstrings are whole or plain: who lists arguments lists all of them, and what comes back."""

import ast
import re
from pathlib import Path

import distill_bench

ENTRY = re.compile(r"^    (\*{0,2}\w+(?:, \*{0,2}\w+)*):", re.MULTILINE)


def definitions():
    folder = Path(distill_bench.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                yield f"{path.relative_to(folder)}: {node.name}", node, ast.get_docstring(node) or ""


def listed(docstring, heading):
    block = re.split(r"\n(?=\S)", docstring.split(f"\n{heading}:")[1])[0]
    return [name.lstrip("*") for entry in ENTRY.finditer(block) for name in entry[1].split(", ")]


def test_a_docstring_that_lists_arguments_lists_all_and_says_what_comes_back():
    wrong, seen = [], 0
    for name, node, docstring in definitions():
        if isinstance(node, ast.ClassDef) or "\nArgs:" not in docstring:
            continue
        seen += 1
        a = node.args
        every = [*a.posonlyargs, *a.args, *filter(None, [a.vararg]), *a.kwonlyargs, *filter(None, [a.kwarg])]
        arguments = [argument.arg for argument in every if argument.arg not in ("self", "cls")]
        if sorted(listed(docstring, "Args")) != sorted(arguments):
            wrong.append(f"{name}: {sorted({*listed(docstring, 'Args')} ^ {*arguments})}")
        returned = ast.unparse(node.returns) if node.returns else "None"
        if not returned.startswith(("None", "NoReturn", "Iterator")) and "\nReturns:" not in docstring:
            wrong.append(f"{name}: no Returns")
    assert wrong == [] and seen > 80


def test_attributes_that_a_docstring_names_exist():
    wrong, seen = [], 0
    for name, node, docstring in definitions():
        if isinstance(node, ast.FunctionDef) or "\nAttributes:" not in docstring:
            continue
        seen += 1
        fields = {child.target.id for child in node.body if isinstance(child, ast.AnnAssign)}
        fields |= {target.id for child in node.body if isinstance(child, ast.Assign) for target in child.targets}
        fields |= {child.name for child in node.body if isinstance(child, ast.FunctionDef)}
        assigned = [child for child in ast.walk(node) if isinstance(child, ast.Attribute)]
        fields |= {child.attr for child in assigned if isinstance(child.ctx, ast.Store)}
        wrong += [f"{name}: {field}" for field in listed(docstring, "Attributes") if field not in fields]
    assert wrong == [] and seen > 20
