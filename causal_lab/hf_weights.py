"""Where each weight of Hugging Face's GPT-2 and BERT belongs in a block of ours."""

import re
from collections.abc import Mapping

from torch import Tensor, nn


class Weights:
    """Somebody's weights, to be taken one by one until none is left.

    Parameters
    ----------
    state_dict : mapping of str to Tensor
        Weights by name.
    kind : str
        What they should be, for the error message.
    prefix : str
        Taken off the names that have it.

    Examples
    --------
    >>> import torch
    >>> weights = Weights({"bert.x": torch.ones(1)}, "BERT", "bert.")
    >>> weights.take("x").tolist(), weights.left
    ([1.0], {})
    """

    def __init__(self, state_dict: Mapping[str, Tensor], kind: str, prefix: str):
        self.kind = kind
        self.left = {name.removeprefix(prefix): weight for name, weight in state_dict.items()}

    def has(self, name: str) -> bool:
        """Say whether there is such a weight.

        Parameters
        ----------
        name : str
            Without the prefix.

        Returns
        -------
        bool
            Whether there is.

        Examples
        --------
        >>> Weights({}, "BERT", "").has("x")
        False
        """
        return name in self.left

    def look(self, name: str) -> Tensor:
        """Give a weight and leave it there; a ``ValueError`` if it is missing.

        Parameters
        ----------
        name : str
            Without the prefix.

        Returns
        -------
        Tensor
            The weight itself, not a copy.

        Raises
        ------
        ValueError
            If it is missing.

        Examples
        --------
        >>> Weights({}, "BERT", "").look("x")
        Traceback (most recent call last):
        ValueError: this is no BERT: x is missing
        """
        if name not in self.left:
            raise ValueError(f"this is no {self.kind}: {name} is missing")
        return self.left[name]

    def take(self, name: str) -> Tensor:
        """Give a weight and strike it off; a ``ValueError`` if it is missing.

        Parameters
        ----------
        name : str
            Without the prefix.

        Returns
        -------
        Tensor
            The weight itself, not a copy.

        Raises
        ------
        ValueError
            If it is missing.

        Examples
        --------
        >>> Weights({}, "BERT", "").take("x")
        Traceback (most recent call last):
        ValueError: this is no BERT: x is missing
        """
        weight = self.look(name)
        del self.left[name]
        return weight

    def into(self, module: nn.Module, prefix: str, *, transposed: bool = False) -> None:
        """Copy a weight and a bias; GPT-2 keeps its matrices the other way round.

        Parameters
        ----------
        module : nn.Module
            Has a weight and a bias.
        prefix : str
            Such as "ln_f.".
        transposed : bool, default False
            Whether the matrix is kept the other way round.

        Raises
        ------
        ValueError
            If one is missing or of another shape.

        Examples
        --------
        >>> import torch
        >>> layer = nn.LayerNorm(1)
        >>> state = {"n.weight": torch.zeros(1), "n.bias": torch.ones(1)}
        >>> with torch.no_grad():
        ...     Weights(state, "BERT", "").into(layer, "n.")
        >>> layer.weight.item(), layer.bias.item()
        (0.0, 1.0)
        """
        weight = self.take(prefix + "weight")
        self.copy(module.weight, weight.T if transposed else weight, prefix + "weight")
        self.copy(module.bias, self.take(prefix + "bias"), prefix + "bias")

    def copy(self, parameter: Tensor, value: Tensor, name: str) -> None:
        """Copy one weight if it has the right shape.

        Parameters
        ----------
        parameter : Tensor
            Where it goes.
        value : Tensor
            What came.
        name : str
            What it is called, for the error message.

        Raises
        ------
        ValueError
            If the shapes differ.

        Examples
        --------
        >>> import torch
        >>> Weights({}, "BERT", "").copy(torch.zeros(2), torch.zeros(1), "x")
        Traceback (most recent call last):
        ValueError: this is no BERT of this size: x should have shape (2,), got (1,)
        """
        if parameter.shape != value.shape:
            raise ValueError(
                f"this is no {self.kind} of this size: {name} should have shape "
                f"{tuple(parameter.shape)}, got {tuple(value.shape)}"
            )
        parameter.copy_(value)

    def drop_tied(self, name: str, other: Tensor) -> None:
        """Leave out a weight that is the same as another, if it is there.

        Parameters
        ----------
        name : str
            Which.
        other : Tensor
            What it must be equal to.

        Raises
        ------
        ValueError
            If it differs: then it would be lost.

        Examples
        --------
        >>> import torch
        >>> Weights({"x": torch.zeros(1)}, "BERT", "").drop_tied("x", torch.ones(1))
        Traceback (most recent call last):
        ValueError: x is not tied to its table; only models with a tied head can be taken over
        """
        weight = self.left.pop(name, None)
        if weight is not None and (
            weight.shape != other.shape or not bool((weight == other).all())
        ):
            raise ValueError(
                f"{name} is not tied to its table; only models with a tied head can be taken over"
            )

    def count(self, pattern: str) -> int:
        r"""Count the layers, whose number the pattern's first group finds.

        Parameters
        ----------
        pattern : str
            A regular expression for the beginning of a name.

        Returns
        -------
        int
            The highest number and one.

        Raises
        ------
        ValueError
            If there is none.

        Examples
        --------
        >>> Weights({"h.1.x": None}, "GPT-2", "").count(r"h\.(\d+)")
        2
        """
        numbers = {int(m[1]) for name in self.left if (m := re.match(pattern, name))}
        if not numbers:
            raise ValueError(f"this is no {self.kind}: it has no layers")
        return max(numbers) + 1

    def drop(self, *patterns: str) -> None:
        """Leave out what the others imply: tied heads, constant masks, the pooler.

        Parameters
        ----------
        *patterns : str
            Regular expressions for whole names.

        Examples
        --------
        >>> weights = Weights({"pooler.x": None}, "BERT", "")
        >>> weights.drop("pooler.*")
        >>> weights.left
        {}
        """
        for pattern in patterns:
            self.left = {n: w for n, w in self.left.items() if not re.fullmatch(pattern, n)}

    def check_all_taken(self) -> None:
        """Raise a ``ValueError`` if a weight is left over: then it is another model.

        Examples
        --------
        >>> Weights({"x": None}, "BERT", "").check_all_taken()
        Traceback (most recent call last):
        ValueError: this is no BERT: nothing here takes ['x']
        """
        if self.left:
            raise ValueError(f"this is no {self.kind}: nothing here takes {sorted(self.left)[:5]}")


def load_gpt_block(weights: Weights, prefix: str, block: nn.Module) -> None:
    """Copy one layer of GPT-2, whose queries, keys and values lie in one matrix.

    Parameters
    ----------
    weights : Weights
        Where they are taken from.
    prefix : str
        Such as "h.0.".
    block : nn.Module
        Where they go.

    Raises
    ------
    ValueError
        If a weight is missing or of another shape.

    Examples
    --------
    >>> load_gpt_block(Weights({}, "GPT-2", ""), "h.0.", nn.ModuleDict())
    Traceback (most recent call last):
    AttributeError: 'ModuleDict' object has no attribute 'attention_norm'
    """
    weights.into(block.attention_norm, prefix + "ln_1.")
    attention = block.attention
    projections = attention.query_projection, attention.key_projection, attention.value_projection
    names = [prefix + "attn.c_attn." + kind for kind in ("weight", "bias")]
    packed = weights.take(names[0]).T.chunk(3)  # query, key, value
    biases = weights.take(names[1]).chunk(3)
    for projection, weight, bias in zip(projections, packed, biases, strict=False):
        weights.copy(projection.weight, weight, names[0])
        weights.copy(projection.bias, bias, names[1])
    weights.into(attention.output_projection, prefix + "attn.c_proj.", transposed=True)
    weights.into(block.mlp_norm, prefix + "ln_2.")
    weights.into(block.mlp[0], prefix + "mlp.c_fc.", transposed=True)
    weights.into(block.mlp[2], prefix + "mlp.c_proj.", transposed=True)


def load_bert_block(weights: Weights, prefix: str, block: nn.Module) -> None:
    """Copy one layer of BERT, which keeps three matrices as we do.

    Parameters
    ----------
    weights, prefix, block
        As for :func:`load_gpt_block`.

    Raises
    ------
    ValueError
        If a weight is missing or of another shape.

    Examples
    --------
    >>> load_bert_block(Weights({}, "BERT", ""), "encoder.layer.0.", nn.ModuleDict())
    Traceback (most recent call last):
    AttributeError: 'ModuleDict' object has no attribute 'attention'
    """
    attention = block.attention
    weights.into(attention.query_projection, prefix + "attention.self.query.")
    weights.into(attention.key_projection, prefix + "attention.self.key.")
    weights.into(attention.value_projection, prefix + "attention.self.value.")
    weights.into(attention.output_projection, prefix + "attention.output.dense.")
    weights.into(block.attention_norm, prefix + "attention.output.LayerNorm.")
    weights.into(block.mlp[0], prefix + "intermediate.dense.")
    weights.into(block.mlp[2], prefix + "output.dense.")
    weights.into(block.mlp_norm, prefix + "output.LayerNorm.")
