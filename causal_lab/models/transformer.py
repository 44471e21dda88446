"""GPT and BERT: one block, one boolean apart.

Both look tokens up, add their positions, pass them through the same blocks and ask the token
table which token fits. Only two things differ: ``causal``, which says whether a position may
see later ones, and the question that the loss asks of the output.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causal_lab.attention.formula import MultiHeadAttention
from causal_lab.attention.positions import alibi_bias, rotation, sinusoidal_positions
from causal_lab.masks.rules import generate_causal_mask
from causal_lab.models.cache import KVCache, SlidingKVCache
from causal_lab.models.huggingface import load_bert, load_gpt2
from causal_lab.validation import (
    check_blocked,
    check_boolean,
    check_fits,
    check_floating,
    check_same_device,
    check_size,
    check_tensor,
    describe,
)

POSITIONS = ("learned", "none", "sinusoidal", "alibi", "rotary")


class Block(nn.Module):
    """Let the tokens look at each other, then let each one think by itself.

    Source: Radford et al., "Language models are unsupervised multitask learners", 2019; Devlin et
    al., "BERT", 2018; the paper, §6.

    Args:
        d_model: size of a token's vector; a multiple of ``num_heads``.
        mlp_size: width of the feed-forward layer; 4 · ``d_model`` if not given.
        dropout: share dropped in training from the weights and from both branches.
        norm_first: normalise what goes into a branch (pre-norm, as GPT-2 does). False normalises
            what comes out of the sum (post-norm, as the first BERT did).
        activation: {"tanh", "none"}, how GELU is computed: GPT-2's approximation, or exactly, as
            BERT does.

    >>> Block(d_model=8, num_heads=2)(torch.zeros(1, 3, 8)).shape
    torch.Size([1, 3, 8])
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        mlp_size: int | None = None,
        dropout: float = 0.0,
        norm_first: bool = True,
        activation: str = "tanh",
        epsilon: float = 1e-5,
    ):
        super().__init__()
        d_model = check_size("d_model", d_model)
        if activation not in ("tanh", "none"):
            raise ValueError(f'activation must be "tanh" or "none", got {activation!r}')
        self.norm_first = norm_first
        self.attention_norm = nn.LayerNorm(d_model, eps=epsilon)
        self.attention = MultiHeadAttention(d_model, num_heads, dropout=dropout)
        self.mlp_norm = nn.LayerNorm(d_model, eps=epsilon)
        mlp_size = 4 * d_model if mlp_size is None else check_size("mlp_size", mlp_size)
        self.mlp = nn.Sequential(
            nn.Linear(d_model, mlp_size),
            nn.GELU(approximate=activation),
            nn.Linear(mlp_size, d_model),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        blocked: Tensor | None = None,
        *,
        bias: Tensor | None = None,
        turn: Callable[[Tensor], Tensor] | None = None,
        remember: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
        weights: list[Tensor] | None = None,
    ) -> Tensor:
        """Pass the tokens through.

        Args:
            x: shape (batch, length, d_model).
            blocked: bool, broadcastable to (batch, head, query, key), True where the query may not
                look.
            bias: broadcastable to (batch, head, query, key), added to the scores before the
                softmax.
            turn: turns queries and keys by their positions, as for
                :meth:`causal_lab.attention.formula.MultiHeadAttention.forward`.
            remember: takes the new keys and values and gives back all, as for
                :meth:`causal_lab.attention.formula.MultiHeadAttention.forward`.
            weights: gets the attention weights, shape (batch, head, query, key).

        Returns:
            shape (batch, length, d_model).

        >>> block = Block(d_model=8, num_heads=2)
        >>> block(torch.zeros(1, 3, 8), generate_causal_mask(3)).shape
        torch.Size([1, 3, 8])
        """
        how = {"blocked": blocked, "bias": bias, "turn": turn, "remember": remember}
        look = partial(self._look, weights=weights, **how)
        if self.norm_first:
            x = x + look(self.attention_norm(x))
            return x + self.dropout(self.mlp(self.mlp_norm(x)))
        x = self.attention_norm(x + look(x))
        return self.mlp_norm(x + self.dropout(self.mlp(x)))

    def _look(self, x: Tensor, *, weights: list[Tensor] | None, **how) -> Tensor:
        output, seen = self.attention(x, need_weights=weights is not None, **how)
        if weights is not None:
            weights.append(seen)
        return self.dropout(output)


class Transformer(nn.Module):
    """Token table, positions, blocks, and the token table again as the head.

    Args:
        max_length: the longest sequence to read; with learned positions, how many have a vector.
        d_model: size of a token's vector; a multiple of ``num_heads``.
        causal: whether later positions are blocked: the one boolean.
        position: {"learned", "none", "sinusoidal", "alibi", "rotary"}, how the tokens are told
            where they stand: by a vector from a table or one of waves, both added to the token's
            own (times √d_model for waves); by a bias on the scores; by turning queries and keys; or
            not at all. See :mod:`causal_lab.attention.positions`.
        mlp_size, dropout, norm_first, activation, epsilon: as for :class:`Block`.
        token_types: kinds of segment that have a vector (two in the first BERT).
        generator: draws the first weights, on the CPU; PyTorch's own if not given.

    >>> model = Transformer(10, 8, d_model=8, num_heads=2, causal=True)
    >>> model(torch.zeros(2, 5, dtype=torch.long)).shape
    torch.Size([2, 5, 10])
    """

    block_class: type[Block] = Block  # a subclass may build its layers of another
    product = staticmethod(F.linear)  # of the head; causal_lab.models.speed knows a faster one

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
        mlp_size: int | None = None,
        dropout: float = 0.0,
        norm_first: bool = True,
        activation: str = "tanh",
        epsilon: float = 1e-5,
        token_types: int = 0,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if not isinstance(causal, bool):
            raise ValueError(f"causal must be True or False, got {causal!r}")
        self.causal, self.position = causal, _check_position(position, d_model, num_heads)
        self.max_length = check_size("max_length", max_length)
        came = torch.get_rng_state()
        num_layers, d_model = check_size("num_layers", num_layers), check_size("d_model", d_model)
        self.token_embedding = nn.Embedding(check_size("vocabulary_size", vocabulary_size), d_model)
        if position == "learned":
            self.position_embedding = nn.Embedding(max_length, d_model)
        if check_size("token_types", token_types, minimum=0):
            self.type_embedding = nn.Embedding(token_types, d_model)
        # Normalised before every branch, the sum needs it once more at the end; normalised
        # after every branch, at the start.
        self.embedding_norm = nn.Identity() if norm_first else nn.LayerNorm(d_model, eps=epsilon)
        self.final_norm = nn.LayerNorm(d_model, eps=epsilon) if norm_first else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            self.block_class(
                d_model,
                num_heads,
                mlp_size=mlp_size,
                dropout=dropout,
                norm_first=norm_first,
                activation=activation,
                epsilon=epsilon,
            )
            for _ in range(num_layers)
        )
        self._add_head(d_model, epsilon)
        if generator is not None:  # PyTorch's layers have drawn weights of their own, in vain
            torch.set_rng_state(came)
        self._draw_weights(generator)

    def _add_head(self, d_model: int, epsilon: float) -> None:
        """Add what a head needs besides the token table: nothing, unless a model says so."""

    @torch.no_grad()
    def _draw_weights(self, generator: torch.Generator | None) -> None:
        """Draw the first weights so that small models learn in seconds."""
        for name, parameter in self.named_parameters():
            if name.endswith("position_embedding.weight"):
                parameter.copy_(0.15 * _waves(*parameter.shape))
            elif parameter.ndim == 2:
                # What is added to the residual sum is smaller, the more blocks add to it.
                adds = name.endswith(("output_projection.weight", "mlp.2.weight"))
                depth = math.sqrt(2 * len(self.blocks)) if adds else 1.0
                spread = 0.1 if "embedding" in name else 1 / math.sqrt(parameter.shape[1])
                parameter.normal_(0.0, spread / depth, generator=generator)
            elif name.endswith("bias"):
                parameter.zero_()

    @property
    def num_parameters(self) -> int:
        """How many numbers are learned; the token table counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(
        self,
        ids: Tensor,
        *,
        padding: Tensor | None = None,
        positions: Tensor | None = None,
        token_types: Tensor | None = None,
        blocked: Tensor | None = None,
        bias: Tensor | None = None,
        cache: KVCache | None = None,
        weights: list[Tensor] | None = None,
    ) -> Tensor:
        """Score every token of the vocabulary at every position.

        Args:
            ids: integer, shape (batch, length), token ids; with a cache, only those that it has not
                seen.
            padding: bool, shape (batch, length), True on padding, which nobody sees.
            positions: integer, shape (batch, length), counted over the real tokens if not given, so
                that padding on the left moves nothing; with a cache, on from those that it holds.
                One row may serve all texts. Not for ALiBi beside a cache.
            token_types: integer, shape (batch, length), the segment of each token; 0 if not given.
            blocked: bool, broadcastable to (batch, head, query, key), blocks more than the model's
                own mask does, a sliding window for example.
            bias: broadcastable to (batch, head, query, key), added to the scores of every block;
                with a cache, its key axis counts the cached tokens too.
            cache: what the model remembers, from :meth:`new_cache`; it takes the new tokens. Call
                the model inside ``torch.no_grad()`` then.
            weights: gets the attention weights of each block, shape (batch, head, query, key).

        Returns:
            shape (batch, length, vocabulary).

        >>> model = GPT(10, 8, d_model=8, num_heads=2)
        >>> model(torch.zeros(2, 5, dtype=torch.long)).shape
        torch.Size([2, 5, 10])
        """
        return self.head(
            self.hidden_states(
                ids,
                padding,
                positions,
                token_types,
                blocked=blocked,
                bias=bias,
                cache=cache,
                weights=weights,
            )
        )

    def hidden_states(
        self,
        ids: Tensor,
        padding: Tensor | None = None,
        positions: Tensor | None = None,
        token_types: Tensor | None = None,
        *,
        blocked: Tensor | None = None,
        bias: Tensor | None = None,
        cache: KVCache | None = None,
        weights: list[Tensor] | None = None,
    ) -> Tensor:
        """Read the tokens; give one vector per position, before the head.

        Args:
            ids, padding, positions, token_types, blocked, bias, cache, weights: as for
                :meth:`forward`.

        Returns:
            shape (batch, length, d_model), what the model makes of each position.

        >>> model = BERT(10, 8, d_model=8, num_heads=2)
        >>> model.hidden_states(torch.zeros(2, 5, dtype=torch.long)).shape
        torch.Size([2, 5, 8])
        """
        self._check_ids(ids, padding)
        if positions is not None:
            self._check_positions(positions, ids, cache)
        if cache is None:
            counted, mask = _count_positions(ids, padding), self.blocked(ids.shape[1], padding)
            mask = self._with_more(mask, blocked, ids)
        else:
            self._check_cache(cache, ids, blocked)
            plan = cache.plan(ids.shape[1], padding)
            counted, mask = plan.positions, plan.blocked
        positions = counted if positions is None else positions
        x = self._with_positions(self.token_embedding(ids), positions)
        if hasattr(self, "type_embedding"):
            x = x + self.type_embedding(
                torch.zeros_like(ids) if token_types is None else token_types
            )
        x = self.dropout(self.embedding_norm(x))
        bias, turn = self._with_distances(bias, x, positions, cache), None
        if self.position == "rotary":
            head_dim = x.shape[-1] // self.blocks[0].attention.num_heads
            turn = rotation(positions[:, None], head_dim)
        for number, block in enumerate(self.blocks):
            remember = None if cache is None else partial(cache.append, number)
            x = block(x, mask, bias=bias, turn=turn, remember=remember, weights=weights)
        x = self.final_norm(x)
        if cache is not None:
            cache.commit()  # not before: what is interrupted must not count
        return x

    def _with_positions(self, x: Tensor, positions: Tensor) -> Tensor:
        """Add to the tokens' vectors where they stand, if that is how they are told."""
        if self.position == "learned":
            return x + self.position_embedding(positions)
        if self.position == "sinusoidal":
            waves = sinusoidal_positions(positions, x.shape[-1])
            return math.sqrt(x.shape[-1]) * x + waves.to(x.dtype)
        return x

    def _with_distances(
        self, bias: Tensor | None, x: Tensor, positions: Tensor, cache: KVCache | None
    ) -> Tensor | None:
        """Add to the scores' bias how far the keys are, if that is how they are told."""
        if self.position != "alibi":
            return bias
        keys = positions if cache is None else cache.key_positions
        distances = alibi_bias(positions, keys, self.blocks[0].attention.num_heads).to(x.dtype)
        # To both sides, what is far is minded, on whichever side.
        distances = distances if self.causal else -distances.abs()
        if bias is None:
            return distances
        scores = distances.expand(len(x), -1, -1, -1)
        return distances + check_fits("bias", check_floating("bias", bias), scores)

    def new_cache(
        self,
        batch: int,
        capacity: int | None = None,
        *,
        window: int | None = None,
        sinks: int = 0,
    ) -> KVCache:
        """Make an empty cache that fits this model.

        Args:
            capacity: tokens that each may have; as many as the model can read if not given.
            window: remember only so many tokens, the newest included, in a ``SlidingKVCache``.
            sinks: with a window: how many of the first tokens are remembered for ever.

        Returns:
            In the model's dtype, on its device.

        >>> GPT(10, 8, d_model=8, num_heads=2).new_cache(batch=1)
        <KVCache 0 of 8 tokens, 2 layers, 1,024 bytes>
        """
        self._check_causal()
        attention, table = self.blocks[0].attention, self.token_embedding.weight
        d_model, num_heads = table.shape[1], attention.num_heads
        sizes = (len(self.blocks), batch, num_heads)
        where = {"dtype": table.dtype, "device": table.device}
        if window is not None:
            if capacity is not None:
                raise ValueError("a window needs no capacity: its memory does not grow")
            return SlidingKVCache(*sizes, window, d_model // num_heads, sinks=sinks, **where)
        if sinks:
            raise ValueError("sinks need a window; without one, every token is remembered")
        capacity = self.max_length if capacity is None else capacity
        return KVCache(*sizes, capacity, d_model // num_heads, **where)

    def blocked(
        self,
        length: int,
        padding: Tensor | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor | None:
        """Give the mask that every block uses: here GPT and BERT part.

        Args:
            padding: bool, shape (batch, length), True on padding.
            device: where the mask is made; where the model is, if not given.

        Returns:
            bool, broadcastable to (batch, head, query, key), True where the query may not look.

        >>> GPT(10, 8, d_model=8, num_heads=2).blocked(2).tolist()
        [[False, True], [False, False]]
        >>> BERT(10, 8, d_model=8, num_heads=2).blocked(2) is None
        True
        """
        length = check_size("length", length)
        device = self.token_embedding.weight.device if device is None else device
        blocked = generate_causal_mask(length, device=device) if self.causal else None
        if padding is None:
            return blocked
        padding = padding[:, None, None, :]  # (batch, head, query, key)
        return padding if blocked is None else blocked | padding

    def head(self, hidden: Tensor) -> Tensor:
        """Ask the token table which token fits each vector.

        Args:
            hidden: shape (batch, length, d_model), from :meth:`hidden_states`.

        Returns:
            shape (batch, length, vocabulary).

        >>> GPT(10, 8, d_model=8, num_heads=2).head(torch.zeros(1, 1, 8)).shape
        torch.Size([1, 1, 10])
        """
        return self.product(hidden, self.token_embedding.weight)

    def _check_ids(self, ids: Tensor, padding: Tensor | None) -> None:
        check_tensor("ids", ids)
        if ids.ndim != 2 or 0 in ids.shape or ids.dtype not in (torch.int64, torch.int32):
            raise ValueError(
                f"ids must be integers of shape (batch, length), got {describe(ids)} of shape "
                f"{tuple(ids.shape)}; one sequence becomes a batch with .unsqueeze(0)"
            )
        if ids.shape[1] > self.max_length:
            raise ValueError(
                f"{ids.shape[1]} tokens are more than max_length={self.max_length}; cut the "
                "sequence or build the model with a larger max_length"
            )
        vocabulary_size = self.token_embedding.num_embeddings
        if not torch.compiler.is_compiling() and (ids.min() < 0 or ids.max() >= vocabulary_size):
            raise ValueError(f"ids must lie between 0 and {vocabulary_size - 1}")
        if padding is not None and check_boolean("padding", padding).shape != ids.shape:
            raise ValueError(
                f"padding must have the shape of ids, {tuple(ids.shape)}, got "
                f"{tuple(padding.shape)}"
            )

    def _check_positions(self, positions: Tensor, ids: Tensor, cache: KVCache | None) -> None:
        check_same_device("positions", check_tensor("positions", positions), "ids", ids)
        batch, length = ids.shape
        if positions.shape not in ((1, length), (batch, length)):
            raise ValueError(
                f"positions must have shape (1, {length}), shared by all texts, or ({batch}, "
                f"{length}), got {tuple(positions.shape)}"
            )
        if self.position == "alibi" and cache is not None:
            raise ValueError(
                "with a cache ALiBi measures distances between the positions that the cache "
                "counts, since it does not keep others; leave positions out"
            )
        if self.position == "learned":
            self._check_rows(positions)

    def _check_rows(self, positions: Tensor) -> None:
        """Check that the table has these rows; a GPU would not say which one is missing."""
        if positions.dtype not in (torch.int64, torch.int32):
            raise ValueError(
                f"learned positions are rows of a table, so they must be integers, got "
                f"{describe(positions)}"
            )
        outside = not torch.compiler.is_compiling() and (
            positions.min() < 0 or positions.max() >= self.max_length
        )
        if outside:
            raise ValueError(
                f"learned positions must lie between 0 and {self.max_length - 1}: the model has no "
                "vector for others"
            )

    def _check_cache(self, cache: KVCache, ids: Tensor, blocked: Tensor | None) -> None:
        if not isinstance(cache, KVCache):
            raise ValueError(f"cache must come from new_cache(batch), got {describe(cache)}")
        self._check_causal()
        if blocked is not None:
            raise ValueError(
                "with a cache the mask follows from what it holds; for a sliding window use "
                "new_cache(batch, window=…) and leave blocked out"
            )
        if len(ids) != cache.batch:
            raise ValueError(
                f"the cache is for {cache.batch} texts, ids bring {len(ids)}; a batch of another "
                "size needs a cache of its own"
            )
        table, num_heads = self.token_embedding.weight, self.blocks[0].attention.num_heads
        ours = (len(self.blocks), num_heads, table.shape[1] // num_heads, table.dtype, table.device)
        theirs = (cache.num_layers, cache.num_heads, cache.head_dim, cache.dtype, cache.device)
        if ours != theirs:
            raise ValueError(
                f"the cache has (layers, heads, head_dim, dtype, device) = {theirs}, the model "
                f"{ours}; make one with the model's own new_cache"
            )
        if cache.length + ids.shape[1] > self.max_length:
            raise ValueError(
                f"{cache.length} tokens read and {ids.shape[1]} new ones are more than "
                f"max_length={self.max_length}"
                + (
                    ": the model has no vector for such a position"
                    if self.position == "learned"
                    else ""
                )
            )

    def _with_more(self, blocked: Tensor | None, more: Tensor | None, ids: Tensor) -> Tensor | None:
        """Block what the model's own mask blocks, and what the caller's does."""
        if more is None:
            return blocked
        batch, length = ids.shape
        # A shape to check against, without the memory.
        scores = self.token_embedding.weight.new_empty(())
        num_heads = self.blocks[0].attention.num_heads
        check_blocked(more, scores.expand(batch, num_heads, length, length))
        return more if blocked is None else blocked | more

    def _check_causal(self) -> None:
        if not self.causal:
            raise ValueError(
                "a model without a causal mask cannot use a cache: what it makes of old tokens "
                "changes with every new one"
            )


class GPT(Transformer):
    """Read from left to right, and guess the next token at every position.

    Source: the paper, §6.1; Radford et al., 2019.

    Args:
        vocabulary_size, max_length: as for :class:`Transformer`.
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

        Args:
            ids: integer, shape (batch, length), at least two tokens.

        Returns:
            shape (), mean cross-entropy in nats per token.

        >>> model = GPT(10, 8, d_model=8, num_heads=2)
        >>> model.loss(torch.zeros(2, 5, dtype=torch.long)).item() > 0
        True
        """
        if check_tensor("ids", ids).shape[-1] < 2:
            raise ValueError("the next-token loss needs at least two tokens per sequence")
        logits = self(ids)[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten().long())

    @classmethod
    def from_hf_state_dict(cls, state_dict: Mapping[str, Tensor], num_heads: int) -> "GPT":
        """Take over the weights of a GPT-2 of Hugging Face's ``transformers``.

        Args:
            state_dict: of a ``GPT2Model`` or ``GPT2LMHeadModel`` with the default activation.
            num_heads: which the weights do not tell.

        Returns:
            The same function, in eval mode, with weights of its own.

        >>> GPT.from_hf_state_dict({}, num_heads=12)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: this is no GPT-2 that fits here: token_embedding.weight is missing...
        """
        return load_gpt2(cls, state_dict, num_heads)


class BERT(Transformer):
    """Read the whole sequence at once, and guess the tokens that were hidden.

    Source: the paper, §6.2; Devlin et al., "BERT", 2018.

    Args:
        vocabulary_size, max_length: as for :class:`Transformer`.
        mask_id: the token that stands where one is hidden.
        causal: as for :class:`Transformer`.
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
        self.has_transform = head_transform
        super().__init__(vocabulary_size, max_length, causal=causal, **options)
        self.mask_id = check_size("mask_id", mask_id, minimum=0)
        if mask_id >= vocabulary_size:
            raise ValueError(f"mask_id={mask_id} is no token; there are {vocabulary_size}")

    def _add_head(self, d_model: int, epsilon: float) -> None:
        if self.has_transform:
            self.head_transform = nn.Sequential(
                nn.Linear(d_model, d_model), nn.GELU(), nn.LayerNorm(d_model, eps=epsilon)
            )
            self.head_bias = nn.Parameter(torch.zeros(self.token_embedding.num_embeddings))

    def head(self, hidden: Tensor) -> Tensor:
        """Ask the token table which token fits each vector.

        Args:
            hidden: shape (batch, length, d_model), from :meth:`Transformer.hidden_states`.

        Returns:
            shape (batch, length, vocabulary).

        >>> BERT(10, 8, d_model=8, num_heads=2).head(torch.zeros(1, 1, 8)).shape
        torch.Size([1, 1, 10])
        """
        if self.has_transform:
            return super().head(self.head_transform(hidden)) + self.head_bias
        return super().head(hidden)

    def hide(self, ids: Tensor, hidden: Tensor) -> Tensor:
        """Put the mask token where a token is to be hidden.

        Args:
            ids: integer, shape (batch, length).
            hidden: bool, shape (batch, length), True where the model must guess.

        Returns:
            integer, shape (batch, length), a copy with ``mask_id`` in these places.

        >>> model = BERT(10, 8, d_model=8, num_heads=2)
        >>> model.hide(torch.tensor([[5, 6]]), torch.tensor([[True, False]])).tolist()
        [[0, 6]]
        """
        if check_boolean("hidden", hidden).shape != check_tensor("ids", ids).shape:
            raise ValueError(
                f"hidden must have the shape of ids, {tuple(ids.shape)}, got {tuple(hidden.shape)}"
            )
        return ids.masked_fill(hidden, self.mask_id)

    def loss(self, ids: Tensor, hidden: Tensor) -> Tensor:
        """Hide some tokens and ask for them.

        Args:
            ids: integer, shape (batch, length).
            hidden: bool, shape (batch, length), True where the model must guess; at least one.

        Returns:
            shape (), mean cross-entropy in nats per hidden token.

        >>> model = BERT(10, 8, d_model=8, num_heads=2)
        >>> ids = torch.ones(2, 5, dtype=torch.long)
        >>> model.loss(ids, torch.eye(2, 5).bool()).item() > 0
        True
        """
        asked = self.hide(ids, hidden)
        if not hidden.any():
            raise ValueError("nothing is hidden, so there is nothing to ask for")
        logits = self(asked)
        return F.cross_entropy(logits[hidden], ids[hidden].long())

    @classmethod
    def from_hf_state_dict(cls, state_dict: Mapping[str, Tensor], num_heads: int) -> "BERT":
        """Take over the weights of a BERT of Hugging Face's ``transformers``.

        Args:
            state_dict: of a ``BertModel`` or ``BertForMaskedLM`` with the default activation and
                norms.
            num_heads: which the weights do not tell.

        Returns:
            The same function, in eval mode, with weights of its own: post-norm, exact GELU, token
            types, and the transform before the head if there is one.

        >>> BERT.from_hf_state_dict({}, num_heads=12)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: this is no BERT that fits here: token_embedding.weight is missing...
        """
        return load_bert(cls, state_dict, num_heads)


def _count_positions(ids: Tensor, padding: Tensor | None) -> Tensor:
    """Count the real tokens from 0; padding before them gets 0 too, which nobody sees."""
    if padding is None:
        return torch.arange(ids.shape[1], device=ids.device)[None]
    return ((~padding).cumsum(dim=1) - 1).clamp_min(0)


def _check_position(position: str, d_model: int, num_heads: int) -> str:
    if position not in POSITIONS:
        raise ValueError(f"position must be one of {', '.join(POSITIONS)}, got {position!r}")
    d_model, num_heads = check_size("d_model", d_model), check_size("num_heads", num_heads)
    if position == "sinusoidal" and d_model % 2:
        raise ValueError(f"sinusoidal positions need an even d_model, got {d_model}")
    if position == "rotary" and d_model % (2 * num_heads):
        raise ValueError(
            f"rotary positions turn pairs of numbers, so d_model={d_model} must be a multiple of "
            f"2 · num_heads = {2 * num_heads}"
        )
    return position


def _waves(length: int, dim: int) -> Tensor:
    """Start positions as waves of many lengths, so that "one before" is easy to find."""
    speed = torch.exp(-math.log(100.0) * torch.arange((dim + 1) // 2) / ((dim + 1) // 2))
    angle = torch.arange(length)[:, None] * speed
    return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :dim]
