with pages as (
    select
        *,
        {{ median_over('minutes_to_ack', ['organisation_id', 'user_id', 'paged_month']) }} as median_to_ack
    from {{ ref('int_pages_enriched') }}
)

select
    organisation_id,
    user_id,
    paged_month,
    any_value(user_name) as responder_name,
    count(*) as pages,
    countif(is_out_of_hours) as out_of_hours_pages,
    countif(is_acked) as acked_pages,
    any_value(median_to_ack) as median_minutes_to_ack
from pages
group by organisation_id, user_id, paged_month
