"""What the site (`make docs`) has beside docs/: README as its first page, methods, notebooks, a page of API a room."""

import os
import re
import sys
from pathlib import Path

import jupytext
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import distill_bench

sys.path.append(str(Path(__file__).parent))
from notebooks import scripts

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def written_pages() -> dict[str, Path]:
    """The pages of the repository outside docs/, by where they stand on the site."""
    return {"index.md": ROOT / "README.md", "contributing.md": ROOT / "CONTRIBUTING.md"} | method_pages()


def method_pages() -> dict[str, Path]:
    """A page a family of methods, and one of the variants that all families have."""
    families = sorted(ROOT.glob("distill_bench/methods/*/README.md"))
    variants = sorted(ROOT.glob("distill_bench/methods/*.md"))
    named = {f"methods/{path.parent.name}.md": path for path in families}
    return named | {f"methods/{path.name}": path for path in variants}


def notebook_pages() -> dict[str, str]:
    """The notebooks as pages; the scripts and notebooks themselves lie beside them."""
    return {f"notebooks/{path.stem}.md": jupytext.writes(jupytext.read(path), "md") for path in scripts()}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add what is found to the navigation."""
    assert config.nav is not None
    found = {"Notebooks": notebook_pages(), "Methods": method_pages(), "API": api_pages()}
    config.nav[2:2] = [{title: list(pages)} for title, pages in found.items() if title != "API"]
    config.nav.append({"API": list(found["API"])})
    return config


def api_pages() -> dict[str, str]:
    """A page of the public names, and one a room."""
    names = "\n".join(f"      - {name}" for name in distill_bench.__all__)
    public = (
        f"# Public names\n\n::: distill_bench\n    options:\n      show_submodules: false\n      members:\n{names}\n"
    )
    rooms = sorted(path.parent.name for path in ROOT.glob("distill_bench/*/__init__.py"))
    return {"api/index.md": public} | {f"api/{room}.md": f"# {room}\n\n::: distill_bench.{room}\n" for room in rooms}


def linked(page: File, target: str) -> Path:
    """The file of the repository that a page links to."""
    return Path(os.path.normpath(Path(page.abs_src_path or ROOT / page.src_uri).parent / target))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, and the pictures that README shows."""
    for name, path in written_pages().items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
        for target, _ in LINK.findall(path.read_text()):
            picture = linked(files.src_uris[name], target)
            if picture.suffix == ".png":
                files.append(File.generated(config, str(picture.relative_to(ROOT)), abs_src_path=str(picture)))
    for name, text in (notebook_pages() | api_pages()).items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to what the site has not lead to the repository."""
    on_site = {Path(file.abs_src_path): file.src_uri for file in files if file.abs_src_path}

    def rewritten(link: re.Match[str]) -> str:
        path, here = linked(page.file, link[1]), Path(page.file.src_uri).parent
        if path in on_site:
            return f"]({os.path.relpath(on_site[path], here)}{link[2] or ''})"
        return f"]({config.repo_url}blob/main/{path.relative_to(ROOT)}{link[2] or ''})"

    return LINK.sub(rewritten, markdown)
