import gc
import weakref

import keel
import numpy as np
import pytest
import torch

DTYPES = ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "complex64", "complex128"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_shares_memory_both_ways(dtype):
    a = np.arange(6).astype(dtype).reshape(2, 3)
    t = keel.from_dlpack(a)
    assert repr(t.dtype) == {"bool": "keel.bool_"}.get(dtype, "keel." + dtype) and t.shape == (2, 3)
    b = np.asarray(t)
    assert b.dtype == a.dtype and np.shares_memory(a, b) and np.array_equal(a, b)
    c = np.from_dlpack(t)
    assert np.shares_memory(a, c) and np.array_equal(a, c)
    b[0, 0] = 1
    assert t[0, 0].item() == 1


def test_strides_travel():
    a = np.arange(24.0).reshape(2, 3, 4)
    for v in (a.T, a[:, ::-1], a[::2, 1:, ::3], a[..., None], np.broadcast_to(a[0, 0], (3, 4)), a[:0]):
        t = keel.from_dlpack(v)
        assert t.shape == v.shape and np.array_equal(np.asarray(t), v) and np.array_equal(np.from_dlpack(t), v)
        assert v.size == 0 or np.shares_memory(np.asarray(t), a)


def test_torch():
    x = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    t = keel.from_dlpack(x.T)
    t[0, 1] = 50
    assert x[1, 0] == 50
    y = torch.from_dlpack(t)
    y[2, 1] = 9
    assert t[2, 1].item() == 9 and x[1, 2] == 9
    h = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    assert keel.from_dlpack(h).dtype == keel.bfloat16 and keel.from_dlpack(h).tolist() == [1.5, -2.0]
    assert torch.equal(torch.from_dlpack(keel.from_dlpack(h)), h)


def test_ml_dtypes():
    ml = pytest.importorskip("ml_dtypes")
    for d in (ml.bfloat16, ml.float8_e4m3fn, ml.float8_e5m2):
        a = np.array([1.5, -2.0, 0.25], d)
        t = keel.from_dlpack(a)
        assert repr(t.dtype) == "keel." + np.dtype(d).name and t.float().tolist() == [1.5, -2.0, 0.25]
        b = np.asarray(t)
        assert b.dtype == a.dtype and np.shares_memory(a, b)
        assert keel.tensor(a).dtype == t.dtype


def test_readonly():
    a = np.arange(3.0)
    a.flags.writeable = False
    try:
        t = keel.from_dlpack(a)
    except BufferError:
        pytest.skip("this NumPy does not export read-only arrays")
    assert t.readonly
    with pytest.raises(keel.ValueError, match="read-only"):
        t[0] = 1
    with pytest.raises(BufferError):
        t.__dlpack__()
    assert not np.asarray(t).flags.writeable and not np.from_dlpack(t).flags.writeable
    t.clone()[0] = 1


def test_lifetimes():
    class Array(np.ndarray):
        pass

    a = np.zeros(1000).view(Array)
    gone = weakref.ref(a)
    t = keel.from_dlpack(a)
    v = t[10:]
    del a, t
    gc.collect()
    assert gone() is not None
    v[0] = 1
    n = np.asarray(v)
    del v
    gc.collect()
    assert n[0] == 1
    del n
    gc.collect()
    assert gone() is None
    unused = keel.ones(3).__dlpack__()
    del unused
    b = np.asarray(keel.ones(3))
    gc.collect()
    assert b.tolist() == [1, 1, 1]


def test_array_protocol():
    t = keel.tensor([1.0, 2.0])
    assert np.asarray(t, dtype=np.float64).dtype == np.float64 and not np.shares_memory(np.array(t), np.asarray(t)) and np.shares_memory(t.numpy(), np.asarray(t))
    with pytest.raises(ValueError):
        t.__array__(np.dtype("int8"), copy=False)
    t.requires_grad_()
    assert not np.asarray(t).flags.writeable
    with pytest.raises(BufferError):
        t.__dlpack__()
    assert np.from_dlpack(t.detach()).tolist() == [1, 2]
    assert t.__dlpack_device__() == (1, 0)
    c = torch.from_dlpack(keel.zeros(2).__dlpack__(copy=True))
    assert c.tolist() == [0, 0]
    with pytest.raises(ValueError):
        used = keel.zeros(2).__dlpack__()
        torch.from_dlpack(used)
        keel.from_dlpack(used)
    with pytest.raises(TypeError):
        keel.from_dlpack(3)
