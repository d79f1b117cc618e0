"""From logs and labels to a bundle that may serve."""

import export  # noqa: F401  # first: it quietens what peft brings along
