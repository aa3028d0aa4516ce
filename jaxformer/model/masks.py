"""What a query may attend to, said as facts that an attention function may use as they are."""

import jax
import jax.numpy as jnp
from flax import struct


class Positions(struct.PyTreeNode):
    """Where queries and keys stand in their sentences; a leading axis of 1 holds for every row."""

    query_BT: jax.Array
    key_BS: jax.Array


class Mask(struct.PyTreeNode):
    """Facts about legal links (section 3.2.3); each that is given must allow a link.

    A plain attention function calls `materialise`; a fused one reads the facts themselves, so that
    a causal mask over 2,048 positions never becomes an array.

    Attributes:
      key_valid_BS: True where the key is a token, False where it is padding.
      query_segment_BT, key_segment_BS: packed sentences; a link stays within its segment.
      allowed_BTS: any other legal links, for instance those of a beam's ancestors.
      causal: a query sees keys at its own position and before.
      window: a query sees keys fewer than `window` positions away.
    """

    key_valid_BS: jax.Array | None = None
    query_segment_BT: jax.Array | None = None
    key_segment_BS: jax.Array | None = None
    allowed_BTS: jax.Array | None = None
    causal: bool = struct.field(pytree_node=False, default=False)
    window: int | None = struct.field(pytree_node=False, default=None)

    def materialise(self, positions: Positions) -> jax.Array | None:
        """Returns legal_BTS, True where attention is allowed (B and T may be 1), or None."""
        facts = []
        if self.key_valid_BS is not None:
            facts.append(self.key_valid_BS[:, None, :])
        if self.query_segment_BT is not None and self.key_segment_BS is not None:
            facts.append(self.query_segment_BT[:, :, None] == self.key_segment_BS[:, None, :])
        if self.allowed_BTS is not None:
            facts.append(self.allowed_BTS)
        ahead_BTS = positions.key_BS[:, None, :] - positions.query_BT[:, :, None]
        if self.causal:
            facts.append(ahead_BTS <= 0)
        if self.window is not None:
            facts.append(jnp.abs(ahead_BTS) < self.window)
        if not facts:
            return None
        legal_BTS = facts[0]
        for fact_BTS in facts[1:]:
            legal_BTS = legal_BTS & fact_BTS
        return legal_BTS
