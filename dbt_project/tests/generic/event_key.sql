{# Rows of the days just rebuilt that have no key, or share it. `unique` would read every day of a table of events. #}
{% test event_key(model, column_name, day="occurred_on") %}
    select
        {{ column_name }},
        count(*) as copies
    from {{ model }}
    where {{ on_event_days(day) }}
    group by {{ column_name }}
    having count(*) > 1 or {{ column_name }} is null
{% endtest %}
