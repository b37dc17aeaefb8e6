"""Functions and draws that give the same bits on every x86-64 processor, library and number of threads.

Exponentials, logarithms and powers of NumPy and the C library differ in their last bits between instruction sets and
versions, as do matrix products between BLAS kernels. A random draw that is compared with such a number sometimes gives
another outcome, and then another log. IEEE 754 fixes the results of +, -, *, / and the square root, and NumPy computes
each of them separately, never fused. So everything here uses only these operations, in a fixed order, on integers and
on uniform draws, which are integers too.

From generators, only integer-based methods are used: `random`, `permutation`.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Real, Shaped

BLOCK = 16_384
"""Numbers per block, so that they and intermediate results stay in the processor's cache."""
MIN_DRAW = 2.0**-54
"""Half the distance between uniform draws; replaces 0, whose logarithm is infinite."""
LOG2_E = 1.4426950408889634
_LIMITS = {np.float32: (-87.0, 88.0), np.float64: (-708.0, 709.0)}
# ln 2 in two parts, the first with so few digits that its product with an exponent is exact (Cody and Waite 1980).
_LN2 = {
    np.float32: (0.693359375, -2.12194440e-4),
    np.float64: (6.93147180369123816490e-01, 1.90821492927058770002e-10),
}
# (exp(r) - 1 - r) / r^2 for |r| <= ln 2 / 2: the Cephes library's polynomial, and Taylor's to the 13th power.
_EXP = {
    np.float32: (
        1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1,
    ),
    np.float64: (
        1 / 6227020800, 1 / 479001600, 1 / 39916800, 1 / 3628800, 1 / 362880, 1 / 40320,
        1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2,
    ),
}  # fmt: skip
_BITS = {np.float32: (np.int32, 127, 23), np.float64: (np.int64, 1023, 52)}
_SIN = tuple(
    sign / factorial
    for sign, factorial in (
        (1, 51090942171709440000), (-1, 121645100408832000), (1, 355687428096000), (-1, 1307674368000),
        (1, 6227020800), (-1, 39916800), (1, 362880), (-1, 5040), (1, 120), (-1, 6), (1, 1),
    )
)  # fmt: skip
# The normal distribution's quantiles to 1e-16: algorithm AS 241, PPND16 (Wichura 1988). Numerator, then denominator.
_QUANTILE_CENTRE = (
    (
        2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
        1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0,
    ),
    (
        5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
        5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0,
    ),
)  # fmt: skip
_QUANTILE_SIDES = (
    (
        7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
        3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0,
    ),
    (
        1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
        6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0,
    ),
)  # fmt: skip
_QUANTILE_TAILS = (
    (
        2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
        2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0,
    ),
    (
        2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
        1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0,
    ),
)  # fmt: skip


def exp(x: Real[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The exponential of each number, to about one unit in the last place.

    Numerics: results beyond the normal range are clipped to about its largest or smallest number.

    Args:
        x: The exponents; float32 gives float32, all other types float64.

    Returns:
        The powers.
    """
    return _by_block(x, _exp_block)


def sigmoid(logits: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The logistic function, in the precision of `exp`."""

    def fill(block: Float[np.ndarray, " block"], out: Float[np.ndarray, " block"], dtype: type) -> None:
        _exp_block(np.negative(block), out, dtype)
        out += dtype(1)
        np.divide(dtype(1), out, out=out)

    return _by_block(logits, fill)


def log(x: Real[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The natural logarithm of each number, to about one unit in the last place; minus infinity for 0.

    Args:
        x: Numbers of 0 or more; float32 gives float32, all other types float64.

    Returns:
        The logarithms.
    """
    given = np.asarray(x)
    numbers = np.atleast_1d(given)
    fraction, exponent = np.frexp(numbers.astype(np.float64))
    small = fraction < 0.7071067811865476
    fraction = np.where(small, 2 * fraction, fraction)
    exponent = (exponent - small).astype(np.float64)
    # log((1 + s) / (1 - s)) = 2 s (1 + s^2 / 3 + s^4 / 5 + ...), with s^2 below 0.03.
    s = (fraction - 1) / (fraction + 1)
    series = _polynomial(s * s, [1 / odd for odd in range(23, 0, -2)])
    high, low = _LN2[np.float64]
    result = exponent * high + (exponent * low + 2 * s * series)
    result = np.where(numbers == 0, -np.inf, result)
    result = result.astype(np.float32 if given.dtype == np.float32 else np.float64)
    return result.reshape(given.shape)


def power(base: Real[np.ndarray, "..."], exponent: Real[np.ndarray, "..."] | float) -> Float[np.ndarray, "..."]:
    """Positive numbers to any power, in float64."""
    return exp(np.asarray(exponent * log(np.asarray(base, dtype=np.float64))))


def cos_of_turns(turns: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The cosine of angles in full turns."""
    # cos 2a = 1 - 2 sin^2 a, with a within a quarter turn.
    angle = np.pi * (turns - np.rint(turns))
    sine = angle * _polynomial(angle * angle, _SIN)
    return 1 - 2 * (sine * sine)


def normal_quantile(share: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Quantiles of the standard normal distribution.

    Args:
        share: Probabilities strictly between 0 and 1, in float64.

    Returns:
        The quantiles.
    """
    flat = np.ascontiguousarray(share, dtype=np.float64).reshape(-1)
    result = np.empty_like(flat)
    for start in range(0, len(flat), BLOCK):
        result[start : start + BLOCK] = _quantile_block(flat[start : start + BLOCK])
    return result.reshape(np.shape(share))


def row_means(values: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, " rows"]:
    """The mean of each row, by pairwise summation."""
    n = values.shape[1]
    while values.shape[1] > 1:
        half = values.shape[1] // 2
        pairs = values[:, :half] + values[:, half : 2 * half]
        if values.shape[1] % 2:
            pairs[:, 0] += values[:, -1]
        values = pairs
    return values[:, 0] / values.dtype.type(n)


def row_products(
    left: Shaped[np.ndarray, "rows inner"], right: Shaped[np.ndarray, "columns inner"]
) -> Float[np.ndarray, "rows columns"]:
    """The dot product of every pair of rows of two matrices, summed from the first column to the last."""
    result = left[:, :1] * right[:, 0]
    for column in range(1, right.shape[1]):
        result = result + left[:, column, None] * right[:, column]
    return result


def normal(rng: np.random.Generator, size: int | tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """Standard normal draws."""
    return normal_quantile(_open_draws(rng, size))


def exponential(rng: np.random.Generator, size: int | tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """Exponential draws of mean 1."""
    return -log(_open_draws(rng, size))


def gumbel(rng: np.random.Generator, size: int | tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """Standard Gumbel draws."""
    return -log(exponential(rng, size))


def geometric(rng: np.random.Generator, p_continue: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    """Geometric draws: 1 with probability 1 - p, 2 with probability p (1 - p), ...

    Args:
        rng: The random generator.
        p_continue: The probability p of each, from 0 to below 1.

    Returns:
        Whole numbers of 1 or more.
    """
    with np.errstate(divide="ignore"):
        return 1 + np.floor(log(_open_draws(rng, len(p_continue))) / log(p_continue))


def _open_draws(rng: np.random.Generator, size: int | tuple[int, ...]) -> Float[np.ndarray, "..."]:
    return np.maximum(rng.random(size), MIN_DRAW)


def _by_block(
    x: Real[np.ndarray, "..."], fill: Callable[[np.ndarray, np.ndarray, type], None]
) -> Float[np.ndarray, "..."]:
    given = np.asarray(x)
    dtype = np.float32 if given.dtype == np.float32 else np.float64
    flat = np.ascontiguousarray(given, dtype=dtype).reshape(-1)
    result = np.empty_like(flat)
    for start in range(0, len(flat), BLOCK):
        fill(flat[start : start + BLOCK], result[start : start + BLOCK], dtype)
    return result.reshape(given.shape)


def _exp_block(x: Float[np.ndarray, " block"], out: Float[np.ndarray, " block"], dtype: type) -> None:
    (min_x, max_x), (high, low), (bits, bias, mantissa) = _LIMITS[dtype], _LN2[dtype], _BITS[dtype]
    x = np.maximum(x, dtype(min_x))
    np.minimum(x, dtype(max_x), out=x)
    twos = x * dtype(LOG2_E)
    np.rint(twos, out=twos)
    # The remainder of x without whole powers of 2.
    x -= np.multiply(twos, dtype(high), out=out)
    x -= np.multiply(twos, dtype(low), out=out)
    part = _polynomial(x, _EXP[dtype])
    part *= x
    part *= x
    part += x
    part += dtype(1)
    exponent = twos.astype(bits)
    exponent += bits(bias)
    exponent <<= bits(mantissa)
    np.multiply(part, exponent.view(dtype), out=out)


def _polynomial(x: Float[np.ndarray, "..."], falling: Sequence[float]) -> Float[np.ndarray, "..."]:
    """Horner's rule, the coefficient of the highest power first."""
    result = x * falling[0]
    for coefficient in falling[1:-1]:
        result += coefficient
        result *= x
    result += falling[-1]
    return result


def _quantile_block(share: Float[np.ndarray, " block"]) -> Float[np.ndarray, " block"]:
    q = share - 0.5
    r = 0.180625 - q * q
    result = q * _ratio(r, _QUANTILE_CENTRE)
    (outer,) = np.nonzero(r < 0)
    side = share[outer]
    r = np.sqrt(-log(np.minimum(side, 1 - side)))
    found = np.where(r <= 5, _ratio(r - 1.6, _QUANTILE_SIDES), _ratio(r - 5, _QUANTILE_TAILS))
    result[outer] = np.where(side < 0.5, -found, found)
    return result


def _ratio(
    x: Float[np.ndarray, " block"], coefficients: tuple[tuple[float, ...], tuple[float, ...]]
) -> Float[np.ndarray, " block"]:
    above, below = coefficients
    return _polynomial(x, above) / _polynomial(x, below)
