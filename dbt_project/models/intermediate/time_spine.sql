select date_day
from unnest(generate_date_array(date '2024-01-01', date '2034-12-31')) as date_day
