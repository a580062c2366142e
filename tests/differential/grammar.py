"""The grammar of random transformers: what people write, drawn by a seed."""

from __future__ import annotations

import dataclasses
import random

ATTENTION = (
    "sdpa",
    "manual",
    "manual_scaled_q",
    "divided",
    "folded_bmm",
    "folded_softmax_open",
    "einsum",
    "value_left",
    "late_value",
    "single_head",
    "heads_apart",
    "softmax_first",
    "linear",
    "module",
    "rotary",
    "cosine",
    "windows",
    "multi_query",
    "memory",
)
MASKS = ("none", "causal", "additive", "boolean", "relative_bias")
EXTRAS = ("none", "soft_cap", "renormalised", "nan_to_num", "sink", "talking")
ACTIVATIONS = ("gelu", "gelu_tanh", "quick_gelu", "relu", "silu", "squared_relu")
RESIDUALS = ("plain", "swapped", "method", "in_place", "layer_scale", "constant", "none_first")


@dataclasses.dataclass(frozen=True)
class Block:
    norm: str
    position: str  # pre, post, sandwich, parallel
    qkv: str  # fused, apart, chunk, unbind, grouped, bias_free
    attention: str
    mask: str
    extra: str
    residual: str
    mlp: str  # plain, gated, gate_apart, raw_weights, depthwise, two_readers, experts
    activation: str


@dataclasses.dataclass(frozen=True)
class Spec:
    seed: int
    source: str  # vectors, tokens, patches, patches_1d
    width: int
    heads: int
    tokens: int
    stem: str  # none, conv, conv1x1, positions, class_token
    head: str  # logits, bias, pooled, class_attention, two_heads, tuple, tied, downsample
    script: bool
    fixed_batch: bool
    dtype: str
    blocks: tuple[Block, ...]

    def __str__(self) -> str:
        blocks = "; ".join(",".join(dataclasses.astuple(b)) for b in self.blocks)
        return (
            f"seed {self.seed}: {self.source} stem={self.stem} head={self.head} width={self.width} "
            f"heads={self.heads} tokens={self.tokens} {self.dtype}"
            f"{' scripted' if self.script else ''} [{blocks}]"
        )


def draw(seed: int) -> Spec:
    rng = random.Random(seed)

    def often(usual: str, others: tuple[str, ...], share: float = 0.5) -> str:
        return usual if rng.random() < share else rng.choice(others)

    heads = rng.choice((1, 2, 4))
    blocks = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        attention = rng.choice(ATTENTION)
        extra = (
            often("none", EXTRAS, 0.6) if attention.startswith(("manual", "divided")) else "none"
        )
        # Linear attention, windows and a memory take no mask; heads that mix would spread -inf.
        masks = (
            ("none",)
            if attention in ("linear", "windows", "memory")
            else ("none", "additive")
            if extra == "talking"
            else MASKS
        )
        blocks.append(
            Block(
                norm=rng.choice(("layer", "layer", "rms", "rms_module", "layer_plain", "group")),
                position=rng.choice(("pre", "pre", "post", "sandwich", "parallel")),
                qkv=rng.choice(("fused", "apart", "chunk", "unbind", "grouped", "bias_free")),
                attention=attention,
                mask=often("none", masks),
                extra=extra,
                residual=often("plain", RESIDUALS, 0.4),
                mlp=often(
                    "plain",
                    ("gated", "gate_apart", "raw_weights", "depthwise", "two_readers", "experts"),
                ),
                activation=rng.choice(ACTIVATIONS),
            )
        )
    source = rng.choice(("vectors", "tokens", "patches", "patches_1d"))
    script = rng.random() < 0.15
    return Spec(
        seed=seed,
        source="vectors" if script else source,
        width=heads * rng.choice((8, 16) if heads > 1 else (16, 32)),
        heads=heads,
        tokens=rng.choice((5, 9, 16)),
        stem=rng.choice(("none", "positions", "positions", "class_token", "conv1x1", "conv")),
        head=rng.choice(
            (
                "logits",
                "logits",
                "bias",
                "pooled",
                "class_attention",
                "two_heads",
                "tuple",
                "tied",
                "downsample",
            )
        ),
        script=script,
        fixed_batch=rng.random() < 0.1,
        dtype="float32" if script else often("float32", ("bfloat16", "float64", "float16"), 0.93),
        blocks=tuple(blocks),
    )
