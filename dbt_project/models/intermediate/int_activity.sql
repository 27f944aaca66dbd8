{{ config(
    materialized='incremental',
    partition_by={'field': 'occurred_on', 'data_type': 'date'},
    partitions=event_partitions(),
    cluster_by=['organisation_id'],
    meta={'partitions': 'daily'}
) }}

{% set nothing, sender, organisation = 'null', 'anonymous_id', 'organisation_id' %}
{% set views = {'pages': 'page_viewed', 'screens': 'screen_viewed'} %}
-- model, platform, feature, anonymous_id, organisation_id
{% set sources = [
    ('stg_segment_website__pages', 'website', nothing, sender, nothing),
    ('stg_segment_website__demo_requested', 'website', nothing, sender, nothing),
    ('stg_segment_website__signed_up', 'website', nothing, sender, organisation),
    ('stg_segment_web_app__pages', 'web_app', nothing, sender, organisation),
    ('stg_segment_web_app__feature_used', 'web_app', 'feature', sender, organisation),
    ('stg_segment_web_app__integration_connected', 'web_app', "'integrations'", sender, organisation),
    ('stg_segment_mobile__screens', 'mobile', nothing, sender, organisation),
    ('stg_segment_mobile__push_notification_opened', 'mobile', nothing, sender, organisation),
    ('stg_segment_mobile__page_acknowledged', 'mobile', "'mobile_paging'", sender, organisation),
    ('stg_product_events__slack_command_invoked', 'slack', "'slack'", nothing, organisation),
    ('stg_product_events__insight_viewed', 'insights', "'insights'", nothing, organisation),
    ('stg_product_events__workflow_run_finished', 'workflows', "'workflows'", nothing, organisation),
    ('stg_product_events__status_page_viewed', 'status_page', "'public_status_page'", 'visitor_id', organisation),
] %}

with events as (
    {%- for model, platform, feature, anonymous_id, organisation_id in sources %}
        {%- set table = model.split('__')[1] %}
        select
            event_id,
            '{{ platform }}' as platform,
            '{{ views.get(table, table) }}' as event_name,
            cast({{ feature }} as string) as feature,
            user_id,
            cast({{ anonymous_id }} as string) as anonymous_id,
            cast({{ organisation_id }} as string) as organisation_id,
            occurred_at,
            occurred_on
        from {{ ref(model) }}
        where {{ on_event_days('occurred_on') }}
        {%- if not loop.last %}
            union all
        {%- endif %}
    {%- endfor %}
)

select
    events.event_id,
    events.platform,
    events.event_name,
    events.feature,
    events.anonymous_id,
    events.occurred_at,
    events.occurred_on,
    coalesce(events.user_id, identities.user_id) as user_id,
    coalesce(events.organisation_id, identities.organisation_id) as organisation_id,
    coalesce(events.user_id, identities.user_id, events.anonymous_id) as person_id
from events
left join {{ ref('int_identities') }} as identities
    on
        events.anonymous_id = identities.anonymous_id
        and (events.user_id is null or events.user_id = identities.user_id)
        -- Who signs in later than that is not known here: a day that is built again would have other rows.
        and {{ received_in_time('identities.known_at', 'events.occurred_on') }}
