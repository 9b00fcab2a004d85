"""The shape of the code: directions of imports, heavy libraries in their places, layout."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "configs": set(),
    "mixing": {"configs"},
    "checkpoints": {"configs"},
    "evals": {"configs"},
    "pretrain": {"configs", "mixing", "checkpoints", "evals"},
    "alloy": {"configs", "mixing", "checkpoints", "evals", "pretrain"},
}
HEAVY = {"torch", "deepspeed", "transformers"}
ONLY_IN = {
    "deepspeed": {"pretrain/engine.py"},
    "lm_eval": {"evals/lm_eval_tasks.py"},
    "gigatoken": {"mixing/tokenizer.py"},
}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Top-level names that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_follow_the_arrows(package: str) -> None:
    paths = files(package)
    assert paths
    for path in paths:
        first_party = {n.split(".")[0] for n in imports(path)} & set(MAY_IMPORT)
        strangers = first_party - MAY_IMPORT[package] - {package}
        assert not strangers, f"{path.relative_to(ROOT)} imports {strangers}"


def test_no_first_party_import_inside_a_function() -> None:
    for package in MAY_IMPORT:
        for path in files(package):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                for inner in ast.walk(node):
                    if isinstance(inner, ast.ImportFrom):
                        assert inner.module, path
                        assert inner.module.split(".")[0] not in MAY_IMPORT, path


def test_heavy_libraries_stay_in_their_files() -> None:
    for package in MAY_IMPORT:
        for path in files(package):
            name = path.relative_to(ROOT).as_posix()
            for library in {n.split(".")[0] for n in imports(path)} & set(ONLY_IN):
                assert name in ONLY_IN[library], f"{name} imports {library}"


def test_mixing_and_configs_import_no_training_library() -> None:
    for package in ("mixing", "configs"):
        for path in files(package):
            assert not {n.split(".")[0] for n in imports(path)} & HEAVY, path


def test_modules_do_not_import_in_a_circle() -> None:
    modules = {
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path
        for package in MAY_IMPORT
        for path in files(package)
    }
    graph = {name: imports(path) & set(modules) for name, path in modules.items()}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above, name))
        if name not in done:
            for next_name in graph[name]:
                visit(next_name, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize(
    "module", ["alloy.cli", "alloy.commands.plan", "alloy.commands.build", "alloy.report.write"]
)
def test_light_verbs_do_not_load_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit(any(m in sys.modules for m in {sorted(HEAVY)}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_package_says_what_each_file_is_for() -> None:
    for package in MAY_IMPORT:
        opening = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text())) or ""
        for path in (ROOT / package).glob("*.py"):
            if path.name != "__init__.py":
                assert path.name in opening, f"{package}/__init__.py does not name {path.name}"


def test_source_folders_are_not_ignored_by_git() -> None:
    for package in MAY_IMPORT:
        path = f"{package}/new_file.py"
        ignored = subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False)
        assert ignored.returncode == 1, path
