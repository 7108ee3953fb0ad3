import copy

from microgan.core.errors import UserError


def test_a_user_error_can_be_taken_apart_and_rebuilt() -> None:
    """As happens between processes."""
    error = UserError("train.batch", -3, "must be at least 1")

    again = copy.copy(error)

    assert str(again) == str(error) == "train.batch: -3: must be at least 1"
