"""What a missing package says, and that nothing is imported before it is used."""

import pathlib
import re
import subprocess
import sys

import pytest

PROGRAM = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hide())
import keel
import keel.numerics
{code}
"""


def run(hidden, code):
    return subprocess.run([sys.executable, "-c", PROGRAM.format(hidden=hidden, code=code)], capture_output=True, text=True)


@pytest.mark.parametrize(
    "extra, package, hidden",
    [("torch", "PyTorch", ["torch"]), ("jax", "JAX", ["jax", "jaxlib"]), ("numba", "Numba", ["numba", "llvmlite"])],
)
def test_install_hint(extra, package, hidden):
    done = run(hidden, f"try:\n    keel.numerics.{extra}\nexcept ImportError as e:\n    print(e)")
    assert done.stdout == f"keel.numerics.{extra} needs {package}: pip install 'keel-dl[{extra}]'\n", done.stderr


def test_nothing_is_imported_early():
    code = "print(keel.numerics.scalar.div(1, 2), [m for m in ('torch', 'jax', 'numba') if m in sys.modules])"
    assert run([], code).stdout == "0.5 []\n"


def test_names():
    import keel.numerics

    assert {"scalar", "numpy", "torch", "jax", "numba", "tolerances", "NeonError"} <= set(dir(keel.numerics))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        keel.numerics.nothing


def test_snippets_of_the_guide():
    pytest.importorskip("torch")
    text = (pathlib.Path(__file__).resolve().parents[2] / "docs/guide/python-numerics.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert len(blocks) >= 4
    for block in blocks:
        exec(block, {})
