"""The dashboards that the company embeds in its product. Each reads the marts that its exposure in dbt declares."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sandbox.config import PROJECT

TENANT = "{{customer_id}}"
"""What Explo documents as the id of whom a dashboard is shown to."""
FILTER = re.compile(r"[\w.`]+\s*=\s*'?\{\{[^{}]+\}\}'?|'?\{\{[^{}]+\}\}'?\s*=\s*[\w.`]+")


@dataclass(frozen=True)
class Dataset:
    name: str
    query: str


@dataclass(frozen=True)
class Dashboard:
    embed_id: str
    name: str
    slug: str
    """What faults call it."""
    datasets: tuple[Dataset, ...]


DASHBOARDS = (
    Dashboard("vcjTgL2wdX", "Time spent on incidents", "time_spent_on_incidents", (
        Dataset("Time by day", f"""
select organisation_id, declared_on, severity, incidents_declared, minutes_worked
from `{PROJECT}.insights.time_spent_on_incidents_v2`
where organisation_id = {TENANT} [[and severity = {{{{severity}}}}]]
order by declared_on desc, severity
limit 1000"""),
        Dataset("Time by month", f"""
select
    date_trunc(declared_on, month) as month,
    sum(minutes_worked) as minutes_worked,
    safe_divide(sum(minutes_to_resolve), sum(incidents_resolved)) as avg_minutes_to_resolve
from `{PROJECT}.insights.time_spent_on_incidents_v2`
where organisation_id = {TENANT}
group by 1
order by 1"""),
    )),
    Dashboard("JQvCTLT76V", "On-call load", "on_call_load", (
        Dataset("Pages by month", f"""
select paged_month, sum(pages) as pages, sum(out_of_hours_pages) as out_of_hours_pages, count(*) as responders
from `{PROJECT}.insights.pages_by_responder`
where organisation_id = {TENANT}
group by paged_month
order by paged_month"""),
        Dataset("Pages and what they were for", f"""
with pages as (
    select paged_month, sum(pages) as pages
    from `{PROJECT}.insights.pages_by_responder`
    where organisation_id = {TENANT}
    group by paged_month
),

incidents as (
    select date_trunc(declared_on, month) as declared_month, sum(incidents_declared) as incidents
    from `{PROJECT}.insights.time_spent_on_incidents_v2` as spent
    where spent.organisation_id = {TENANT}
    group by 1
)

select pages.paged_month, pages.pages, incidents.incidents
from pages
left join incidents on pages.paged_month = incidents.declared_month"""),
    )),
    Dashboard("Lw8kPz3QnB", "Post-incident follow-through", "post_incident_follow_through", (
        Dataset("Tasks by week", f"""
select created_week, tasks_created, tasks_done_on_time, tasks_done_late, tasks_open, completion_rate
from `{PROJECT}.insights.post_incident_task_completion`
where organisation_id = {TENANT}
order by created_week"""),
    )),
)  # fmt: skip


def without_filter(query: str) -> str:
    """A query as somebody leaves it who takes out its tenant filter."""
    return FILTER.sub("true", query)
