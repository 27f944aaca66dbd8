-- Responders whose parts are more than the whole.
select
    organisation_id,
    user_id,
    paged_month
from {{ ref('pages_by_responder') }}
where out_of_hours_pages > pages or acked_pages > pages
