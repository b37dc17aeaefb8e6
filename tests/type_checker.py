"""The checker of signatures for `pytest --jaxtyping-packages=shelfrank,type_checker.beartype`."""

import beartype as library

beartype = library.beartype(conf=library.BeartypeConf(is_pep484_tower=True))
"""Lets an int stand where a float is declared, as type checkers do."""
