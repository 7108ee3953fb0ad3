"""The base of every parameter class. Each class lives beside the code that it configures."""

from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from microgan.core.errors import UserError, shortened, shortened_name

LONGEST_VALUE = 80  # characters of a value in an error
VOXEL_UM = (1e-5, 1e6)  # sides of a pixel, um: from a tenth of an atom to a metre


def _is_voxel_size(side_um: float) -> float:
    least, most = VOXEL_UM
    if not least <= side_um <= most:
        raise ValueError(f"must be from {least:g} to {most:g} um: is it in another unit?")
    return side_um


VoxelSizeUm = Annotated[float, AfterValidator(_is_voxel_size)]  # wherever a voxel size is stated


class Config(BaseModel):
    """Immutable parameters that refuse names they do not know.

    What a parameter of the pipeline means is said in params.yaml alone. Its default stands in both places;
    ``tests/test_params.py`` compares them. Fields without an entry in params.yaml have a ``description``.

    Examples
    --------
    >>> class Window(Config):
    ...     size_px: int = 64
    >>> Window.from_mapping({"size_px": 32}, where="train.window").size_px
    32
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any] | None, where: str) -> Self:
        """Build from plain values; ``where`` is the parameter's path, used in the error.

        Raises
        ------
        UserError
            Names the first parameter that is unknown, misspelt, of a wrong type or out of range.
        """
        if not isinstance(values, Mapping | None):
            raise UserError(where, shortened(values, LONGEST_VALUE), "must be a section of named values")
        try:
            config = cls.model_validate(dict(values or {}))
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join([where, *(shortened_name(part) for part in first["loc"])])
            message = first["msg"].removeprefix("Value error, ")
            rule = message[0].lower() + message[1:]
            if first["type"] == "extra_forbidden":
                rule = f"unknown parameter, known are {', '.join(sorted(cls.model_fields))}"
            value = "missing" if first["type"] == "missing" else _in_words(first["input"])
            raise UserError(path, value, rule) from None
        if (place := _truth_as_number(values or {}, config)) is not None:
            raise UserError(".".join([where, *place]), "true or false", "must be a number")
        return config


def _truth_as_number(given: object, taken: object) -> list[str] | None:
    """Return where a truth value was taken for 1 or 0; none where it was not."""
    if isinstance(given, bool):
        return None if isinstance(taken, bool) or not isinstance(taken, int | float) else []
    inner: list[tuple[object, object, object]] = []
    if isinstance(given, Mapping):
        fields = taken if isinstance(taken, Mapping) else vars(taken) if isinstance(taken, BaseModel) else {}
        inner = [(name, value, fields.get(name)) for name, value in given.items()]
    elif isinstance(given, list | tuple) and isinstance(taken, list | tuple) and len(given) == len(taken):
        inner = [(index, *pair) for index, pair in enumerate(zip(given, taken, strict=True))]
    for name, value, read in inner:
        if (place := _truth_as_number(value, read)) is not None:
            return [shortened_name(name), *place]
    return None


def _in_words(value: object) -> str:
    """Return a value as it fits into a line; of several values that do not go together, nothing."""
    if isinstance(value, Mapping) and value:
        return "as a whole"
    return shortened(value, LONGEST_VALUE)


AnyConfig = TypeVar("AnyConfig", bound=Config)
