"""Two texts: one is read whole, the other is written from left to right.

The encoder is a BERT without its question, the decoder a GPT with one more look: each block also
attends to what the encoder made of the source. That second look, cross-attention, needs no causal
mask, since the whole source is there before the first word is written.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causal_lab.attention.formula import (
    MultiHeadAttention,
    _check_tokens,
    attention_weights,
    fused_attention,
    merge_heads,
    split_heads,
)
from causal_lab.models.cache import KVCache
from causal_lab.models.transformer import Block, Transformer, _count_positions
from causal_lab.validation import check_boolean, check_size, check_tensor, describe


class CrossAttention(MultiHeadAttention):
    """Look at another text in two steps: read it once, then look at it as often as needed.

    Source: Vaswani et al., "Attention is all you need", 2017, section 3.2.3. The same function as
    ``layer(x, context)``, cut where what depends on the context alone is finished.

    Args:
        d_model, num_heads, bias, dropout: as for
            :class:`causal_lab.attention.formula.MultiHeadAttention`.

    >>> layer = CrossAttention(d_model=4, num_heads=2)
    >>> keys, values = layer.read(torch.zeros(1, 5, 4))
    >>> output, weights = layer.look(torch.zeros(1, 3, 4), keys, values)
    >>> output.shape, weights.shape
    (torch.Size([1, 3, 4]), torch.Size([1, 2, 3, 5]))
    """

    def read(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the keys and values of a text, which do not depend on who looks.

        Args:
            context: shape (batch, key, d_model).

        Returns:
            keys, values: shape (batch, head, key, dim), to be kept for as long as the text is
            looked at.

        >>> CrossAttention(d_model=4, num_heads=2).read(torch.zeros(1, 5, 4))[0].shape
        torch.Size([1, 2, 5, 2])
        """
        _check_tokens("context", context, self.key_projection.weight)
        keys = split_heads(self.key_projection(context), self.num_heads)
        return keys, split_heads(self.value_projection(context), self.num_heads)

    def look(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        *,
        blocked: Tensor | None = None,
        need_weights: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Look from the tokens of ``x`` at a text that was read.

        Args:
            x: shape (batch, query, d_model).
            keys, values: shape (batch, head, key, dim), from :meth:`read`.
            blocked: bool, broadcastable to (batch, head, query, key), True where the query may not
                look: on the padding of the text, nothing else.
            need_weights: False takes the fused path, which shows no weights.

        Returns:
            output: shape (batch, query, d_model), one vector per query.
            weights: shape (batch, head, query, key), before dropout.

        >>> layer = CrossAttention(d_model=4, num_heads=1)
        >>> x, context = torch.zeros(1, 2, 4), torch.zeros(1, 3, 4)
        >>> blocked = torch.tensor([False, True, False])
        >>> layer.look(x, *layer.read(context), blocked=blocked)[1].tolist()
        [[[[0.5, 0.0, 0.5], [0.5, 0.0, 0.5]]]]
        """
        _check_tokens("x", x, self.query_projection.weight)
        q = split_heads(self.query_projection(x), self.num_heads)
        dropped = self.dropout if self.training else 0.0
        weights = None
        if need_weights or dropped:
            weights = attention_weights(q, keys, blocked)
            heads = F.dropout(weights, dropped) @ values if dropped else weights @ values
        else:
            heads = fused_attention(q, keys, values, blocked)
        return self.output_projection(merge_heads(heads)), weights if need_weights else None


class DecoderBlock(Block):
    """Look at the own text, then at the other one, then think.

    Source: Vaswani et al., 2017, section 3.1, with the norms before each branch.

    Args:
        d_model, num_heads, dropout, epsilon: as for :class:`causal_lab.models.transformer.Block`.
        **options: as for :class:`causal_lab.models.transformer.Block`; ``norm_first`` must be True.

    >>> block = DecoderBlock(d_model=8, num_heads=2)
    >>> keys_values = block.cross_attention.read(torch.zeros(1, 5, 8))
    >>> block(torch.zeros(1, 3, 8), keys_values=keys_values).shape
    torch.Size([1, 3, 8])
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        dropout: float = 0.0,
        epsilon: float = 1e-5,
        **options,
    ):
        super().__init__(d_model, num_heads, dropout=dropout, epsilon=epsilon, **options)
        if not self.norm_first:
            raise ValueError("a decoder block normalises what goes into a branch; norm_first=True")
        self.cross_norm = nn.LayerNorm(d_model, eps=epsilon)
        self.cross_attention = CrossAttention(d_model, num_heads, dropout=dropout)

    def forward(
        self,
        x: Tensor,
        blocked: Tensor | None = None,
        *,
        keys_values: tuple[Tensor, Tensor],
        source_blocked: Tensor | None = None,
        remember: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
        weights: list[Tensor] | None = None,
        cross_weights: list[Tensor] | None = None,
    ) -> Tensor:
        """Pass the tokens through.

        Args:
            x: shape (batch, length, d_model).
            blocked: bool, broadcastable to (batch, head, query, key), True where a token may not
                look at another one of the target.
            keys_values: of the source, from ``cross_attention.read``.
            source_blocked: bool, broadcastable to (batch, head, query, key), True where a token may
                not look at one of the source.
            remember: a cache's ``append``, for the target.
            weights, cross_weights: get the attention weights within the target, and from target to
                source.

        Returns:
            shape (batch, length, d_model).

        >>> block, seen = DecoderBlock(d_model=8, num_heads=2), []
        >>> keys_values = block.cross_attention.read(torch.zeros(1, 5, 8))
        >>> _ = block(torch.zeros(1, 3, 8), keys_values=keys_values, cross_weights=seen)
        >>> seen[0].shape
        torch.Size([1, 2, 3, 5])
        """
        x = x + self._look(
            self.attention_norm(x), blocked=blocked, remember=remember, weights=weights
        )
        output, seen = self.cross_attention.look(
            self.cross_norm(x),
            *keys_values,
            blocked=source_blocked,
            need_weights=cross_weights is not None,
        )
        if cross_weights is not None:
            cross_weights.append(seen)
        x = x + self.dropout(output)
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


@dataclass(frozen=True)
class Memory:
    """What the decoder looks at: the source, read once.

    Args:
        encoded: shape (batch, source length, d_model), what the encoder makes of the source.
        keys_values: for each layer of the decoder, each of shape (batch, head, source length, dim).
        blocked: bool, shape (batch, 1, 1, source length), True on padding.

    >>> model = EncoderDecoder(10, 10, 8, d_model=8, num_heads=2)
    >>> len(model.encode(torch.ones(1, 3, dtype=torch.long)).keys_values)
    2
    """

    encoded: Tensor
    keys_values: tuple[tuple[Tensor, Tensor], ...]
    blocked: Tensor | None = None


class Decoder(Transformer):
    """Read a text from left to right, like GPT, with a look at a memory in every block.

    Args:
        vocabulary_size, max_length: as for :class:`causal_lab.models.transformer.Transformer`.
        **options: as for :class:`causal_lab.models.transformer.Transformer`; positions are
            learned ones.

    >>> Decoder(10, 8, d_model=8, num_heads=2).causal
    True
    """

    block_class = DecoderBlock

    def __init__(self, vocabulary_size: int, max_length: int, **options):
        super().__init__(vocabulary_size, max_length, causal=True, **options)
        if self.position != "learned":
            raise ValueError(f'a decoder has position="learned" only, got {self.position!r}')

    def forward(self, ids: Tensor, memory: Memory, padding: Tensor | None = None, **how) -> Tensor:
        """Score every token of the vocabulary at every position.

        Args:
            ids, memory, padding, **how: as for :meth:`hidden_states`.

        Returns:
            shape (batch, length, vocabulary).
        """
        return self.head(self.hidden_states(ids, memory, padding, **how))

    def hidden_states(
        self,
        ids: Tensor,
        memory: Memory,
        padding: Tensor | None = None,
        *,
        cache: KVCache | None = None,
        weights: list[Tensor] | None = None,
        cross_weights: list[Tensor] | None = None,
    ) -> Tensor:
        """Read the tokens; give one vector per position, before the head.

        Args:
            ids: integer, shape (batch, length), token ids; with a cache, only those that it has not
                seen.
            memory: from :meth:`EncoderDecoder.encode`.
            padding: bool, shape (batch, length), True on padding.
            cache: from ``new_cache``; keys and values of the target.
            weights, cross_weights: get the attention weights of each block.

        Returns:
            shape (batch, length, d_model), what the decoder makes of each position.
        """
        self._check_ids(ids, padding)
        self._check_memory(memory, ids)
        if cache is None:
            positions, blocked = _count_positions(ids, padding), self.blocked(ids.shape[1], padding)
        else:
            self._check_cache(cache, ids, None)
            plan = cache.plan(ids.shape[1], padding)
            positions, blocked = plan.positions, plan.blocked
        x = self.dropout(self.token_embedding(ids) + self.position_embedding(positions))
        for number, block in enumerate(self.blocks):
            x = block(
                x,
                blocked,
                keys_values=memory.keys_values[number],
                source_blocked=memory.blocked,
                remember=None if cache is None else partial(cache.append, number),
                weights=weights,
                cross_weights=cross_weights,
            )
        x = self.final_norm(x)
        if cache is not None:
            cache.commit()
        return x

    def _check_memory(self, memory: Memory, ids: Tensor) -> None:
        if not isinstance(memory, Memory):
            raise ValueError(f"memory must come from encode(source), got {describe(memory)}")
        if len(memory.keys_values) != len(self.blocks):
            raise ValueError(
                f"the memory is for {len(memory.keys_values)} layers, the decoder has "
                f"{len(self.blocks)}; encode the source with the same model"
            )
        if len(memory.encoded) != len(ids):
            raise ValueError(
                f"{len(memory.encoded)} sources and {len(ids)} targets; every target needs its own "
                "source"
            )


class EncoderDecoder(nn.Module):
    """Read a source whole, and write a target from left to right.

    Source: the paper, §7.2 (machine translation) and §8.3 ("hybrid encoder-decoder"); Vaswani et
    al., "Attention is all you need", 2017, with the norms before each branch, as in GPT-2.

    Args:
        max_length: positions that have a vector, in each of the two.
        d_model: size of a token's vector; a multiple of ``num_heads``.
        num_layers: blocks of the encoder, and as many of the decoder.
        start_id, end_id: the tokens that start and end a target.
        mlp_size, dropout, activation, epsilon: as for :class:`causal_lab.models.transformer.Block`.
        generator: draws the first weights, on the CPU; PyTorch's own if not given.

    >>> model = EncoderDecoder(10, 20, max_length=8, d_model=8, num_heads=2)
    >>> source = torch.ones(2, 5, dtype=torch.long)
    >>> model(source, torch.ones(2, 3, dtype=torch.long)).shape
    torch.Size([2, 3, 20])
    """

    def __init__(
        self,
        source_vocabulary: int,
        target_vocabulary: int,
        max_length: int,
        *,
        d_model: int = 64,
        num_heads: int = 4,
        num_layers: int = 2,
        start_id: int = 1,
        end_id: int = 2,
        mlp_size: int | None = None,
        dropout: float = 0.0,
        activation: str = "tanh",
        epsilon: float = 1e-5,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        options = {
            "d_model": d_model,
            "num_heads": num_heads,
            "num_layers": num_layers,
            "mlp_size": mlp_size,
            "dropout": dropout,
            "activation": activation,
            "epsilon": epsilon,
            "generator": generator,
        }
        source_vocabulary = check_size("source_vocabulary", source_vocabulary)
        target_vocabulary = check_size("target_vocabulary", target_vocabulary)
        self.start_id = _check_token("start_id", start_id, target_vocabulary)
        self.end_id = _check_token("end_id", end_id, target_vocabulary)
        if start_id == end_id:
            raise ValueError(f"start_id and end_id must differ, both are {start_id}")
        self.encoder = Transformer(source_vocabulary, max_length, causal=False, **options)
        self.decoder = Decoder(target_vocabulary, max_length, **options)

    @property
    def max_length(self) -> int:
        """The longest source, and the longest target, that the model can read."""
        return self.decoder.max_length

    @property
    def num_parameters(self) -> int:
        """How many numbers are learned."""
        return self.encoder.num_parameters + self.decoder.num_parameters

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        *,
        source_padding: Tensor | None = None,
        target_padding: Tensor | None = None,
        weights: dict[str, list[Tensor]] | None = None,
    ) -> Tensor:
        """Score, at every position of the target, which token comes next.

        Args:
            source: integer, shape (batch, source length).
            target: integer, shape (batch, target length), what is written so far, the start token
                first.
            source_padding: bool, shape (batch, source length), True on padding, which nobody sees.
            target_padding: bool, shape (batch, target length), True on padding, which nobody sees.
            weights: gets three lists, one entry per block, shape (batch, head, query, key):
                "encoder", "decoder" (within the target), "cross" (from target to source).

        Returns:
            shape (batch, target length, target vocabulary).

        >>> model, weights = EncoderDecoder(10, 20, 8, d_model=8, num_heads=2), {}
        >>> ids = torch.ones(2, 5, dtype=torch.long)
        >>> _ = model(ids, ids[:, :3], weights=weights)
        >>> {name: tuple(seen[0].shape) for name, seen in weights.items()}
        {'encoder': (2, 2, 5, 5), 'decoder': (2, 2, 3, 3), 'cross': (2, 2, 3, 5)}
        """
        if weights is None:
            return self.decoder(target, self.encode(source, source_padding), target_padding)
        weights |= {"encoder": [], "decoder": [], "cross": []}
        memory = self.encode(source, source_padding, weights=weights["encoder"])
        return self.decoder(
            target,
            memory,
            target_padding,
            weights=weights["decoder"],
            cross_weights=weights["cross"],
        )

    def encode(
        self, source: Tensor, padding: Tensor | None = None, *, weights: list[Tensor] | None = None
    ) -> Memory:
        """Read the source, and compute once what every word of the target will look at.

        Args:
            source: integer, shape (batch, length).
            padding: bool, shape (batch, length), True on padding.
            weights: gets the attention weights of each block of the encoder.

        Returns:
            For ``decoder(target, memory)``.

        >>> model = EncoderDecoder(10, 20, 8, d_model=8, num_heads=2)
        >>> model.encode(torch.ones(2, 5, dtype=torch.long)).encoded.shape
        torch.Size([2, 5, 8])
        """
        encoded = self.encoder.hidden_states(source, padding, weights=weights)
        if padding is not None and not torch.compiler.is_compiling() and padding.all(dim=1).any():
            raise ValueError("a source is nothing but padding, so there is nothing to look at")
        keys_values = tuple(block.cross_attention.read(encoded) for block in self.decoder.blocks)
        return Memory(encoded, keys_values, None if padding is None else padding[:, None, None, :])

    def loss(
        self,
        source: Tensor,
        target: Tensor,
        *,
        source_padding: Tensor | None = None,
        target_padding: Tensor | None = None,
    ) -> Tensor:
        """Ask every position of the target for the next token, given the true ones before it.

        Args:
            source: integer, shape (batch, source length).
            target: integer, shape (batch, target length), the right answer, from the start token to
                the end token.
            source_padding, target_padding: bool, True on padding, which is neither seen nor asked
                for.

        Returns:
            shape (), mean cross-entropy in nats per token.

        >>> model = EncoderDecoder(10, 20, 8, d_model=8, num_heads=2)
        >>> ids = torch.ones(2, 5, dtype=torch.long)
        >>> model.loss(ids, ids).item() > 0
        True
        """
        if check_tensor("target", target).ndim != 2 or target.shape[1] < 2:
            raise ValueError(
                "the loss needs targets of shape (batch, at least 2): a start token and one to ask "
                f"for, got {tuple(target.shape)}"
            )
        self.decoder._check_ids(target[:, 1:], None)  # what is asked; forward checks what is read
        _check_shape("target_padding", target_padding, target)
        asking = None if target_padding is None else target_padding[:, :-1]
        logits = self(source, target[:, :-1], source_padding=source_padding, target_padding=asking)
        asked = target[:, 1:]
        if target_padding is not None:
            real = ~(asking | target_padding[:, 1:])
            if not torch.compiler.is_compiling() and not real.any():
                raise ValueError("every target is padding, so there is nothing to ask for")
            logits, asked = logits[real], asked[real]
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), asked.reshape(-1).long())

    @torch.no_grad()
    def translate(
        self,
        source: Tensor,
        source_padding: Tensor | None = None,
        *,
        max_new_tokens: int | None = None,
        pad_id: int = 0,
    ) -> Tensor:
        """Write the likeliest token, again and again, until every text has ended.

        The source is read once. Each step reads one token: the cache keeps the keys and values of
        those before it.

        Args:
            source: integer, shape (batch, length), the texts that are read.
            source_padding: bool, shape (batch, length), True on padding, where they are of
                different lengths.
            max_new_tokens: at most so many; as many as the model can write if not given.
            pad_id: what stands after an end token.

        Returns:
            int64, shape (batch, new), without the start token, with the end token.

        >>> model = EncoderDecoder(10, 20, 8, d_model=8, num_heads=2).eval()
        >>> model.translate(torch.ones(2, 5, dtype=torch.long), max_new_tokens=3).shape[0]
        2
        """
        most = self._check_room(max_new_tokens)
        pad_id = _check_token("pad_id", pad_id, self.decoder.token_embedding.num_embeddings)
        memory = self.encode(source, source_padding)
        cache = self.decoder.new_cache(len(source), most)
        token = torch.full((len(source),), self.start_id, device=source.device)
        finished, written = torch.zeros_like(token, dtype=torch.bool), []
        while len(written) < most and not finished.all():
            logits = self.decoder(token[:, None], memory, cache=cache)[:, -1]
            token = logits.argmax(dim=-1).masked_fill(finished, pad_id)
            finished = finished | (token == self.end_id)
            written.append(token)
        return torch.stack(written, dim=1)

    def _check_room(self, max_new_tokens: int | None) -> int:
        if max_new_tokens is None:
            return self.max_length
        if check_size("max_new_tokens", max_new_tokens) > self.max_length:
            raise ValueError(
                f"max_new_tokens={max_new_tokens} is more than max_length={self.max_length}: the "
                "model has no vector for such a position"
            )
        return max_new_tokens


def _check_token(name: str, token: int, vocabulary: int) -> int:
    if check_size(name, token, minimum=0) >= vocabulary:
        raise ValueError(f"{name} must lie between 0 and {vocabulary - 1}, got {token}")
    return token


def _check_shape(name: str, padding: Tensor | None, ids: Tensor) -> None:
    if padding is not None and check_boolean(name, padding).shape != ids.shape:
        raise ValueError(
            f"{name} must have the shape of its ids, {tuple(ids.shape)}, got {tuple(padding.shape)}"
        )
