"""Two texts: one is read whole, the other is written from left to right.

The encoder is a BERT without its question, the decoder a GPT with one more look: each block also
attends to what the encoder made of the source. That second look, cross-attention, needs no causal
mask, since the whole source is there before the first word is written. ``encode`` computes the keys
and values of the source once per layer (``Memory.keys_values``); each block takes its layer's pair.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causal_lab.models.generation import stream
from causal_lab.models.inputs import check_room, check_source, check_target, check_token
from causal_lab.models.layers import ForwardContext
from causal_lab.models.transformer import Transformer
from causal_lab.validation import check_size


@dataclass(frozen=True)
class Memory(ForwardContext):
    """The source, read once: the context of cross-attention.

    >>> model = EncoderDecoder(10, 10, 8, d_model=8, num_heads=2)
    >>> len(model.encode(torch.ones(1, 3, dtype=torch.long)).keys_values)
    2
    """

    encoded: Tensor | None = None  # what the encoder makes of it, (batch, source length, d_model)
    keys_values: tuple[tuple[Tensor, Tensor], ...] = ()  # a pair (batch, head, key, dim) per layer


class EncoderDecoder(nn.Module):
    """Read a source whole, and write a target from left to right.

    Source: the paper, §7.2 (machine translation) and §8.3 ("hybrid encoder-decoder"); Vaswani et
    al., "Attention is all you need", 2017, with the norms before each branch, as in GPT-2.

    Args:
        source_vocabulary: tokens of the language that is read.
        target_vocabulary: tokens of the language that is written.
        max_length: the longest source, and the longest target.
        start_id: the token that starts a target.
        end_id: the token that ends one.
        **options: as for :class:`causal_lab.models.transformer.Transformer`, for both halves.

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
        start_id: int = 1,
        end_id: int = 2,
        **options,
    ):
        super().__init__()
        check_size("source_vocabulary", source_vocabulary)
        check_size("target_vocabulary", target_vocabulary)
        self.start_id = check_token("start_id", start_id, target_vocabulary)
        self.end_id = check_token("end_id", end_id, target_vocabulary)
        if start_id == end_id:
            raise ValueError(f"start_id and end_id must differ, both are {start_id}")
        self.max_length = max_length
        self.encoder = Transformer(source_vocabulary, max_length, causal=False, **options)
        self.decoder = Transformer(
            target_vocabulary, max_length, causal=True, cross=True, **options
        )

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
        need_weights: bool = False,
    ) -> Tensor | tuple[Tensor, dict[str, list[Tensor]]]:
        """Score, at every position of the target, which token comes next.

        Args:
            source: what is read, (batch, source length).
            target: what is written so far, the start token first, (batch, target length).
            source_padding: bool, True on padding, which nobody sees.
            target_padding: likewise.
            need_weights: also give the attention weights, one (batch, head, query, key) per block:
                "encoder", "decoder" (within the target), "cross" (from target to source).

        Returns:
            Logits, (batch, target length, target vocabulary); and the weights.

        >>> model, ids = EncoderDecoder(10, 20, 8, d_model=8, num_heads=2), torch.ones(2, 5).long()
        >>> _, weights = model(ids, ids[:, :3], need_weights=True)
        >>> {name: tuple(seen[0].shape) for name, seen in weights.items()}
        {'encoder': (2, 2, 5, 5), 'decoder': (2, 2, 3, 3), 'cross': (2, 2, 3, 5)}
        """
        if not need_weights:
            memory = self.encode(source, source_padding)
            return self.decoder(target, target_padding, memory=memory)
        memory, within_source = self.encode(source, source_padding, need_weights=True)
        memory = replace(memory, weights=[])
        logits, within = self.decoder(target, target_padding, memory=memory, need_weights=True)
        return logits, {"encoder": within_source, "decoder": within, "cross": memory.weights}

    def encode(
        self, source: Tensor, padding: Tensor | None = None, *, need_weights: bool = False
    ) -> Memory | tuple[Memory, list[Tensor]]:
        """Read the source, and compute once what every word of the target will look at.

        Args:
            source: (batch, length).
            padding: bool, (batch, length), True on padding.
            need_weights: also give the attention weights of each block of the encoder.

        >>> model = EncoderDecoder(10, 20, 8, d_model=8, num_heads=2)
        >>> model.encode(torch.ones(2, 5, dtype=torch.long)).encoded.shape
        torch.Size([2, 5, 8])
        """
        encoded = self.encoder.hidden_states(source, padding, need_weights=need_weights)
        encoded, weights = encoded if need_weights else (encoded, None)
        check_source(padding)
        keys_values = tuple(block.cross_attention.read(encoded) for block in self.decoder.blocks)
        blocked = None if padding is None else padding[:, None, None, :]
        memory = Memory(blocked, encoded=encoded, keys_values=keys_values)
        return (memory, weights) if need_weights else memory

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
            source: what is read, (batch, source length).
            target: the right answer, from the start token to the end token.
            source_padding: bool, True on padding, which is neither seen nor asked for.
            target_padding: likewise.

        Returns:
            Mean cross-entropy in nats per token, shape ().

        >>> model = EncoderDecoder(10, 20, 8, d_model=8, num_heads=2)
        >>> ids = torch.ones(2, 5, dtype=torch.long)
        >>> model.loss(ids, ids).item() > 0
        True
        """
        check_target(self.decoder, target, target_padding)
        read = None if target_padding is None else target_padding[:, :-1]
        logits = self(source, target[:, :-1], source_padding=source_padding, target_padding=read)
        asked = target[:, 1:]
        if target_padding is not None:
            real = ~(read | target_padding[:, 1:])
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
            source: (batch, length).
            source_padding: bool, (batch, length), where texts are of different lengths.
            max_new_tokens: at most so many; as many as the model can write if not given.
            pad_id: what stands after an end token.

        Returns:
            int64, (batch, new), without the start token, with the end token.

        >>> model = EncoderDecoder(10, 20, 8, d_model=8, num_heads=2).eval()
        >>> model.translate(torch.ones(2, 5, dtype=torch.long), max_new_tokens=3).shape[0]
        2
        """
        most = check_room(self.max_length, max_new_tokens)
        memory = self.encode(source, source_padding)
        start = torch.full((len(source), 1), self.start_id, device=source.device)
        ends = {"stop_tokens": [self.end_id], "pad_id": pad_id}
        written = stream(self.decoder, start, most, memory=memory, **ends)
        return torch.stack(list(written), dim=1)
