"""The sections of the report: each module turns a comparison into one section of blocks."""
