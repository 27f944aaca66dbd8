-- Events that came after their day was final, so that no model has them. Only warns: a phone that was off for a week is
-- nobody's fault.
{{ config(severity='warn', meta={'dagster': {'ref': {'name': 'int_activity'}}}) }}

{% set sources = [
    ('segment_website', 'pages'), ('segment_website', 'tracks'), ('segment_web_app', 'pages'), ('segment_web_app', 'tracks'),
    ('segment_mobile', 'screens'), ('segment_mobile', 'tracks'), ('product_events', 'status_page_viewed'),
    ('product_events', 'slack_command_invoked'), ('product_events', 'workflow_run_finished'), ('product_events', 'insight_viewed'),
] %}

{%- for source_name, table in sources %}
    {%- set occurred_at = 'occurred_at' if source_name == 'product_events' else 'timestamp' %}
    select
        '{{ source_name }}.{{ table }}' as table_name,
        count(*) as events,
        min({{ occurred_at }}) as earliest_at
    from {{ landed_table(source_name, table, '' if source_name == 'product_events' else loaded_on_event_days()) }}
    where
        {{ received_around_event_days() }}
        and date_diff(date(received_at), date({{ occurred_at }}), day) > {{ var('late_days') }}
    having count(*) > 0
    {%- if not loop.last %}
        union all
    {%- endif %}
{%- endfor %}
