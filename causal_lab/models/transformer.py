"""GPT and BERT: one block, one boolean apart.

Only two things differ: ``causal``, which says whether a position may see later ones, and the
question that the loss asks of the output. With learned positions and a norm before each branch, and
without padding, cache and the rest, a pass is::

    blocked = block_future(0, length) if causal else None       # the one boolean
    x = token_embedding(ids) + position.table(positions)        # (batch, length, d_model)
    for block in blocks:
        x = x + block.attention(block.attention_norm(x), blocked=blocked)[0]
        x = x + block.mlp(block.mlp_norm(x))
    logits = final_norm(x) @ token_embedding.weight.T           # (batch, length, vocabulary)

:meth:`Transformer.forward` makes the first two lines and the last,
:class:`causal_lab.models.layers.Block` the two in the loop, with all that is asked for besides.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causal_lab.masks.rules import block_future
from causal_lab.models.cache import KVCache
from causal_lab.models.inputs import (
    check_cacheable,
    check_hidden,
    check_inputs,
    check_memory,
    check_next,
    check_options,
    check_some,
    check_token,
    check_window,
)
from causal_lab.models.layers import Block, ForwardContext
from causal_lab.models.position import POSITIONS, LearnedPosition
from causal_lab.models.sliding_cache import SlidingKVCache
from causal_lab.validation import check_size


class Transformer(nn.Module):
    """Token table, positions, blocks, and the token table again as the head.

    Args:
        max_length: the longest sequence to read; with learned positions, how many have a vector.
        causal: whether later positions are blocked: the one boolean.
        position: how tokens are told where they stand, one of ``POSITIONS``.
        token_types: kinds of segment that have a vector (two in the first BERT).
        cross: whether every block also looks at another text, the ``memory``.
        generator: draws the first weights, on the CPU; PyTorch's own if not given.
        **block: ``mlp_size``, ``activation`` and ``num_kv_heads``, as for
            :class:`causal_lab.models.layers.Block`.

    >>> model = Transformer(10, 8, d_model=8, num_heads=2, causal=True)
    >>> model(torch.zeros(2, 5, dtype=torch.long)).shape
    torch.Size([2, 5, 10])
    """

    product = staticmethod(F.linear)  # of the head; causal_lab.models.speed knows a faster one
    block_class = Block

    def __init__(
        self,
        vocabulary_size: int,
        max_length: int,
        *,
        d_model: int = 64,
        num_heads: int = 4,
        num_layers: int = 2,
        causal: bool,
        position: str = "learned",
        token_types: int = 0,
        dropout: float = 0.0,
        norm_first: bool = True,
        epsilon: float = 1e-5,
        cross: bool = False,
        generator: torch.Generator | None = None,
        **block,
    ):
        super().__init__()
        sizes = (vocabulary_size, max_length, d_model, num_heads, num_layers)
        check_options(*sizes, causal, position, token_types)
        block |= {"dropout": dropout, "norm_first": norm_first, "epsilon": epsilon, "cross": cross}
        state = torch.get_rng_state()
        self.causal, self.cross = causal, cross
        self.vocabulary_size, self.max_length = vocabulary_size, max_length
        self.num_heads = num_heads
        self.token_embedding = nn.Embedding(vocabulary_size, d_model)
        self.position = POSITIONS[position](max_length, d_model, num_heads, causal)
        self.type_embedding = nn.Embedding(token_types, d_model) if token_types else None
        # Normalised before every branch, the sum needs it once more at the end; normalised
        # after every branch, at the start.
        norm = self.block_class.norm
        self.embedding_norm = nn.Identity() if norm_first else norm(d_model, eps=epsilon)
        self.final_norm = norm(d_model, eps=epsilon) if norm_first else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            self.block_class(d_model, num_heads, layer=layer, **block)
            for layer in range(num_layers)
        )
        self.num_kv_heads = self.blocks[0].attention.num_kv_heads
        if generator is not None:  # PyTorch's layers have drawn weights of their own, in vain
            torch.set_rng_state(state)
        draw_weights(self, num_layers, generator)

    def forward(
        self,
        ids: Tensor,
        padding: Tensor | None = None,
        *,
        positions: Tensor | None = None,
        token_types: Tensor | None = None,
        blocked: Tensor | None = None,
        bias: Tensor | None = None,
        cache: KVCache | None = None,
        memory: ForwardContext | None = None,
        need_weights: bool = False,
        logits: bool | str = True,
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Score every token of the vocabulary at every position.

        Args:
            ids: (batch, length); with a cache, only those that it has not seen.
            padding: bool, (batch, length), True on padding, which nobody sees.
            positions: (1 or batch, length); counted over the real tokens if not given, so that
                padding on the left moves nothing; with a cache, on from those that it holds. Not
                for a bias such as ALiBi's beside a cache.
            token_types: (batch, length), the segment of each token; 0 if not given.
            blocked: bool, broadcastable to (batch, head, query, key): blocks more than the model's
                own mask does, a sliding window for example. Not beside a cache, which has its own.
            bias: added to the scores of every block, broadcastable alike; with a cache, its key
                axis counts the cached tokens too.
            cache: from :meth:`new_cache`; takes the new tokens. Call inside ``torch.no_grad()``.
            memory: another text that was read, for a model with ``cross=True``.
            need_weights: also give the attention weights, one (batch, head, query, key) per block.
            logits: "last" asks the head at the last position only; False stops before it.

        Returns:
            Logits, (batch, length, vocabulary); and the weights, if they are asked for.

        >>> GPT(10, 8, d_model=8, num_heads=2)(torch.zeros(2, 5, dtype=torch.long)).shape
        torch.Size([2, 5, 10])
        """
        check_inputs(self, ids, padding, positions, token_types, cache, blocked, bias)
        if self.cross or memory is not None:
            check_memory(self, ids, memory)
        if cache is None:
            counted, mask = self.plan(ids.shape[1], padding)
        else:
            counted, mask = cache.plan(ids.shape[1], padding)
        if blocked is not None:
            mask = blocked if mask is None else mask | blocked
        positions = counted if positions is None else positions
        x = self.position.embed(self.token_embedding(ids), positions)  # (batch, length, d_model)
        if self.type_embedding is not None:
            types = torch.zeros_like(ids) if token_types is None else token_types
            x = x + self.type_embedding(types)
        x = self.dropout(self.embedding_norm(x))
        distances = self.position.bias(positions, cache)
        if distances is not None:
            bias = distances.to(x.dtype) if bias is None else distances.to(x.dtype) + bias
        weights = [] if need_weights else None
        ctx = ForwardContext(mask, bias, self.position.rotation(positions), cache, weights, memory)
        for block in self.blocks:
            x = block(x, ctx=ctx)  # (batch, length, d_model)
        x = self.final_norm(x)
        if logits:
            x = self.head(x[:, -1:] if logits == "last" else x)  # (batch, length, vocabulary)
        if cache is not None:
            cache.commit()  # not before: what is interrupted must not count
        return (x, weights) if need_weights else x

    def hidden_states(
        self, ids: Tensor, padding: Tensor | None = None, **options
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Read the tokens as :meth:`forward` does; one vector per position, before the head.

        Returns:
            (batch, length, d_model); and the weights, if they are asked for.

        >>> model = BERT(10, 8, d_model=8, num_heads=2)
        >>> model.hidden_states(torch.zeros(2, 5, dtype=torch.long)).shape
        torch.Size([2, 5, 8])
        """
        return self(ids, padding, logits=False, **options)

    def plan(self, length: int, padding: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Say where tokens stand and what they may not look at, with nothing cached; unchecked.

        >>> GPT(10, 8, d_model=8, num_heads=2).plan(2)
        (tensor([[0, 1]]), tensor([[False,  True], [False, False]]))
        """
        device = self.token_embedding.weight.device
        # The one line where GPT and BERT part.
        blocked = block_future(0, length, device=device) if self.causal else None
        if padding is None:
            return torch.arange(length, device=device)[None], blocked
        hidden = padding[:, None, None, :]  # (batch, head, query, key)
        positions = ((~padding).cumsum(dim=1) - 1).clamp_min(0)
        return positions, hidden if blocked is None else blocked | hidden

    def blocked(self, length: int, padding: Tensor | None = None) -> Tensor | None:
        """Give the mask of :meth:`plan`, to look at: here GPT and BERT part.

        Returns:
            bool, broadcastable to (batch, head, query, key), True where the query may not look; or
            None.

        >>> GPT(10, 8, d_model=8, num_heads=2).blocked(2).tolist()
        [[False, True], [False, False]]
        >>> BERT(10, 8, d_model=8, num_heads=2).blocked(2) is None
        True
        """
        return self.plan(check_size("length", length), padding)[1]

    def head(self, hidden: Tensor) -> Tensor:
        """Ask the token table which token fits each vector: (batch, length, vocabulary).

        >>> GPT(10, 8, d_model=8, num_heads=2).head(torch.zeros(1, 1, 8)).shape
        torch.Size([1, 1, 10])
        """
        return self.product(hidden, self.token_embedding.weight)

    def new_cache(
        self, batch: int, capacity: int | None = None, *, window: int | None = None, sinks: int = 0
    ) -> KVCache:
        """Make an empty cache that fits this model, in its dtype, on its device.

        Args:
            batch: texts at a time.
            capacity: tokens that each may have; as many as the model can read if not given.
            window: remember only so many tokens, the newest included, in a ``SlidingKVCache``.
            sinks: with a window, how many of the first tokens are remembered for ever.

        >>> GPT(10, 8, d_model=8, num_heads=2).new_cache(batch=1)
        <KVCache 0 of 8 tokens, 2 layers, 1,024 bytes>
        """
        check_cacheable(self)
        check_window(capacity, window, sinks)
        table, sizes = self.token_embedding.weight, (len(self.blocks), batch, self.num_kv_heads)
        head_dim = table.shape[1] // self.num_heads
        where = {"dtype": table.dtype, "device": table.device}
        if window is not None:
            return SlidingKVCache(*sizes, window, head_dim, sinks=sinks, **where)
        return KVCache(*sizes, self.max_length if capacity is None else capacity, head_dim, **where)

    @property
    def num_parameters(self) -> int:
        """How many numbers are learned; the token table counts once."""
        return sum(parameter.numel() for parameter in self.parameters())


class GPT(Transformer):
    """Read from left to right, and guess the next token at every position.

    Source: the paper, §6.1; Radford et al., 2019.

    Args:
        causal: False takes the mask away and leaves all else as it is: the tempting mistake.
        **options: as for :class:`Transformer`.

    >>> model = GPT(10, 8, d_model=8, num_heads=2)
    >>> ids = torch.zeros(2, 5, dtype=torch.long)
    >>> model(ids).shape, model.loss(ids).shape
    (torch.Size([2, 5, 10]), torch.Size([]))
    """

    def __init__(self, vocabulary_size: int, max_length: int, *, causal: bool = True, **options):
        super().__init__(vocabulary_size, max_length, causal=causal, **options)

    def loss(self, ids: Tensor) -> Tensor:
        """Ask every position for the next token: one pass, length − 1 questions.

        Returns:
            Mean cross-entropy in nats per token, shape ().

        >>> model = GPT(10, 8, d_model=8, num_heads=2)
        >>> model.loss(torch.zeros(2, 5, dtype=torch.long)).item() > 0
        True
        """
        check_next(ids)
        logits = self(ids)[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten().long())

    @classmethod
    def from_hf_state_dict(cls, state_dict: Mapping[str, Tensor], num_heads: int) -> "GPT":
        """Take over the weights of a GPT-2 of Hugging Face's ``transformers``, in eval mode."""
        from causal_lab.models.huggingface import load_gpt2

        return load_gpt2(cls, state_dict, num_heads)


class BERT(Transformer):
    """Read the whole sequence at once, and guess the tokens that were hidden.

    Source: the paper, §6.2; Devlin et al., "BERT", 2018.

    Args:
        mask_id: the token that stands where one is hidden.
        head_transform: one more layer and a bias before the head, as in the first BERT. Without it,
            a GPT and a BERT of the same size have the same parameters.
        **options: as for :class:`Transformer`.

    >>> model = BERT(10, 8, d_model=8, num_heads=2)
    >>> model.num_parameters == GPT(10, 8, d_model=8, num_heads=2).num_parameters
    True
    """

    def __init__(
        self,
        vocabulary_size: int,
        max_length: int,
        *,
        mask_id: int = 0,
        causal: bool = False,
        head_transform: bool = False,
        **options,
    ):
        super().__init__(vocabulary_size, max_length, causal=causal, **options)
        self.mask_id = check_token("mask_id", mask_id, vocabulary_size)
        self.head_transform = self.head_bias = None
        if head_transform:
            d_model = self.token_embedding.embedding_dim
            norm = nn.LayerNorm(d_model, eps=options.get("epsilon", 1e-5))
            self.head_transform = nn.Sequential(nn.Linear(d_model, d_model), nn.GELU(), norm)
            self.head_bias = nn.Parameter(torch.zeros(vocabulary_size))
            draw_weights(self.head_transform, 1, options.get("generator"))

    def head(self, hidden: Tensor) -> Tensor:
        """Ask the token table which token fits each vector: (batch, length, vocabulary)."""
        if self.head_transform is None:
            return super().head(hidden)
        return super().head(self.head_transform(hidden)) + self.head_bias

    def hide(self, ids: Tensor, hidden: Tensor) -> Tensor:
        """Put the mask token where ``hidden``, bool, (batch, length), is True; in a copy.

        >>> model = BERT(10, 8, d_model=8, num_heads=2)
        >>> model.hide(torch.tensor([[5, 6]]), torch.tensor([[True, False]])).tolist()
        [[0, 6]]
        """
        check_hidden(ids, hidden)
        return ids.masked_fill(hidden, self.mask_id)

    def loss(self, ids: Tensor, hidden: Tensor) -> Tensor:
        """Hide some tokens and ask for them.

        Args:
            hidden: bool, (batch, length), True where the model must guess; at least one.

        Returns:
            Mean cross-entropy in nats per hidden token, shape ().

        >>> model = BERT(10, 8, d_model=8, num_heads=2)
        >>> ids = torch.ones(2, 5, dtype=torch.long)
        >>> model.loss(ids, torch.eye(2, 5).bool()).item() > 0
        True
        """
        asked = self.hide(ids, hidden)
        check_some(hidden)
        logits = self(asked)
        return F.cross_entropy(logits[hidden], ids[hidden].long())

    @classmethod
    def from_hf_state_dict(cls, state_dict: Mapping[str, Tensor], num_heads: int) -> "BERT":
        """Take over the weights of a BERT of Hugging Face's ``transformers``, in eval mode."""
        from causal_lab.models.huggingface import load_bert

        return load_bert(cls, state_dict, num_heads)


@torch.no_grad()
def draw_weights(module: nn.Module, num_layers: int, generator: torch.Generator | None) -> None:
    """Draw the first weights so that small models learn in seconds.

    Matrices are normal with a spread of 1 / √(numbers in), less where they add to the residual sum,
    tables of 0.1, biases 0; the table of learned positions keeps the waves that it was made with.
    """
    keeps_waves = isinstance(getattr(module, "position", None), LearnedPosition)
    for name, parameter in module.named_parameters():
        if keeps_waves and name.startswith("position."):
            continue
        if parameter.ndim == 2:
            # What is added to the residual sum is smaller, the more blocks add to it.
            adds = name.endswith(("output_projection.weight", "mlp.2.weight", "mlp.down.weight"))
            depth = math.sqrt(2 * num_layers) if adds else 1.0
            spread = 0.1 if "embedding" in name else 1 / math.sqrt(parameter.shape[1])
            parameter.normal_(0.0, spread / depth, generator=generator)
        elif name.endswith("bias"):
            parameter.zero_()
