"""Small random checkpoints of the llama2.c format, for tests of decoders."""

from __future__ import annotations

import struct

WIDTH, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCABULARY = 16, 24, 2, 4, 2, 30


def checkpoint(context: int) -> bytes:
    import numpy as np

    head = WIDTH // HEADS
    kv = KV_HEADS * head
    count = (VOCABULARY * WIDTH + 2 * LAYERS * WIDTH + 2 * LAYERS * WIDTH * WIDTH
             + 2 * LAYERS * kv * WIDTH + 3 * LAYERS * HIDDEN * WIDTH + WIDTH + context * head)
    values = np.random.default_rng(0).normal(size=count).astype("<f4") * 0.3
    header = struct.pack("<7i", WIDTH, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCABULARY, context)
    return header + values.tobytes()
