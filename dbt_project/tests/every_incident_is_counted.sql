{{ config(meta={'dagster': {'ref': {'name': 'time_spent_on_incidents', 'version': 2}}}) }}

-- Organisations whose dashboard counts other incidents than were declared.
with declared as (
    select
        organisation_id,
        count(*) as incidents
    from {{ ref('stg_product__incidents') }}
    where incident_status != 'declined'
    group by organisation_id
),

shown as (
    select
        organisation_id,
        sum(incidents_declared) as incidents
    from {{ ref('time_spent_on_incidents') }}
    group by organisation_id
)

select
    declared.incidents as declared_incidents,
    shown.incidents as shown_incidents,
    coalesce(declared.organisation_id, shown.organisation_id) as organisation_id
from declared
full outer join shown
    on declared.organisation_id = shown.organisation_id
where coalesce(declared.incidents, 0) != coalesce(shown.incidents, 0)
