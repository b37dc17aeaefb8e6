"""Numbers in words and digits: one way to write each kind, and a dash for what is not known."""

from collections.abc import Sequence

from shelfrank.report.estimates import Estimate

UNKNOWN = "–"
MINUS = "−"


def number(value: float | None, digits: int = 3) -> str:
    """A figure with fixed decimals, or with one significant digit where those would hide it.

    Args:
        value: The figure.
        digits: How many decimals.

    Returns:
        Its digits, or a dash where it is not known.

    Example:
        >>> number(0.3517), number(0.0004), number(-2.5, 1), number(None)
        ('0.352', '0.0004', '−2.5', '–')
    """
    if value is None:
        return UNKNOWN
    text = f"{abs(value):.{digits}f}"
    if not float(text) and abs(value) >= 1e-9:
        text = f"{float(f'{abs(value):.0e}'):.9f}".rstrip("0")
    return (MINUS if value < 0 and float(text) else "") + text


def signed(value: float | None, digits: int = 3) -> str:
    """A difference, with its sign."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 else text


def percent(share: float | None, digits: int = 1) -> str:
    """A share as percent."""
    return UNKNOWN if share is None else f"{number(100 * share, digits)} %"


def count(value: int | None) -> str:
    """A whole number with thousands separators."""
    return UNKNOWN if value is None else f"{value:,}".replace("-", MINUS)


def compact(value: int | float | None) -> str:
    """A large count with three significant digits.

    Args:
        value: The count.

    Returns:
        Its digits with K, M or B for thousands, millions and billions.

    Example:
        >>> compact(998_400), compact(9_600_000), compact(812)
        ('998K', '9.60M', '812')
    """
    if value is None:
        return UNKNOWN
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        # Rounded first: 999,950 is 1.00M and not 1000K.
        if float(f"{value:.3g}") >= size:
            scaled = value / size
            return f"{scaled:.{2 if scaled < 9.995 else 1 if scaled < 99.95 else 0}f}{unit}"
    return f"{value:.0f}"


def duration(seconds: float | None) -> str:
    """A wall time.

    Args:
        seconds: The time.

    Returns:
        It in the two largest units that it has.

    Example:
        >>> duration(0.42), duration(61.4), duration(7322.0)
        ('0.42 s', '1 min 01 s', '2 h 02 min')
    """
    if seconds is None:
        return UNKNOWN
    if seconds < 59.5:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def memory(megabytes: float | None) -> str:
    """Memory in MB (10^6 bytes) or GB."""
    if megabytes is None:
        return UNKNOWN
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"


def day(timestamp: str | None) -> str:
    """The date of an ISO 8601 timestamp."""
    return UNKNOWN if timestamp is None else timestamp[:10]


def between(interval: Estimate | None) -> str:
    """The ends of an interval.

    Args:
        interval: The interval.

    Returns:
        Both ends, or a dash where one is not known.

    Example:
        >>> between(Estimate(value=0.003, low=-0.002, high=0.008))
        '−0.002 to 0.008'
    """
    if interval is None or interval.low is None or interval.high is None:
        return UNKNOWN
    return f"{number(interval.low)} to {number(interval.high)}"


def brief(interval: Estimate | None) -> str:
    """The ends of an interval of a figure that is never negative, as short as a table's cell needs."""
    if interval is None or interval.low is None or interval.high is None:
        return UNKNOWN
    return f"{number(interval.low)}–{number(interval.high)}"


def task_name(task: str) -> str:
    """A task's name within a sentence."""
    return task.replace("_", " ")


def task_title(task: str) -> str:
    """A task's name at the start of a line.

    Args:
        task: The task.

    Returns:
        Its name with spaces and a capital.

    Example:
        >>> task_title("add_to_cart")
        'Add to cart'
    """
    words = task_name(task)
    return words[:1].upper() + words[1:]


def plural(n: int, one: str, many: str) -> str:
    """A count with its noun."""
    return f"{count(n)} {one if n == 1 else many}"


def listed(words: Sequence[str]) -> str:
    """Words as a list in a sentence.

    Args:
        words: The words.

    Returns:
        The list, with "and" before the last.

    Example:
        >>> listed(["click", "add to cart", "purchase"])
        'click, add to cart and purchase'
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
