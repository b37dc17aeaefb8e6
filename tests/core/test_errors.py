import errno

import pytest

from shelfrank.core.errors import UserError, os_sentence, unknown_name


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("xgbost", "unknown ranker 'xgbost': choose one of mmoe, popularity, xgboost; did you mean 'xgboost'?"),
        ("zzz", "unknown ranker 'zzz': choose one of mmoe, popularity, xgboost"),
    ],
)
def test_an_unknown_name_lists_the_known_ones(given: str, message: str) -> None:
    error = unknown_name("ranker", given, {"xgboost": 1, "popularity": 2, "mmoe": 3})
    assert isinstance(error, UserError)
    assert str(error) == message


def test_a_user_error_is_a_value_error() -> None:
    assert issubclass(UserError, ValueError)


def test_what_the_system_says_names_the_file() -> None:
    said = os_sentence(FileNotFoundError(errno.ENOENT, "No such file or directory", "log/x"))
    assert said.endswith("but the system says: No such file or directory (log/x)")
    assert os_sentence(OSError("odd")).endswith("but the system says: odd")
