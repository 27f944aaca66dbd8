"""The causes that lie in the platform itself, so that everything that needs what is broken fails by them."""

from typing import Literal

Cause = Literal[
    "code-location",
    "dagster-storage",
    "bigquery-quota",
    "bigquery-credentials",
    "bigquery-unreachable",
    "explo-credentials",
    "explo-unreachable",
    "fivetran-credentials",
    "fivetran-unreachable",
    "hex-credentials",
    "hex-unreachable",
    "hightouch-credentials",
    "hightouch-unreachable",
    "omni-credentials",
    "omni-unreachable",
]

CREDENTIALS: dict[str, Cause] = {
    "Explo": "explo-credentials",
    "Fivetran": "fivetran-credentials",
    "Hex": "hex-credentials",
    "Hightouch": "hightouch-credentials",
    "Omni": "omni-credentials",
}
"""By a client's name of its vendor: the vendor refuses the platform's key."""
UNREACHABLE: dict[str, Cause] = {
    "Explo": "explo-unreachable",
    "Fivetran": "fivetran-unreachable",
    "Hex": "hex-unreachable",
    "Hightouch": "hightouch-unreachable",
    "Omni": "omni-unreachable",
}
"""By a client's name of its vendor: its API does not answer, or not as an API that works."""
