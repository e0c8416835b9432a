"""Which values of a map are compared: what is unknown is left out, and what cannot be compared is an error, never an average."""

import numpy as np
from jaxtyping import Bool, Float


def valid_values(
    prediction: Float[np.ndarray, "*shape"],
    truth: Float[np.ndarray, "*shape"],
    mask: Bool[np.ndarray, "*pixels"],
    is_known: Bool[np.ndarray, "*pixels"],
    *,
    what: str,
) -> tuple[Float[np.ndarray, "*valid"], Float[np.ndarray, "*valid"]]:
    """Predicted and true values, in float64, of the pixels in `mask` whose truth is known, in a row.

    ValueError where there is none, or where a predicted value of one of them is not finite. what: one of them, for people.
    """
    is_valid = mask & is_known
    if not is_valid.any():
        raise ValueError(
            f"no {what} to compare: of {mask.size}, {int(mask.sum())} are in the mask and the truth is known of none of "
            f"these; leave them out and say so"
        )
    predicted, true = prediction[is_valid].astype(np.float64), truth[is_valid].astype(np.float64)
    num_bad = int((~np.isfinite(predicted)).reshape(len(predicted), -1).any(-1).sum())
    if num_bad:
        raise ValueError(
            f"the predicted {what} is not finite in {num_bad} of {len(true)} pixels whose truth is known; take them out of "
            f"the mask and count them"
        )
    return predicted, true
