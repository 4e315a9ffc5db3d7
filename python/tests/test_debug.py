import keel
import pytest


def test_debug_mode_raises_and_leaves_no_trace():
    a, b = keel.tensor([1.0, 2.0]), keel.tensor([1.0, 0.0])
    quiet = (a / b).tolist()
    assert quiet == [1.0, float("inf")] and not keel.is_debug_mode()
    with keel.numerics.debug_mode():
        assert keel.is_debug_mode()
        with pytest.raises(keel.NumericalError, match="div gave 1 infinities of 2 values from finite inputs"):
            a / b
        with pytest.raises(keel.NumericalError, match="div_safe replaced values: 1 of 2"):
            keel.div_safe(a, b, otherwise=0.0)
        with keel.debug_mode(False):
            assert keel.div_safe(a, b, otherwise=0.0).tolist() == [1.0, 0.0]
        assert (a / 2.0).tolist() == [0.5, 1.0]
    assert not keel.is_debug_mode() and (a / b).tolist() == quiet
    keel.numerics.set_debug_mode(True)
    assert keel.is_debug_mode()
    keel.numerics.set_debug_mode(False)
