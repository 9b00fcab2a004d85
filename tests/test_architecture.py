"""The shape of the code: directions of imports, doors, heavy libraries in their places, layout."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib

import pytest
from places import ROOT
from rooms import (
    MARK,
    MAY_IMPORT,
    PACKAGES,
    drawn,
    exported,
    first_party,
    imports,
    is_open,
    is_package,
    modules,
    parsed,
    room_graph,
    room_of,
    storeys,
)

HEAVY = {"torch", "deepspeed", "transformers"}
ONLY_IN = {
    "deepspeed": {"pretrain/engine/engine.py"},
    "lm_eval": {"evals/tasks/lm_eval_tasks.py"},
    "gigatoken": {"mixing/tokens/tokenizer.py"},
}
MOST_MODULES = 14
MOST_STOREYS = 8
# Verbs are loaded by name, so that the room of the command line has no public ones.
ROOMS = sorted(
    room
    for room in room_graph()
    if is_package(room) and not is_open(room) and room != "alloy.commands"
)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_follow_the_arrows(package: str) -> None:
    paths = modules(package)
    assert paths
    for path in paths:
        strangers = {module.split(".")[0] for module, _ in first_party(path)}
        strangers -= MAY_IMPORT[package] | {package}
        assert not strangers, f"{path.relative_to(ROOT)} imports {strangers}"


def test_rooms_are_entered_by_their_doors() -> None:
    seen = 0
    for package in PACKAGES:
        for path in modules(package):
            where, room = path.relative_to(ROOT), room_of(path)
            for module, name in first_party(path):
                door = room_of(ROOT / f"{module.replace('.', '/')}.py")
                if is_package(module):
                    door = module
                if door == room:
                    continue
                assert module == door, f"{where} imports {module}, which is inside of {door}"
                if name is not None and exported(door):
                    assert name in exported(door), f"{where} imports {name}: not public in {door}"
                    seen += 1
    assert seen > 500


@pytest.mark.parametrize("room", ROOMS)
def test_a_door_names_what_is_there_and_used(room: str) -> None:
    """Each public name exists, is asked for by another room, and is not a module's name too."""
    door = importlib.import_module(room)
    names = exported(room)
    assert names == set(door.__all__)
    for name in names:
        assert getattr(door, name) is not None
    files = {path.stem for path in (ROOT / room.replace(".", "/")).glob("*.py")}
    assert not names & files
    used = set(exported("alloy")) if room == "alloy.verbs" else set()  # whose door hands them on
    for package in PACKAGES:
        for path in modules(package):
            if room_of(path) == room:
                continue
            entered = [(m, n) for m, n in first_party(path) if m == room]
            used |= {name for _, name in entered if name is not None}
            if (room, None) in entered:  # used as `room.name`
                last = room.split(".")[-1]
                used |= {
                    node.attr
                    for node in ast.walk(parsed(path))
                    if isinstance(node, ast.Attribute)
                    and isinstance(node.value, ast.Name)
                    and node.value.id == last
                }
    assert names <= used, f"{room}: nothing else uses {sorted(names - used)}"


def test_no_first_party_import_inside_a_function() -> None:
    for package in PACKAGES:
        for path in modules(package):
            for node in ast.walk(parsed(path)):
                if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                for inner in ast.walk(node):
                    if isinstance(inner, ast.ImportFrom):
                        assert inner.module, path
                        assert inner.module.split(".")[0] not in PACKAGES, path


def test_modules_are_loaded_by_name_in_one_place() -> None:
    """The verbs of the command line; anywhere else it would hide an arrow."""
    found = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in modules(package)
        if "import_module" in path.read_text(encoding="utf-8")
    }
    assert found == {"alloy/cli.py", "evals/tasks/lm_eval_tasks.py"}


def test_heavy_libraries_stay_in_their_files() -> None:
    for package in PACKAGES:
        for path in modules(package):
            name = path.relative_to(ROOT).as_posix()
            for library in {n.split(".")[0] for n, _ in imports(path)} & set(ONLY_IN):
                assert name in ONLY_IN[library], f"{name} imports {library}"


def test_mixing_and_configs_import_no_training_library() -> None:
    for package in ("mixing", "configs"):
        for path in modules(package):
            assert not {n.split(".")[0] for n, _ in imports(path)} & HEAVY, path


def test_neither_rooms_nor_modules_import_in_a_circle() -> None:
    storeys(room_graph())
    graph: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in modules(package):
            name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
            graph[name] = {module for module, _ in first_party(path)}
    storeys(graph)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_few_storeys(package: str) -> None:
    graph = {
        room: {other for other in below if other.split(".")[0] == package}
        for room, below in room_graph().items()
        if room.split(".")[0] == package
    }
    assert max(storeys(graph).values()) <= MOST_STOREYS, storeys(graph)


def test_no_package_is_crowded() -> None:
    for package in PACKAGES:
        for folder in {path.parent for path in modules(package)}:
            files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
            assert len(files) <= MOST_MODULES, f"{folder.relative_to(ROOT)}: {len(files)} modules"


@pytest.mark.parametrize(
    "module",
    ["alloy", "alloy.cli", "alloy.commands.plan", "alloy.commands.build", "alloy.commands.report"],
)
def test_light_verbs_do_not_load_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit(any(m in sys.modules for m in {sorted(HEAVY)}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_package_says_what_each_file_and_room_is_for() -> None:
    for package in PACKAGES:
        for folder in sorted({path.parent for path in modules(package)}):
            opening = ast.get_docstring(parsed(folder / "__init__.py")) or ""
            if folder.name == "commands":
                continue
            inside = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
            inside += [path.parent for path in folder.glob("*/__init__.py")]
            for path in inside:
                name = f"{path.name}/" if path.is_dir() else path.name
                where = folder.relative_to(ROOT)
                assert f"\n{name} " in opening, f"{where}/__init__.py does not name {name}"
            assert "─▶" in opening, f"{folder.relative_to(ROOT)}/__init__.py draws no arrow"


def test_source_folders_are_not_ignored_by_git() -> None:
    folders = {path.parent for package in PACKAGES for path in modules(package)}
    folders |= {path.parent for path in (ROOT / "tests").rglob("*.py")}
    for folder in sorted(folders):
        path = f"{folder.relative_to(ROOT)}/new_file.py"
        ignored = subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False)
        assert ignored.returncode == 1, path


def test_the_page_draws_the_rooms_as_they_are() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert page.partition(MARK)[2].strip() == drawn().strip(), "run: python tests/helpers/rooms.py"


def test_every_file_that_the_page_names_is_there() -> None:
    """Paths in full, and names alone that follow one of their folder in the same paragraph."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition(MARK)[0]
    named = 0
    for paragraph in page.replace("\n|", "\n\n|").split("\n\n"):
        if "__init__" in paragraph:  # of any room
            continue
        folders = [ROOT]
        for name in re.findall(r"`([\w./]+(?:\.pyi?|/))`", paragraph):
            found = [folder / name for folder in folders if (folder / name).exists()]
            assert found, f"docs/architecture.md names {name}, which is not there"
            folders += [found[0] if found[0].is_dir() else found[0].parent]
            named += 1
    assert named > 50


def test_a_wheel_holds_every_package() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    there = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        for path in modules(package)
    }
    assert set(options["tool"]["setuptools"]["packages"]) == there
