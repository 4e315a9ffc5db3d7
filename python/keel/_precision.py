"""What values look like in bits, and what casts to narrower floats would do to them."""
import json as _json

from . import _keel


class PrecisionReport:
    """Counts of one tensor: `elements`, `zeros`, `nans`, `infinities`, `nonzero` (finite values that are not zero); the shares `zero` and
    `nonfinite` of all values, `subnormal` and `near_max` of `nonzero`; `amax`, `min_nonzero`; `exponents` (0.1 %, 50 %, 99.9 %);
    `histogram` from `first_exponent` on; `targets`. `print(report)` shows it."""

    def __init__(self, json: str, text: str):
        self._json, self._text = json, text
        self.__dict__.update(_json.loads(json))

    def target(self, dtype, *, scaled: bool = False, blocks: bool = False) -> dict:
        """What a cast to f16, bf16, f32, f8e4m3fn or f8e5m2 does: a dict with the shares `overflow`, `flushed` and `subnormal`, and `fits`.
        `scaled`: after a multiplication by the largest power of two that keeps amax in range; `blocks`: as MX, a scale for 32 neighbours."""
        name = _SHORT.get(_name(dtype), _name(dtype))
        found = [t for t in self.targets if t["dtype"] == name and t["blocks"] == blocks]
        if not found:
            raise _keel_error(f"no forecast of a cast to {name}{' in blocks' if blocks else ''}; there are {sorted({t['dtype'] for t in self.targets})}")
        return found[-1] if scaled else found[0]

    def json(self) -> str:
        return self._json

    def __repr__(self) -> str:
        return self._text.rstrip("\n")


class PrecisionProfile:
    """Counts of everything that a step made: `entries` (dicts with path, op, output, kind, calls, report), `advice`, `policy`, `loss_scale`.
    `print(profile)` shows a table, `svg` and `html` hold pictures."""

    def __init__(self, json: str, text: str, svg: str, html: str):
        self._json, self._text, self.svg, self.html = json, text, svg, html
        self.__dict__.update(_json.loads(json))

    def json(self) -> str:
        return self._json

    def __repr__(self) -> str:
        return self._text.rstrip("\n")


_SHORT = {"float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64", "float8_e4m3fn": "f8e4m3fn", "float8_e5m2": "f8e5m2"}


def _name(dtype) -> str:
    return dtype if isinstance(dtype, str) else repr(dtype).removeprefix("keel.").removesuffix("_")


def _keel_error(message: str):
    from ._errors import ValueError

    return ValueError(message)


def analyze_precision(x: _keel.Tensor, *, round_up: bool = False) -> PrecisionReport:
    """What is in a floating tensor, and what casts to narrower floats would do to it; exact counts, one pass. DTypeError for other dtypes.
    `round_up`: MX scales that let no value overflow, instead of OCP's rule."""
    return PrecisionReport(*_keel._analyze_precision(x, round_up))


def precision_profile(step, *, low="bfloat16", round_up: bool = False) -> PrecisionProfile:
    """Runs `step()`, a full training step, and counts what every op made, forward and backward, by op. `low`: what the policy lowers to."""
    return PrecisionProfile(*_keel._precision_profile(step, low, round_up))
