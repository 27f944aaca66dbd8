"""Slack and e-mail: what alerts go by when incident.io takes none, or where there is no incident.io. Nothing is posted or sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from orchestration.doctor.model import Check, Once, Outcome, failed, ok, warning
from orchestration.incidents import fallback
from orchestration.settings import Settings
from orchestration.vendors.http import VendorError
from orchestration.vendors.mail import MailServer
from orchestration.vendors.slack import APP, CHANNEL, GROUP_PERMISSION, Channel, Identity, Slack

TOKEN, SCOPES = "slack: token", "slack: scopes"
WRITING = ("chat:write",)
ROTA = ("usergroups:read", "usergroups:write", "users:read", "users:read.email")
MENTIONING = ("usergroups:read",)
LOOKING = ("channels:read",)
"""Only for the look at channels: without it the platform works, and the doctor sees less."""
REACH = "See SLACK_API_URL, and whether this machine may connect there"
NEEDS = ("slack_api_url",)
SECOND_CHANNEL = "alerts: second channel"
CHANNEL_SETTINGS = (
    "incident_io_api_key", "incident_io_alert_source_id", "incident_io_alert_source_token",
    "slack_api_url", "slack_bot_token", "slack_alerts_channel",
    "smtp_host", "smtp_port", "smtp_security", "smtp_user", "smtp_password", "alert_mail_from", "alert_mail_to",
)  # fmt: skip


def checks(values: Settings) -> Iterator[Check]:
    # Without incident.io, the mention of the group is what calls a person.
    needs_group = values.rota_sync or (values.incident_io is None and values.posts_alerts)

    def slack() -> Slack:
        token = values.slack_bot_token
        return Slack(str(values.slack_api_url), token.get_secret_value() if token else "")

    identity = Once(lambda: slack().identity())

    def token() -> Outcome:
        known = identity()
        return ok(f"accepted: {known.user} of {known.team}")

    def channel(field: str) -> Outcome:
        return inside(slack().channel(getattr(values, field)), field.upper())

    def group() -> Outcome:
        try:
            slack().group_id(values.slack_responder_group)
            permission = f". {GROUP_PERMISSION}" if values.rota_sync else ""
        except VendorError as error:
            outcome = _in_words(error)
            # Else only the morning's message is without its mention.
            return outcome if needs_group else replace(outcome, status="warning")
        # Only a reminder: no method of Slack's API shows who may edit user groups.
        return ok(f"@{values.slack_responder_group} exists{permission}")

    yield Check(SECOND_CHANNEL, lambda: find_second_channel(values), needs=CHANNEL_SETTINGS)
    wants = ("slack_bot_token",)
    yield Check(TOKEN, _explained(token), needs=NEEDS, wants=wants)
    yield Check(
        SCOPES, lambda: allowed(identity(), rota=values.rota_sync, mentions=needs_group), wants=wants, after=(TOKEN,)
    )
    for field in ("slack_alerts_channel", "slack_digest_channel"):
        name = f"slack: {field.removeprefix('slack_').replace('_', ' ')}"
        yield Check(name, _seen(identity, lambda field=field: channel(field)), wants=(*wants, field), after=(TOKEN,))
    yield Check("slack: user group", group, needs=("slack_responder_group",), wants=wants, after=(SCOPES,))
    yield Check(
        "mail: server",
        _explained(lambda: _mail(values)),
        needs=("smtp_port", "smtp_security", "smtp_user", "smtp_password"),
        wants=("smtp_host",),
    )


def find_second_channel(values: Settings) -> Outcome:
    """Return whether alerts have a way to people besides the first channel, and which."""
    if missing := fallback.explain_missing_channel(values):
        return warning(missing.why, missing.remedy)
    carriers = fallback.configured(values)
    return ok(" and ".join(carrier.name for carrier in (carriers if values.incident_io else carriers[1:])))


def allowed(known: Identity, *, rota: bool, mentions: bool = False) -> Outcome:
    """Whether a token has the scopes that the platform uses it with. `rota`: it keeps a user group, too; `mentions`: it mentions one."""
    if known.scopes is None:
        return warning(
            "Slack does not say which it has", f"See {APP}, Scopes: {', '.join((*WRITING, *ROTA, *LOOKING))}"
        )
    remedy = f"Add them: {APP}, Scopes; then install the app anew"
    needed = (*WRITING, *(ROTA if rota else MENTIONING if mentions else ()))
    if lacking := [one for one in needed if one not in known.scopes]:
        return failed(f"{', '.join(lacking)} missing", remedy)
    if lacking := [one for one in LOOKING if one not in known.scopes]:
        return warning(f"{', '.join(lacking)} missing, so that channels are not looked at here", remedy)
    return ok("those that are needed")


def inside(channel: Channel, variable: str) -> Outcome:
    if channel.archived:
        return failed(f"#{channel.name} is archived", f"Set {variable}: {CHANNEL}")
    if not channel.member:
        return failed(f"the app is not in #{channel.name}", "Invite it: /invite in the channel")
    return ok(f"#{channel.name}, and the app is in it")


def _seen(identity: Callable[[], Identity], look: Callable[[], Outcome]) -> Callable[[], Outcome]:
    """Not looked at with a token that may not: `slack: scopes` says so."""

    def seen() -> Outcome:
        scopes = identity().scopes
        if scopes is not None and not scopes.issuperset(LOOKING):
            return Outcome("skipped", f"needs the scope {', '.join(LOOKING)}")
        return look()

    return _explained(seen)


def _mail(values: Settings) -> Outcome:
    password = values.smtp_password.get_secret_value() if values.smtp_password else None
    MailServer(values.smtp_host or "", values.smtp_port, values.smtp_security, values.smtp_user, password).greet()
    return ok(f"{values.smtp_host} took the connection{' and the login' if values.smtp_user else ''}; nothing was sent")


def _explained(look: Callable[[], Outcome]) -> Callable[[], Outcome]:
    def explained() -> Outcome:
        try:
            return look()
        except VendorError as error:
            return _in_words(error)

    return explained


def _in_words(error: VendorError) -> Outcome:
    """These clients' errors end with what to do, where that is known."""
    found, _, remedy = str(error).partition(". ")
    return failed(found, remedy or REACH)
