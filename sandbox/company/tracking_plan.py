"""What the company's website, web app and mobile app may send to Segment, by source and warehouse table."""

from __future__ import annotations

TEXT, NUMBER = "STRING", "INT64"
_CONTEXT = dict.fromkeys(
    [f"context_{name}" for name in ("ip", "user_agent", "locale", "library_name", "library_version")], TEXT
)
_WEB_CONTEXT = _CONTEXT | {"context_page_path": TEXT}
_OF_TRACKS = {"event": TEXT, "event_text": TEXT}
_OF_PAGES = dict.fromkeys(("name", "path", "url", "referrer", "title", "search"), TEXT)
_TRAITS = dict.fromkeys(("email", "name", "organisation_id", "role"), TEXT)
_ORGANISATION = {"organisation_id": TEXT}
_PLAN: dict[str, dict[str, dict[str, str]]] = {
    "website": {
        "tracks": _OF_TRACKS,
        "pages": _OF_PAGES,
        "identifies": _TRAITS,
        "users": _TRAITS,
        "demo_requested": _OF_TRACKS | {"company": TEXT, "team_size": NUMBER},
        "signed_up": _OF_TRACKS | {"plan": TEXT} | _ORGANISATION,
    },
    "web_app": {
        "tracks": _OF_TRACKS,
        "pages": _OF_PAGES | _ORGANISATION,
        "identifies": _TRAITS,
        "users": _TRAITS,
        "feature_used": _OF_TRACKS | {"feature": TEXT} | _ORGANISATION,
        "integration_connected": _OF_TRACKS | {"integration": TEXT} | _ORGANISATION,
    },
    "mobile": {
        "tracks": _OF_TRACKS,
        "screens": {"name": TEXT} | _ORGANISATION,
        "identifies": _TRAITS,
        "users": _TRAITS,
        "push_notification_opened": _OF_TRACKS | {"kind": TEXT} | _ORGANISATION,
        "page_acknowledged": _OF_TRACKS | {"page_id": TEXT, "seconds_to_acknowledge": NUMBER} | _ORGANISATION,
    },
}
TRACKING_PLAN = {
    source: {
        table: columns | ({} if table == "users" else _CONTEXT if source == "mobile" else _WEB_CONTEXT)
        for table, columns in tables.items()
    }
    for source, tables in _PLAN.items()
}
"""What each source sends, as the columns of its tables beside ids and times, which every table has."""
