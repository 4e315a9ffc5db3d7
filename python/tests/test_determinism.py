import threading

import keel
import pytest


def test_levels_nest_and_belong_to_their_thread():
    assert keel.get_determinism() == "run"
    seen = []
    with keel.determinism("invariant") as level:
        assert keel.get_determinism() == "invariant"
        with keel.determinism("run"), level:
            assert keel.get_determinism() == "invariant"
        worker = threading.Thread(target=lambda: seen.append(keel.get_determinism()))
        worker.start()
        worker.join()
    assert seen == ["run"] and keel.get_determinism() == "run"


def test_the_default_holds_for_all_threads():
    keel.set_determinism("invariant")
    try:
        seen = []
        worker = threading.Thread(target=lambda: seen.append(keel.get_determinism()))
        worker.start()
        worker.join()
        with keel.determinism("run"):
            assert keel.get_determinism() == "run"
        assert seen == ["invariant"] and keel.get_determinism() == "invariant"
    finally:
        keel.set_determinism("run")
    with pytest.raises(ValueError, match="no level of determinism"):
        keel.set_determinism("faster")


def test_fast_is_a_level():
    with keel.determinism("fast"):
        assert keel.get_determinism() == "fast"


def test_precision_of_products():
    assert keel.get_float32_matmul_precision() == "highest"
    keel.set_float32_matmul_precision("high")
    try:
        assert keel.get_float32_matmul_precision() == "high"
    finally:
        keel.set_float32_matmul_precision("highest")
    with pytest.raises(ValueError, match="no precision of products"):
        keel.set_float32_matmul_precision("medium")
