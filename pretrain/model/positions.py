"""Whether the rows of a corpus are within a model's positions; pure."""

from configs import UserError


def require_positions(seq_len: int, positions: object) -> None:
    """``positions`` as a model's config has them: no number where it knows no limit."""
    if isinstance(positions, int) and seq_len > positions:
        raise UserError(
            f"data.seq_len {seq_len} is over the {positions} positions of the model",
            f"set data.seq_len: {positions} or less, or max_position_embeddings in its config.json",
        )
