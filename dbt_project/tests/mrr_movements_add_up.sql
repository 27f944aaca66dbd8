-- Months that do not close at their opening and movements, or do not open at the close of the one before. To the cent.
with months as (
    select
        *,
        lag(closing_mrr, 1, 0) over (partition by organisation_id order by revenue_month) as previous_closing_mrr,
        lag(revenue_month) over (partition by organisation_id order by revenue_month) as previous_month
    from {{ ref('mrr_movements') }}
)

select
    organisation_id,
    revenue_month,
    opening_mrr,
    closing_mrr
from months
where
    abs(
        opening_mrr + new_mrr + expansion_mrr + reactivation_mrr + contraction_mrr + churned_mrr - closing_mrr
    ) > 0.001
    or abs(opening_mrr - previous_closing_mrr) > 0.001
    or date_diff(revenue_month, previous_month, month) > 1
