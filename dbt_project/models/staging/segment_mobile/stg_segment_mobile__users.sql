-- On BigQuery the table has a row for each time that a user was identified
-- (https://segment.com/docs/connections/storage/catalog/bigquery/#schema). Whether a row repeats the traits of earlier
-- calls is unverified, so the latest known value of each trait is taken.
select
    id as user_id,
    last_value(email ignore nulls) over latest_last as email,
    last_value(name ignore nulls) over latest_last as user_name,
    last_value(organisation_id ignore nulls) over latest_last as organisation_id,
    last_value(role ignore nulls) over latest_last as user_role,
    received_at
from {{ landed_table('segment_mobile', 'users') }}
qualify row_number() over (partition by id order by received_at desc, loaded_at desc) = 1
window latest_last as (
    partition by id order by received_at, loaded_at rows between unbounded preceding and unbounded following
)
