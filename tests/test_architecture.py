import subprocess
import sys
from pathlib import Path

import pytest

import privoxel

SOURCE = Path(privoxel.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))


def imported_by(statement):
    heavy = "('torch', 'ray', 'flwr', 'sklearn', 'nibabel')"
    code = f"{statement}; import sys; print(' '.join(m for m in {heavy} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout.split()


@pytest.mark.parametrize("statement", ["import privoxel", "import privoxel.cli", "import privoxel.attacks"])
def test_importing_pulls_in_no_heavy_package(statement):
    assert imported_by(statement) == []


def test_every_module_stays_below_400_lines():
    long = {path.name: n for path in MODULES if (n := len(path.read_text().splitlines())) >= 400}
    assert long == {}


def test_import_contracts_hold():
    done = subprocess.run(  # noqa: S603
        [str(Path(sys.executable).with_name("lint-imports"))],
        capture_output=True,
        text=True,
        cwd=SOURCE.parents[1],
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_public_names_are_few_and_real():
    assert len(privoxel.__all__) <= 25
    for name in privoxel.__all__:
        assert getattr(privoxel, name) is not None
