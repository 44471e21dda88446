"""What the caller hands in, read once."""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from causal_lab.causality.call import OTHER, Call
from causal_lab.causality.question import Change, allowed_up_to, changes_for
from causal_lab.validation import check_boolean, check_size, check_tensor, describe

CAUTIONS = ("pointwise", "constant", "batch")
EFFORTS = ("quick", "thorough")
_THOROUGH_UP_TO = 64  # positions; longer sequences are looked at quickly unless asked otherwise


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of which model.

    Args:
        inputs: shape (batch, length, …), whatever the model's own order is.
        allowed: bool, shape (output, input).
        is_triangle: whether that is what ``lookahead`` makes.
        untried: what runs along the sequence and is not varied, in words.
    """

    model: nn.Module
    inputs: Tensor
    forward_kwargs: dict | Callable
    allowed: Tensor
    is_triangle: bool
    expected: Tensor | None
    lookahead: int
    time_axes: tuple[int, int]
    axis_is_given: bool
    special_ids: tuple[int, ...]
    changes: list[Change]
    all_cuts: bool
    effort: str
    allow: tuple[str, ...]
    seed: int
    untried: tuple[str, ...]

    @property
    def may_be_channels_first(self) -> bool:
        """Whether axis 2 could be the time axis just as well, and nobody has said which it is."""
        plain = not self.axis_is_given and self.is_triangle and self.all_cuts
        return plain and self.inputs.is_floating_point() and self.inputs.shape[2] > 1

    @classmethod
    def read(cls, given: dict) -> "Question":
        """Read the arguments of :func:`causal_lab.causality.check_causality`, by their names."""
        axes = _read_axes(given["time_axis"])
        kwargs = read_kwargs(given["forward_kwargs"])
        model, varied, kwargs = _one_input(given["model"], given["inputs"], given["wrt"], kwargs)
        varied = _read_inputs(varied, axes[0])
        length, lookahead = varied.shape[1], check_whole("lookahead", given["lookahead"])
        allowed = _read_allowed(given["allowed"], given["output_positions"], length, lookahead)
        changes, cuts, effort = changes_for(allowed), given["cuts"], given["effort"]
        if cuts is not None:
            changes = _read_cuts(cuts, changes, length, lookahead)
        if effort is None:
            effort = EFFORTS[length <= _THOROUGH_UP_TO or cuts is not None]
        return cls(
            model=model,
            inputs=varied,
            forward_kwargs=kwargs,
            allowed=allowed,
            is_triangle=given["allowed"] is None,
            expected=_read_expected(given["expected"], allowed.shape),
            lookahead=lookahead,
            time_axes=axes,
            axis_is_given=given["time_axis"] is not None,
            special_ids=_read_ids(given["special_ids"], varied),
            changes=changes,
            all_cuts=cuts is None,
            effort=_one_of("effort", effort, EFFORTS),
            allow=read_allow(given["allow"], CAUTIONS),
            seed=check_whole("seed", given["seed"]),
            untried=tuple(_not_varied(kwargs, varied)),
        )


def check_whole(name: str, number: int) -> int:
    """Read an integer, of whatever kind, and no boolean.

    >>> check_whole("seed", 3)
    3
    """
    try:
        if isinstance(number, bool):
            raise TypeError
        return operator.index(number)
    except TypeError:
        raise ValueError(f"{name} must be an integer, got {number!r}") from None


def read_allow(names: str | Iterable[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Read the names of cautions that do not matter to the caller.

    >>> read_allow("batch", CAUTIONS)
    ('batch',)
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        _one_of("allow", name, known)
    return names


def _one_of(what: str, name: object, known: tuple[str, ...]) -> str:
    if name not in known:
        raise ValueError(f"{what} must be one of {', '.join(known)}, got {name!r}")
    return name


def _read_axes(time_axis: int | tuple[int, int] | None) -> tuple[int, int]:
    pair = time_axis if isinstance(time_axis, tuple | list) else (time_axis, time_axis)
    if time_axis is None:
        return 1, 1
    if len(pair) != 2:
        raise ValueError(
            f"time_axis must be one axis or a pair (inputs, output), got {time_axis!r}"
        )
    axes = tuple(check_whole("time_axis", axis) for axis in pair)
    if min(axes) < 0:
        raise ValueError(f"time_axis counts from the front, 0, 1, 2, …, got {time_axis!r}")
    return axes


def read_kwargs(given: Mapping | Callable | None) -> dict | Callable:
    """Read further arguments: a dict, a function that makes one, or nothing.

    >>> read_kwargs(None)
    {}
    """
    if callable(given):

        def make(*arguments: Tensor) -> dict:
            kwargs = given(*arguments)
            if not isinstance(kwargs, Mapping):
                raise ValueError(f"forward_kwargs must return a dict, got {describe(kwargs)}")
            return dict(kwargs)

        return make
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(
            "forward_kwargs must be a dict of names and values such as {'attention_mask': mask}, "
            f"or a function that gives one, got {describe(given)}"
        )
    return dict(given or {})


def _one_input(model, inputs, wrt: int | str, kwargs: dict | Callable):
    """Find the argument that is varied, and hand the others over by name."""
    if not callable(model) or isinstance(model, type):
        raise ValueError(f"model must be an nn.Module or a function, got {describe(model)}")
    if isinstance(model, nn.Module) and any(p.is_meta for p in model.parameters()):
        raise ValueError(
            "the model's weights are on the device meta and have no values; load or initialise them"
        )
    if isinstance(inputs, Mapping):
        raise ValueError(
            "inputs must be one tensor, or a tuple of positional arguments; of a dict hand over "
            "the token ids, inputs['input_ids'], and the rest as forward_kwargs"
        )
    given = tuple(inputs) if isinstance(inputs, tuple) else (inputs,)
    if isinstance(wrt, str):
        if callable(kwargs) or wrt not in kwargs:
            raise ValueError(f"wrt={wrt!r} is not among the forward_kwargs")
        kwargs = {OTHER.format(i): value for i, value in enumerate(given)} | kwargs
        return Call(model, wrt), kwargs.pop(wrt), kwargs
    place = check_whole("wrt", wrt)
    if not 0 <= place < len(given):
        raise ValueError(f"wrt must be a place among the {len(given)} inputs, got {wrt!r}")
    others = {OTHER.format(i): value for i, value in enumerate(given) if i != place}
    if callable(kwargs) and others:
        make = kwargs
        kwargs = lambda inputs: others | make(inputs)  # noqa: E731
    elif others:
        kwargs = others | kwargs
    is_plain = isinstance(model, nn.Module) and not others
    return model if is_plain else Call(model, place), given[place], kwargs


def _read_inputs(inputs: Tensor, axis: int) -> Tensor:
    check_tensor("inputs", inputs)
    if 0 in inputs.shape:
        raise ValueError(
            f"inputs of shape {tuple(inputs.shape)} are empty; give at least one sequence of two "
            "or more"
        )
    if inputs.device.type == "meta":
        raise ValueError("inputs on the device meta have no values; give real ones")
    if inputs.is_complex() or inputs.dtype == torch.bool:
        raise ValueError(f"inputs must be token ids or floating vectors, got {describe(inputs)}")
    if inputs.is_floating_point() and inputs.ndim < 3:
        raise ValueError(
            f"floating inputs must have shape (batch, length, dim), got {tuple(inputs.shape)}; a "
            "plain series gets its dim with .unsqueeze(-1), token ids become integers with .long()"
        )
    if not inputs.is_floating_point() and inputs.ndim != 2:
        raise ValueError(
            f"token ids must have shape (batch, length), got {tuple(inputs.shape)}; one sequence "
            "becomes a batch with .unsqueeze(0)"
        )
    if axis >= inputs.ndim:
        raise ValueError(f"time_axis={axis} is no axis of inputs of shape {tuple(inputs.shape)}")
    return inputs.detach().movedim(axis, 1)


def _read_allowed(allowed, positions, length: int, lookahead: int) -> Tensor:
    if allowed is not None:
        check_boolean("allowed", allowed)
        if allowed.ndim != 2 or allowed.shape[1] != length:
            raise ValueError(
                f"allowed must have shape (output, input) with {length} inputs, got "
                f"{tuple(allowed.shape)}"
            )
        return allowed.cpu()
    if positions is None:
        return allowed_up_to(torch.arange(length), length, lookahead)
    places = torch.tensor([check_whole("an output position", place) for place in positions])
    if not len(places) or places.min() < 0 or places.max() >= length:
        raise ValueError(
            f"output_positions must be places among the {length} inputs, one for each output, got "
            f"{places.tolist()}"
        )
    return allowed_up_to(places, length, lookahead)


def _read_expected(expected: Tensor | None, shape: tuple) -> Tensor | None:
    if expected is None:
        return None
    check_boolean("expected", expected)
    if expected.shape != shape:
        raise ValueError(
            f"expected must have shape (output, input) = {tuple(shape)}, got "
            f"{tuple(expected.shape)}"
        )
    return expected.cpu()


def _read_ids(special_ids: Iterable[int], inputs: Tensor) -> tuple[int, ...]:
    try:
        ids = tuple(dict.fromkeys(check_size("a special id", i, minimum=0) for i in special_ids))
    except TypeError:
        raise ValueError(
            f"special_ids must be a list of ids such as [0, 2], got {special_ids!r}"
        ) from None
    if ids and inputs.is_floating_point():
        raise ValueError("special_ids are token ids; the inputs are floating vectors, leave it out")
    return ids


def _read_cuts(cuts, changes: list[Change], length: int, lookahead: int) -> list[Change]:
    first = max(0, lookahead + 1)
    try:
        chosen = sorted({check_whole("a cut", cut) for cut in cuts})
    except TypeError:
        raise ValueError(f"cuts must be a list of positions, got {cuts!r}") from None
    if not chosen or chosen[0] < first or chosen[-1] >= length:
        raise ValueError(
            f"cuts must lie between {first} and {length - 1}, the first changed input of each; "
            f"got {chosen}"
        )
    return [change for change in changes if change.cut in chosen]


def _not_varied(kwargs: dict | Callable, inputs: Tensor) -> list[str]:
    """Name arguments that run along the sequence and are no masks."""
    if callable(kwargs):
        return []
    named = []
    for name, value in kwargs.items():
        along = isinstance(value, Tensor) and value.shape[:2] == inputs.shape[:2]
        if along and value.is_floating_point() and value.unique().numel() > 2:
            named.append(f"{name} runs along the sequence and was not varied (wrt={name!r} does)")
    return named
