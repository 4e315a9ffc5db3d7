"""lint(f) from Python: the rules of the recording, with modules and numbers as they are there."""
import keel
import pytest


def test_what_is_wrong_is_said_and_the_program_runs():
    x, made = keel.randn((4, 8)), []
    found = keel.lint(lambda: made.append(keel.log(keel.softmax(x))))
    assert made[0].shape == (4, 8)
    (f,) = found
    assert (f.severity, f.rule, f.op, f.path, f.phase, f.count) == ("warning", "log of softmax", "log", "", "forward", 1)
    assert f.suggestion.kind == "stable_op" and "log_softmax" in f.suggestion.text
    assert str(f).startswith("warning: log of softmax at log: log of softmax: where logits differ") and "to do: log_softmax" in str(f)
    assert keel.lint(lambda: keel.log_softmax(x)) == []


def test_numbers_and_notes():
    half = keel.randn((4, 8)).to(keel.float16)
    (f,) = keel.lint(lambda: half + 1e-9)
    assert f.rule == "epsilon" and f.value == 1e-9 and f.suggestion.kind == "epsilon" and f.suggestion.value > 0
    x = keel.randn((4, 8), requires_grad=True)
    (f,) = keel.lint(lambda: keel.sqrt(keel.sum(x * x, axis=1)))
    assert (f.severity, f.rule) == ("info", "norm by hand")


def test_errors_come_through_and_nothing_is_left_behind():
    x = keel.randn((4, 8))

    def broken():
        keel.log(keel.softmax(x))
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        keel.lint(broken)
    with pytest.raises(keel.UnsupportedError):
        keel.lint(lambda: keel.lint(lambda: keel.exp(x)))
    assert len(keel.lint(lambda: keel.log(keel.softmax(x)))) == 1
