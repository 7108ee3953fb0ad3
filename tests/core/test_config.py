"""Parameters: true is no number."""

import pytest

from microgan.core.config import Config
from microgan.core.errors import UserError


class Part(Config):
    side: float | None = None
    is_on: bool = False


class Whole(Config):
    count: int = 1
    parts: dict[str, Part] = {}  # noqa: RUF012  pydantic copies it
    band: tuple[float | None, float | None] = (0, 1)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"count": True}, "count"),
        ({"parts": {"a": {"side": False}}}, "parts.a.side"),
        ({"band": [None, True]}, "band.1"),
    ],
)
def test_a_truth_value_is_no_number(values: dict[str, object], place: str) -> None:
    with pytest.raises(UserError, match=f"^whole.{place}: true or false: must be a number$"):
        Whole.from_mapping(values, "whole")


def test_a_truth_value_is_one() -> None:
    assert Whole.from_mapping({"parts": {"a": {"is_on": True}}}, "whole").parts["a"].is_on
