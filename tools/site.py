"""The documentation as a site: ``make site`` writes build/site/html, of the pages as they are and of API pages from
docstrings.

Pages are laid out under build/site/pages as in the checkout, so that their links hold; a link or an anchor that does
not is an error.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "site"
#: What pages link to.
COPIED = ("README.md", "docs/**/*", "fpga/*/*", "hwgen/models/*/README.md", "findings/*")
PACKAGES = ("params", "golden", "models", "plan", "host", "emit", "lib", "units", "top", "fpga")
_ROW = re.compile(r"^\| \[([^]]+)\]\(([\w.-]+\.md)\)", re.MULTILINE)


def stage(folder):
    """Lay the pages out, and write those of the API. Returns the packages' pages."""
    for pattern in COPIED:
        for path in filter(Path.is_file, ROOT.glob(pattern)):
            to = folder / path.relative_to(ROOT)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, to)
    pages = []
    for package in PACKAGES:
        modules = sorted(path.relative_to(ROOT).with_suffix("").parts
                         for path in (ROOT / "hwgen" / package).rglob("*.py")
                         if not path.stem.startswith("_"))
        page = folder / "api" / f"{package}.md"
        page.parent.mkdir(exist_ok=True)
        page.write_text(f"# hwgen.{package}\n\n" + "\n".join(f"::: {'.'.join(module)}\n" for module in modules))
        pages.append({f"hwgen.{package}": f"api/{page.name}"})
    return pages


def navigation(api):
    """Pages in the order of docs/README.md."""
    first, blocks = ((ROOT / "docs" / "README.md").read_text(encoding="utf-8")).split("\n## Blocks", 1)
    listed = [[{title.removesuffix(".md"): f"docs/{page}"} for title, page in _ROW.findall(text)]
              for text in (first, blocks)]
    boards = [{path.parent.name: str(path.relative_to(ROOT))} for path in sorted(ROOT.glob("fpga/*/README.md"))]
    return [{"hwgen": "README.md"}, {"Pages": [{"All": "docs/README.md"}, *listed[0]]}, {"Blocks": listed[1]},
            {"Boards": boards},
            {"API": api}]


def config(api):
    """mkdocs.yml, as JSON, which is YAML."""
    return {
        "site_name": "hwgen", "docs_dir": "pages", "site_dir": "html", "use_directory_urls": False,
        "nav": navigation(api),
        "theme": {"name": "material", "font": False,
                  "features": ["navigation.indexes", "search.highlight", "content.code.copy"],
                  "palette": [{"media": "(prefers-color-scheme)"},
                              {"media": "(prefers-color-scheme: dark)", "scheme": "slate"}]},
        "plugins": ["search", {"mkdocstrings": {"handlers": {"python": {"paths": [str(ROOT)], "options": {
            "docstring_style": "numpy", "docstring_options": {"warnings": False, "warn_unknown_params": False},
            "show_root_heading": True,
            "show_source": False, "heading_level": 2, "members_order": "source"}}}}}],
        "markdown_extensions": ["tables", "fenced_code", "sane_lists", {"toc": {"permalink": True}}],
        "validation": {"nav": {"omitted_files": "ignore", "not_found": "warn"},
                       "links": {"not_found": "warn", "anchors": "warn", "absolute_links": "warn",
                                 "unrecognized_links": "ignore"}}}


def main():
    shutil.rmtree(BUILD, ignore_errors=True)
    (BUILD / "pages").mkdir(parents=True)
    (BUILD / "mkdocs.yml").write_text(json.dumps(config(stage(BUILD / "pages")), indent=1), encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "-f", str(BUILD / "mkdocs.yml")],
                          check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    # "[n][rows]" of a docstring is a shape, and no reference: mkdocs itself would be strict about that too.
    wrong = [line for line in done.stdout.splitlines() if line.startswith(("WARNING", "ERROR"))
             and "mkdocs_autorefs" not in line]
    if done.returncode or wrong:
        print("\n".join(wrong) if wrong else done.stdout, file=sys.stderr)
        return 1
    print((BUILD / "html" / "index.html").relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
