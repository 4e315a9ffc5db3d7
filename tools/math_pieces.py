#!/usr/bin/env python3
"""Prints src/backend/cpu/loops/math_pieces.h: polynomials of 16 pieces for f32 activations (python3 tools/math_pieces.py > ...; a minute).

A piece is a polynomial in t = u - centre. Coefficients are rounded to f32 from the lowest on, and those that follow are fitted again to
what is left; a centre is a float near the middle at which the function is nearly a float itself. Fits are least squares at Chebyshev
points, their weights turned towards the largest error. The largest error of every piece stands beside it, in units of 2^-24.
"""
import mpmath as mp
import numpy as np

mp.mp.dps = 40
POINTS = 60


def fit(f, weight, centre, lo, hi, degree, fixed):
    """Coefficients of the powers that `fixed` leaves open, near the minimax."""
    us = [(lo + hi) / 2 + (hi - lo) / 2 * mp.cos(mp.pi * (k + mp.mpf(1) / 2) / POINTS) for k in range(POINTS)]
    h = max(abs(hi - centre), abs(lo - centre))
    a, b = [], []
    for u in us:
        t, v = u - centre, f(u)
        w = weight(u, v)
        a.append([float(w * (t / h) ** k) for k in range(len(fixed), degree + 1)])
        b.append(float(w * (v - sum(c * t**k for k, c in enumerate(fixed)))))
    a, b, emphasis, best = np.array(a), np.array(b), np.ones(POINTS), None
    for _ in range(40):
        s = np.sqrt(emphasis)
        x = np.linalg.lstsq(a * s[:, None], b * s, rcond=None)[0]
        error = np.abs(a @ x - b)
        if best is None or error.max() < best[0]:
            best = error.max(), x
        emphasis = emphasis * (error + 1e-30)
        emphasis /= emphasis.mean()
    return [mp.mpf(float(c)) / h ** (k + len(fixed)) for k, c in enumerate(best[1])]


def near_float(f, middle, width):
    def miss(c):
        v = f(mp.mpf(float(c)))
        return abs(mp.mpf(float(np.float32(float(v)))) - v) / abs(v)

    return min((np.float32(float(middle + width * k / 8000)) for k in range(-400, 401)), key=miss)


def row(values):
    text = [float(v).hex().split("p") for v in values]
    text = [m.rstrip("0").rstrip(".") + "p" + e + "f" for m, e in text]
    return "{" + ",\n     ".join(", ".join(text[k : k + 6]) for k in range(0, 16, 6)) + "}"


def pieces(name, about, f, edges, degree, start, index, weight=lambda u, v: 1 / abs(v), last_slope=1):
    """`start`: the first coefficients of the first piece, whose centre is 0; `last_slope`: a factor for that of the last piece."""
    centres, rows, errors = [], [], []
    for lo, hi in zip(edges, edges[1:]):
        centre = mp.mpf(0) if lo == 0 else mp.mpf(float(near_float(f, (lo + hi) / 2, hi - lo)))
        fixed = [mp.mpf(c) for c in start] if lo == 0 else [mp.mpf(float(np.float32(float(f(centre)))))]
        while len(fixed) <= degree:
            fixed.append(mp.mpf(float(np.float32(float(fit(f, weight, centre, lo, hi, degree, fixed)[0])))))
        if hi == edges[-1]:
            fixed[1] = mp.mpf(float(np.float32(float(fixed[1] * last_slope))))
        error = 0
        for k in range(1, 201):
            u = lo + (hi - lo) * k / 200
            error = max(error, abs(sum(c * (u - centre) ** j for j, c in enumerate(fixed)) - f(u)) * weight(u, f(u)))
        centres.append(centre), rows.append(fixed), errors.append(float(error) * 2**24)

    print(f"\n/// {about}\n/// Errors: {', '.join('%.2f' % e for e in errors)}.")
    print(f"alignas(64) inline constexpr Pieces<{degree}> {name} = {{")
    print("    " + ", ".join(repr(float(np.float32(float(v)))) + "f" for v in index) + ",")
    print("    " + row(centres) + ",")
    print("    {" + ",\n     ".join(row(r[k] for r in rows) for k in range(degree + 1)) + "}};")


def quadratic(reach, bend):
    """Edges of pieces round(k u (u + bend)), and what gives them: reach, k, k bend."""
    reach, bend = mp.mpf(reach), mp.mpf(bend)
    k = mp.mpf("15.49") / (reach * (reach + bend))
    edges = [(-bend + mp.sqrt(bend * bend + 4 * y / k)) / 2 for y in (mp.mpf(i) - mp.mpf(1) / 2 for i in range(1, 16))]
    return [mp.mpf(0), *edges, reach], (reach, k, k * bend)


def uniform(reach):
    reach = mp.mpf(reach)
    k = mp.mpf("15.49") / reach
    return [mp.mpf(0), *((mp.mpf(i) - mp.mpf(1) / 2) / k for i in range(1, 16)), reach], (reach, k, 0)


def phi(u):
    return mp.exp(-u * u / 2) / mp.sqrt(2 * mp.pi)


def cdf(u):
    return mp.erfc(u / mp.sqrt(2)) / 2


def logistic(u):
    return 1 / (1 + mp.exp(u))


BETA, KAPPA = mp.sqrt(2 / mp.pi), mp.mpf("0.044715")


def bent(u):
    return logistic(2 * BETA * (u + KAPPA * u**3))


def bent_slope(u):
    s = bent(u)
    return s - u * 2 * BETA * (1 + 3 * KAPPA * u * u) * s * (1 - s)


def slope_weight(u, v):
    """Relative, but for where the slope passes 0."""
    return 1 / (max(abs(v), 0.1) if u < 1.5 else abs(v))


print(
    """#pragma once
// Made by tools/math_pieces.py: polynomials of 16 pieces for f32, the same for every instruction set. Errors are those of the exact
// polynomials, piece by piece, in units of 2^-24, relative but where said.

namespace keel::cpu {

/// c[k][i] is coefficient k of piece i in t = u - centre[i]; good for 0 <= u <= reach. Its function says how `scale` and `shift` find i.
template <int degree>
struct Pieces {
  float reach, scale, shift;
  alignas(64) float centre[16];
  alignas(64) float c[degree + 1][16];
};

// clang-format off"""
)
edges, index = quadratic("5.3", "3")
pieces("kNormalTail", "Phi(-u), the tail of the normal distribution.", cdf, edges, 6, ["0.5"], index)
edges, index = quadratic("5.5", "3")
pieces("kNormalSlope", "Phi(-u) - u phi(u); below 1.5 the error is of 0.1 where that is more.", lambda u: cdf(u) - u * phi(u), edges, 6,
       ["0.5"], index, slope_weight)
edges, index = quadratic("4.8", "3")
pieces("kBentTail", "1 / (1 + exp(2 b (u + k u^3))), b and k as in gelu_tanh.", bent, edges, 6, ["0.5"], index)
edges, index = quadratic("5", "3")
pieces("kBentSlope", "The derivative of x / (1 + exp(-2 b (x + k x^3))) at -u; below 1.5 as above.", bent_slope, edges, 6,
       ["0.5"], index, slope_weight)
edges, index = uniform("9")
pieces("kLogisticTail", "1 / (1 + exp(u)).", logistic, edges, 5, ["0.5"], index)
# Indices are the exponent's two low bits and the mantissa's two high ones of 2 + 30 u / top, in [2, 32).
top = mp.mpf("9.02")
edges = [top * (mp.mpf(2) ** (i // 4) * (1 + mp.mpf(i % 4) / 4) - 1) / 15 for i in range(17)]
# A steeper last slope, so that f32 arithmetic gives 1 at `top`, and with it beyond.
pieces("kTanh", "tanh(u), 1 from `reach` on.", mp.tanh, edges, 5, ["0", "1"], (top, (1 - mp.mpf(2) ** -20) * 30 / top, 2), last_slope=mp.mpf("1.06"))

# e^r = table (1 + p(r - shift)): with this shift, of 16 million, every number of the table is within 0.19 units of a float.
shift, half = mp.mpf("0.00626055"), mp.log(2) / 32 * mp.mpf("1.0001")
table = [mp.mpf(float(np.float32(float(mp.mpf(2) ** (mp.mpf(i) / 16) * mp.exp(shift))))) for i in range(16)]
first = mp.mpf(float(np.float32(float(mp.expm1(-shift)))))
terms = [first]
while len(terms) < 4:
    terms.append(mp.mpf(float(np.float32(float(fit(lambda r: mp.expm1(r - shift), lambda r, v: 1, mp.mpf(0), -half, half, 3, terms)[0])))))
print("\n/// 2^(i / 16) e^s with s = 0.00626055, and coefficients of e^(r - s) - 1 for |r| <= ln(2) / 32.")
print("alignas(64) inline constexpr float kExpTable[16] =\n    " + row(table) + ";")
print("inline constexpr float kExpTerms[4] = {" + row(terms + [mp.mpf(0)] * 12)[1:].split(", 0x0p")[0] + "};")

# u Phi(-u) = phi(u) (1 - p(1 / u^2)) from where kNormalTail ends to where f32 does; p also holds what f32 leaves of 1 / sqrt(2 pi).
lo, hi, root = 1 / mp.mpf("14.7") ** 2, 1 / mp.mpf("5.29") ** 2, mp.mpf(float(np.float32(float(phi(mp.mpf(0))))))
terms = []


def share(s):
    return 1 - cdf(1 / mp.sqrt(s)) * mp.exp(1 / s / 2) / mp.sqrt(s) / root


while len(terms) < 6:
    terms.append(mp.mpf(float(np.float32(float(fit(share, lambda s, v: 1, mp.mpf(0), lo, hi, 5, terms)[0])))))
print("\n/// 1 - sqrt(2 pi) u Phi(-u) e^(u^2 / 2) as a polynomial in 1 / u^2 for u from 5.29 to 14.7, the root rounded to f32.")
print("inline constexpr float kFarNormal[6] = {" + row(terms + [mp.mpf(0)] * 10)[1:].split(",\n")[0] + "};")
print("// clang-format on\n\n}  // namespace keel::cpu")
