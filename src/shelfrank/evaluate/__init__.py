"""Where metrics meet rankers: scores of a split, figures with intervals, paired differences."""
