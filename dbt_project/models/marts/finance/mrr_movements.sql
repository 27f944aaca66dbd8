with months as (
    select
        organisation_id,
        revenue_month,
        mrr_cents as closing,
        lag(mrr_cents) over (partition by organisation_id order by revenue_month) as previous
    from {{ ref('int_organisations_mrr') }}
),

moved as (
    select
        organisation_id,
        revenue_month,
        closing,
        coalesce(previous, 0) as opening,
        case
            when previous is null then 'new'
            when previous = 0 and closing > 0 then 'reactivation'
            when previous > 0 and closing = 0 then 'churn'
            when closing > previous then 'expansion'
            when closing < previous then 'contraction'
            else 'none'
        end as movement
    from months
)

select
    organisation_id,
    revenue_month,
    movement,
    opening / 100.0 as opening_mrr,
    if(movement = 'new', closing - opening, 0) / 100.0 as new_mrr,
    if(movement = 'expansion', closing - opening, 0) / 100.0 as expansion_mrr,
    if(movement = 'reactivation', closing - opening, 0) / 100.0 as reactivation_mrr,
    if(movement = 'contraction', closing - opening, 0) / 100.0 as contraction_mrr,
    if(movement = 'churn', closing - opening, 0) / 100.0 as churned_mrr,
    closing / 100.0 as closing_mrr
from moved
