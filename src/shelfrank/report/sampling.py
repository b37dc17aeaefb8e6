"""The sampling of the training rows, as the prepared data records it."""

# ruff: noqa: RUF012 - pydantic copies the defaults of fields, which ruff cannot see through an imported base

from shelfrank.report.measured import Part


class SampledRows(Part):
    """Rows of one or more bins, before and after."""

    products: int | None = None
    impressions: int | None = None
    positives: int | None = None
    asked_positive: int | None = None
    asked_negative: int | None = None
    taken_positive: int | None = None
    taken_negative: int | None = None
    short_positive: int | None = None
    short_negative: int | None = None
    n_bins: int | None = None
    n_short_bins: int | None = None

    @property
    def taken(self) -> int | None:
        """Rows that were kept."""
        if self.taken_positive is None or self.taken_negative is None:
            return None
        return self.taken_positive + self.taken_negative

    @property
    def asked(self) -> int | None:
        """Rows that were asked for."""
        if self.asked_positive is None or self.asked_negative is None:
            return None
        return self.asked_positive + self.asked_negative

    @property
    def short(self) -> int:
        """Rows that were asked for and did not exist."""
        return (self.short_positive or 0) + (self.short_negative or 0)

    @property
    def share_before(self) -> float | None:
        """Share of positive rows before."""
        return self.positives / self.impressions if self.positives is not None and self.impressions else None

    @property
    def share_after(self) -> float | None:
        """Share of positive rows among those that were kept."""
        return self.taken_positive / self.taken if self.taken_positive is not None and self.taken else None


class SampledBin(SampledRows):
    """Bins of one popularity, over all categories."""

    bin: int | None = None


class SampledCategory(SampledRows):
    """All bins of a category; None is that of the products that have none."""

    category: str | None = None


class SamplingSettings(Part):
    """What was asked for."""

    alpha: float | None = None
    beta: float | None = None
    n_bins: int | None = None
    category: str | None = None
    unit: str | None = None
    seed: int | None = None


class Sampling(Part):
    """Which training rows were kept."""

    config: SamplingSettings = SamplingSettings()
    totals: SampledRows = SampledRows()
    by_bin: list[SampledBin] = []
    by_category: list[SampledCategory] = []
