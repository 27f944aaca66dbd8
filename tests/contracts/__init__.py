"""That the clients which vendors and Dagster give out, and the vendors' OpenAPI specs, agree with the stand-ins.

Nothing of a client is changed but the address that it calls. Here are those whose own tests are nowhere else; the others are what
the stand-in's tests are written with:

| client | where |
| --- | --- |
| dagster-fivetran | here (builds the assets, syncs, reports), `tests/sandbox/test_fivetran.py` (reads, syncs, polls) |
| dagster-hightouch | here |
| incident-io | `tests/sandbox/test_incident_io.py`, `test_incident_io_settings.py`: every answer is parsed by its models |
| slack-sdk | `tests/sandbox/test_slack.py` |
| simple-salesforce | `tests/sandbox/test_salesforce.py` |
| segment-analytics-python | `tests/sandbox/test_segment.py` |

| spec | where |
| --- | --- |
| Fivetran | here |
| Hex | `tests/sandbox/test_hex.py` |
| Omni | `tests/sandbox/test_omni.py` |
"""
