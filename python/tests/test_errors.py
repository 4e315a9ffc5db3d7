import builtins

import keel
import pytest


def test_payload():
    with pytest.raises(ValueError) as info:
        keel.add(keel.zeros((3, 4)), keel.zeros((5, 6)))
    e = info.value
    assert isinstance(e, keel.ShapeError) and isinstance(e, keel.Error)
    assert e.code == "ShapeError" and e.op == "add" and e.args_ == (("a", "f32[3, 4]"), ("b", "f32[5, 6]")) and e.path == "" and e.hint
    assert "f32[3, 4]" in str(e) and e.message in str(e) and str(e).startswith("ShapeError in add:")


@pytest.mark.parametrize("ours, builtin", [
    (keel.ShapeError, builtins.ValueError), (keel.DTypeError, builtins.TypeError), (keel.IndexError, builtins.IndexError), (keel.ValueError, builtins.ValueError),
    (keel.DeviceError, builtins.RuntimeError), (keel.AutogradError, builtins.RuntimeError), (keel.IOError, builtins.OSError), (keel.OutOfMemory, builtins.MemoryError),
    (keel.UnsupportedError, builtins.NotImplementedError),
])
def test_classes(ours, builtin):
    assert issubclass(ours, builtin) and issubclass(ours, keel.Error)


def raised(f, kind):
    with pytest.raises(kind) as info:
        f()
    return info.value


def test_each_kind(tmp_path):
    x = keel.zeros((2, 3))
    assert raised(lambda: keel.bitwise_and(x, x), keel.DTypeError).op == "bitwise_and"
    assert raised(lambda: x[5], keel.IndexError).code == "IndexError"
    assert raised(lambda: x.sum(axis=7), keel.Error).op == "sum"
    assert raised(lambda: x.to("cuda"), keel.DeviceError)
    assert raised(lambda: keel.ones(2, requires_grad=True).backward(), keel.AutogradError)
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 64)
    assert "bad.safetensors" in str(raised(lambda: keel.load(tmp_path / "bad.safetensors"), OSError))
    assert raised(lambda: keel.zeros((2**40, 2**40)), keel.Error)
    assert raised(lambda: keel.reshape(x, (4, 4)), ValueError).op == "reshape"


def test_a_failed_call_leaves_nothing():
    x = keel.ones(3)
    before = x.version
    for _ in range(3):
        with pytest.raises(ValueError):
            x += keel.ones(4)
    assert x.version == before and keel.grad_enabled() and (x + 1).tolist() == [2, 2, 2]
