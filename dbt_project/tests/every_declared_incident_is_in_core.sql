{{ config(meta={'dagster': {'ref': {'name': 'incidents'}}}) }}

-- Incidents that the product knows and core does not, or the other way round.
select coalesce(declared.incident_id, known.incident_id) as incident_id
from {{ ref('stg_product__incidents') }} as declared
full outer join {{ ref('incidents') }} as known
    on declared.incident_id = known.incident_id
where declared.incident_id is null or known.incident_id is null
