"""Every working morning one message in Slack with everything that only warns, for the data responder."""

import time
from datetime import UTC, datetime

import dagster as dg

from orchestration.incidents import mutes, warned
from orchestration.incidents.digest_message import message
from orchestration.settings import PlatformSettings, settings
from orchestration.vendors.http import VendorError
from orchestration.vendors.slack import Slack, client, escaped

OFF = "SLACK_BOT_TOKEN and SLACK_DIGEST_CHANNEL are not set: the warnings are only in the UI"
TRIES, PAUSE_SECONDS = 5, 60
"""While Slack cannot be reached."""


@dg.op(description="Posts what warns now; nothing where nothing does.")
def post_warnings(context: dg.OpExecutionContext) -> None:
    values = settings()
    slack, channel = client(values), values.slack_digest_channel
    if slack is None or channel is None:
        context.log.warning(OFF)
        return
    found = warned.read(context.instance, context.repository_def.asset_graph)
    muted = mutes.active(context.instance, time.time())
    heard = [one for one in found if mutes.is_muted([one.asset], muted) is None]
    mention = _mention(context, slack, values.slack_responder_group)
    told = message(heard, mention, values.dagster_url, datetime.now(UTC), len(found) - len(heard))
    context.add_output_metadata({"warnings": len(heard), "muted": len(found) - len(heard)})
    if told is None:
        context.log.info("Nothing warns: nothing is posted.")
        return
    try:
        slack.post_message(channel, told.text, told.blocks)
    except VendorError as error:
        if error.permanent:
            raise
        # Where the answer was lost it may be posted twice: better than not at all.
        raise dg.RetryRequested(max_retries=TRIES, seconds_to_wait=error.retry_after or PAUSE_SECONDS) from error


# One step, most of which is waiting: a process of its own would take longer than that.
@dg.job(
    executor_def=dg.in_process_executor,
    description="Posts one message in Slack with everything that only warns, and since when.",
)
def warnings_digest() -> None:
    post_warnings()


def daily(values: PlatformSettings) -> dg.ScheduleDefinition:
    """The schedule, at the time that the settings say."""

    @dg.schedule(
        name="daily_warnings_digest",
        job=warnings_digest,
        cron_schedule=values.digest_cron,
        execution_timezone=values.digest_time_zone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Posts all warnings in Slack each working morning.",
    )
    def schedule() -> dg.RunRequest | dg.SkipReason:
        now = settings()
        return dg.RunRequest() if now.slack_bot_token and now.slack_digest_channel else dg.SkipReason(OFF)

    return schedule


def _mention(context: dg.OpExecutionContext, slack: Slack, handle: str) -> str:
    """What calls the group; its plain name where it is not to be found, since the warnings matter more than the call."""
    try:
        return f"<!subteam^{slack.group_id(handle)}>"
    except VendorError as error:
        context.log.warning(str(error))
        return escaped(f"@{handle}")
