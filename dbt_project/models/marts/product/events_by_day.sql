{{ config(
    materialized='incremental',
    partition_by={'field': 'occurred_on', 'data_type': 'date'},
    partitions=event_partitions(),
    cluster_by=['source_name'],
    meta={'partitions': 'daily'}
) }}

-- model, source, event_name
{% set sources = [
    ('stg_segment_website__pages', 'segment_website', "'page_viewed'"),
    ('stg_segment_website__tracks', 'segment_website', 'event_name'),
    ('stg_segment_web_app__pages', 'segment_web_app', "'page_viewed'"),
    ('stg_segment_web_app__tracks', 'segment_web_app', 'event_name'),
    ('stg_segment_mobile__screens', 'segment_mobile', "'screen_viewed'"),
    ('stg_segment_mobile__tracks', 'segment_mobile', 'event_name'),
    ('stg_product_events__status_page_viewed', 'product_events', "'status_page_viewed'"),
    ('stg_product_events__slack_command_invoked', 'product_events', "'slack_command_invoked'"),
    ('stg_product_events__workflow_run_finished', 'product_events', "'workflow_run_finished'"),
    ('stg_product_events__insight_viewed', 'product_events', "'insight_viewed'"),
] %}

with events as (
    {%- for model, source_name, event_name in sources %}
        select
            '{{ source_name }}' as source_name,
            cast({{ event_name }} as string) as event_name,
            user_id,
            occurred_on
        from {{ ref(model) }}
        where {{ on_event_days('occurred_on') }}
        {%- if not loop.last %}
            union all
        {%- endif %}
    {%- endfor %}
)

select
    occurred_on,
    source_name,
    event_name,
    count(*) as events,
    count(distinct user_id) as users
from events
group by occurred_on, source_name, event_name
