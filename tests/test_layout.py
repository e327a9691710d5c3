"""The shape of the code: which way imports point, who owns a dependency, what importing costs."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import python

ROOT = Path(__file__).parents[1]
PACKAGES = ("recon", "pack", "train")  # each may import itself and those before it
ARROWS = {  # a folder, and the folders that its files may import; only folders above it in this table
    "recon/launcher": "",
    "recon/base": "recon/launcher",
    "recon/place": "recon/base",
    "recon/image/formats": "",
    "recon/kernels": "",
    "recon/jpeg": "recon/image/formats recon/kernels",
    "recon/image": "recon/base recon/image/formats recon/jpeg",
    "recon/models/files": "recon/base",
    "recon/models": "recon/base recon/models/files recon/place",
    "recon": "recon/base recon/image recon/models recon/place",
    "recon/fit": "recon recon/base recon/image recon/models",
    "pack/storage": "recon/base",
    "pack/base": "pack/storage recon/base recon/models",
    "pack/shard/listed": "recon/base",
    "pack/shard": "pack/base pack/shard/listed pack/storage recon/base recon/image recon/jpeg",
    "pack/sources": "pack/base pack/shard pack/storage recon recon/base recon/image",
    "pack/plan": "pack/base pack/shard pack/sources recon/base recon/image recon/place",
    "pack/pipeline": "pack/base pack/shard recon recon/base recon/image recon/models",
    "pack/card": "pack/shard pack/storage recon/base recon/image",
    "pack/publish": (
        "pack/base pack/card pack/pipeline pack/plan pack/shard pack/sources pack/storage recon/base "
        "recon/image recon/models"
    ),
    "pack/dataset": "pack/shard pack/storage recon/base",
    "pack/adopt": (
        "pack/base pack/card pack/dataset pack/shard pack/storage recon/base recon/image recon/place"
    ),
    "pack/inspect": "pack/base pack/dataset pack/shard recon/base recon/image recon/place",
    "pack/inspect/audit/traces": "recon/image",
    "pack/inspect/audit/measured": (
        "pack/dataset pack/inspect/audit/traces pack/shard recon/base recon/image"
    ),
    "pack/inspect/audit/judge": "pack/inspect/audit/measured recon/image",
    "pack/inspect/audit/networks": (
        "pack/base pack/dataset pack/inspect/audit/judge pack/inspect/audit/measured pack/sources recon/base "
        "recon/image"
    ),
    "pack/inspect/audit": (
        "pack/base pack/card pack/dataset pack/inspect/audit/judge pack/inspect/audit/measured "
        "pack/inspect/audit/networks pack/shard pack/storage recon/base recon/place"
    ),
    "pack": (
        "pack/adopt pack/base pack/inspect pack/inspect/audit pack/plan pack/publish recon/base "
        "recon/launcher"
    ),
    "train/order": "recon/base",
    "train/chains": "recon/base recon/image",
    "train/draws": "recon/base train/chains train/order",
    "train/stream": "pack/dataset train/draws train/order",
    "train/ops/cpu": "recon/image recon/kernels",
    "train/ops": "recon/image train/ops/cpu train/draws",
    "train/degrade": "recon/base recon/image train/chains train/draws train/ops train/ops/cpu",
    "train/window": (
        "pack/dataset pack/shard recon/base recon/image recon/jpeg recon/kernels train/chains train/degrade "
        "train/draws train/ops train/stream"
    ),
    "train/augment": ("recon/base recon/image train/ops/cpu train/draws train/ops train/order train/window"),
    "train/loader": (
        "pack/dataset pack/shard pack/storage recon/base recon/image train/augment "
        "train/draws train/ops train/order train/stream train/window"
    ),
    "train/model": "pack/storage recon/base train/ops/cpu",
    "train/model/published": "pack/storage recon/base train/model",
    "train/evaluation/figures": "pack/base pack/storage recon/base recon/place",
    "train/evaluation/inputs": (
        "pack/base pack/dataset pack/shard pack/sources recon recon/base recon/image train/evaluation/figures"
    ),
    "train/evaluation/work": "pack/storage recon/base train/evaluation/inputs",
    "train/evaluation": (
        "pack/base pack/storage recon/base recon/image train/evaluation/figures train/evaluation/inputs "
        "train/evaluation/work train/model train/model/published train/window"
    ),
    "train/reports/inputs": (
        "pack/storage recon/base recon/image train/evaluation train/evaluation/figures "
        "train/evaluation/inputs"
    ),
    "train/reports": (
        "pack/base recon/base recon/place train/evaluation train/evaluation/figures train/reports/inputs"
    ),
    "train/evaluation/robust": (
        "pack/base pack/storage recon/base recon/image train/chains train/degrade train/evaluation "
        "train/evaluation/figures train/evaluation/inputs train/evaluation/work train/order"
    ),
    "train/detector": (
        "pack/base pack/shard pack/storage recon recon/base recon/image recon/place train/evaluation "
        "train/evaluation/figures train/evaluation/inputs train/model train/model/published"
    ),
    "train/output": "pack/storage recon/base",
    "train/world": "recon/base recon/place",
    "train/optim": "recon/base train/evaluation train/model",
    "train/loop": (
        "pack/dataset pack/storage recon/base train/augment train/draws train/evaluation "
        "train/loader train/model train/model/published train/optim train/order train/output train/world"
    ),
    "train/simulate": (
        "pack/dataset pack/shard pack/shard/listed pack/storage recon/base train/loader train/order "
        "train/stream"
    ),
    "train/bench": (
        "pack/base pack/dataset pack/shard recon/base recon/image train/augment train/draws train/model "
        "train/stream train/window"
    ),
    "train": (
        "recon/base recon/launcher train/detector train/draws train/evaluation train/evaluation/figures "
        "train/evaluation/robust train/evaluation/work train/loader train/loop train/model train/reports "
        "train/world"
    ),
}
FORBIDDEN = {"launch", "tests", "configs", "conftest"}
OWNERS = {  # a dependency, and the files or folders that alone may import it
    "sklearn": (
        "pack/inspect/audit/judge/probe.py",
        "train/reports/plots.py",
    ),  # takes 1 s that no training needs
    "fsspec": ("pack/storage/",),
    "boto3": ("pack/storage/",),
    "botocore": ("pack/storage/",),
    "PIL": ("recon/image/", "train/augment/oracle.py"),
    "pillow_heif": ("recon/image/formats/",),
    "pillow_jxl": ("recon/image/formats/",),
    "simplejpeg": ("recon/jpeg/turbo.py",),
    "diffusers": ("recon/models/", "recon/fit/"),
    "kornia": ("train/augment/",),
    "ray": ("pack/publish/ray_engine.py",),
}
MAX_FILE, MAX_FUNCTION = 300, 60  # lines
MAX_FILES = 12  # a folder
HEAVY = (
    *("torch", "torchvision", "diffusers", "sklearn", "pyarrow", "webdataset", "matplotlib"),
    *("timm", "peft"),
)
COMMANDS = (
    "pack",
    "pack.audit",
    "pack.finish",
    "pack.verify",
    "pack.index",
    "pack.info",
    "pack.preview",
    "pack.status",
    "pack.upgrade",
    "recon",
    "recon.fit",
    "train",
    "train.bench",
    "train.calibrate",
    "train.compare",
    "train.evaluate",
    "train.export",
    "train.report",
    "train.robustness",
    "train.score",
    "train.simulate",
)

FILES = sorted(
    path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py")
)


def parsed(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text("utf-8"), file)


def imports(file: str) -> Iterator[str]:
    """Names of all modules that a file imports, inside functions too."""
    return imports_of(parsed(file))


def imports_of(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            assert node.module
            yield node.module
        elif isinstance(node, ast.Call) and _is_import_call(node) and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value)


def _is_import_call(node: ast.Call) -> bool:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name in ("import_module", "__import__") and bool(node.args)


def wrong_arrows(file: str, modules: Iterator[str]) -> list[str]:
    allowed = PACKAGES[: PACKAGES.index(file.split("/")[0]) + 1]
    tops = {module.split(".")[0] for module in modules}
    return sorted(tops & (FORBIDDEN | set(PACKAGES)) - set(allowed))


@pytest.mark.parametrize("file", FILES)
def test_imports_point_from_train_to_pack_to_recon_only(file: str) -> None:
    assert wrong_arrows(file, imports(file)) == []


def folder_arrows() -> dict[str, set[str]]:
    """The folders that the files of each folder import."""
    files = {file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): file for file in FILES}
    arrows: dict[str, set[str]] = {}
    for file in FILES:
        found = {_folder(files[module]) for module in imported_files(file) if module in files}
        arrows.setdefault(_folder(file), set()).update(found - {_folder(file)})
    return arrows


def _folder(file: str) -> str:
    return file.rpartition("/")[0]


def imported_files(file: str) -> Iterator[str]:
    """Modules that a file imports; of ``from package import module`` the module."""
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                is_module = (ROOT / f"{inside.replace('.', '/')}.py").exists()
                is_package = (ROOT / inside.replace(".", "/") / "__init__.py").exists()
                yield inside if is_module or is_package else node.module


def test_folders_import_as_the_table_says_and_the_table_has_no_arrow_too_many() -> None:
    assert {folder: " ".join(sorted(found)) for folder, found in folder_arrows().items()} == {
        folder: " ".join(sorted(allowed.split())) for folder, allowed in ARROWS.items()
    }


def test_the_table_of_arrows_has_no_circle() -> None:
    above: set[str] = set()
    for folder, allowed in ARROWS.items():
        assert set(allowed.split()) <= above, folder
        above.add(folder)


@pytest.mark.parametrize("folder", sorted(ARROWS))
def test_no_folder_holds_more_than_twelve_files(folder: str) -> None:
    assert len([file for file in FILES if _folder(file) == folder]) <= MAX_FILES


@pytest.mark.parametrize("file", FILES)
def test_each_dependency_has_one_owner(file: str) -> None:
    for module in imports(file):
        owners = OWNERS.get(module.split(".")[0])
        assert owners is None or file.startswith(owners), f"{module} belongs to {', '.join(owners)}"


def test_wrong_arrows_are_seen_wherever_they_hide() -> None:
    source = "def f():\n    if 1:\n        from train.loop.run import main\n        import_module('launch')\n"
    modules = list(imports_of(ast.parse(source)))
    assert sorted(modules) == ["launch", "train.loop.run"]
    assert wrong_arrows("pack/x.py", iter(modules)) == ["launch", "train"]
    assert wrong_arrows("train/x.py", iter(["pack.shard.schema", "recon", "train.loop.run", "torch"])) == []


@pytest.mark.parametrize("file", FILES)
def test_files_and_functions_stay_short(file: str) -> None:
    assert len((ROOT / file).read_text("utf-8").splitlines()) <= MAX_FILE
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno
            assert node.end_lineno - node.lineno < MAX_FUNCTION, node.name


def test_every_module_says_what_it_is_for() -> None:
    assert [file for file in FILES if not ast.get_docstring(parsed(file))] == []


def test_no_module_is_called_utils() -> None:
    assert [file for file in FILES if Path(file).stem in ("utils", "util", "helpers", "common", "misc")] == []


def test_extras_are_installed_from_the_clone_in_quotes_and_are_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    told = 0
    for file in (*FILES, "README.md"):
        text = (ROOT / file).read_text("utf-8")
        # The project is in no registry, and zsh takes bare brackets for a pattern.
        assert "pairstream[" not in text, file
        for names in re.findall(r"-e '\.\[([a-z0-9,]+)\]'", text):
            assert set(names.split(",")) <= set(extras), file
            told += 1
    assert told > 5


def test_help_of_every_command_answers_without_a_heavy_import() -> None:
    script = (
        "import contextlib, io, runpy, sys\n"
        "heavy, *commands = sys.argv[1:]\n"
        "for command in commands:\n"
        "    sys.argv, text = [command, '--help'], io.StringIO()\n"
        "    try:\n"
        "        with contextlib.redirect_stdout(text):\n"
        "            runpy.run_module(command, run_name='__main__')\n"
        "    except SystemExit as end: assert not end.code, (command, end.code)\n"
        "    else: raise AssertionError(command + ' went on after --help')\n"
        "    assert 'usage: ' in text.getvalue(), command\n"
        "    assert f'python -m {command} ' in ' '.join(text.getvalue().split()), command\n"
        "    found = [name for name in heavy.split(',') if name in sys.modules]\n"
        "    assert not found, (command, found)\n"
    )
    result = python(script, ",".join(HEAVY), *COMMANDS)
    assert result.returncode == 0, result.stderr


def test_importing_the_packages_imports_nothing_heavy() -> None:
    script = (
        "import sys, recon, pack, train, pack.shard.manifest\n"
        "found = [name for name in (*sys.argv[1].split(','), 'numpy', 'PIL') if name in sys.modules]\n"
        "assert not found, found\n"
    )
    result = python(script, ",".join(HEAVY))
    assert result.returncode == 0, result.stderr
