"""The stubs that are written from the rows: they parse, name every op, and a typed program passes a type checker."""
import ast
import os
import subprocess
import sys

import keel
import pytest

FOLDER = os.path.dirname(keel.__file__)

PROGRAM = '''
import keel
import numpy as np


def attend(x: keel.Tensor, scale: float = 2.0) -> keel.Tensor:
    y = keel.softmax(x @ x.T * scale, axis=-1)
    values, indices = keel.topk(y, 2)
    first, *_ = keel.split(y, 1)
    pieces: tuple[keel.Tensor, ...] = keel.chunk(y, 2)
    a: np.ndarray = np.asarray(y)
    try:
        keel.matmul(values, pieces[0])
    except keel.ShapeError as e:
        print(e.hint, a.shape, indices[:, ::-1], first)
    with keel.no_grad():
        return 1 - y[None, ..., 0].reshape([-1]).to(keel.f64)


attend(keel.randn(4, 4, dtype=keel.f32))
keel.sum(keel.conv2d(keel.ones([1, 1, 4, 4]), keel.ones([1, 1, 3, 3]), stride=2)).backward(retain_graph=True)
'''


def test_stubs_parse_and_name_every_op():
    with open(os.path.join(FOLDER, "_keel.pyi"), encoding="utf-8") as f:
        tree = ast.parse(f.read())
    names = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    assert {op["name"] for op in keel.registry()} <= names
    assert os.path.exists(os.path.join(FOLDER, "py.typed"))


def test_a_typed_program_passes_mypy(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "program.py").write_text(PROGRAM)
    r = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), "program.py"], cwd=tmp_path, capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr
