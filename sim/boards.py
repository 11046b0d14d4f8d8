"""What the tests of boards share: the smallest machine that goes onto one, and its line."""

#: Cycles of a bit on the line.
DIVISOR = 4
#: A shape that builds in seconds, in which some numbers are clipped.
CHANGES = dict(lanes=2, columns=2, vector_lanes=2, attention_lanes=2, entries=2, slots=2, tile_beats=1, context=16,
               kv_block=2, hidden_size=4,
               intermediate_size=3, num_attention_heads=1, num_key_value_heads=1, head_dim=2, vocab_size=11,
               num_hidden_layers=2, residual_fraction=22)
