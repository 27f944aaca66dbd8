{#
    Minutes of working hours, Monday to Friday, from one timestamp to a later one; null while one of them is not known.

    Exact to the second, also over a change of the clocks: each day's hours are turned into timestamps of their own. It looks at
    one row a day of the span, so a span should end: give it no open one with today as its end.
    In: the timestamps, an IANA time zone, and the hours at which work begins and ends there (0 to 24); columns or literals.
#}
{% macro working_minutes_between(earlier, later, timezone, start_hour, end_hour) -%}
    if(
        {{ earlier }} is null or {{ later }} is null,
        null,
        (
            select
                coalesce(sum(greatest(0, timestamp_diff(
                    least({{ later }}, {{ hour_of_day('working_day', end_hour, timezone) }}),
                    greatest({{ earlier }}, {{ hour_of_day('working_day', start_hour, timezone) }}),
                    second
                ))), 0) / 60.0
            from unnest(generate_date_array(
                date({{ earlier }}, {{ timezone }}), date({{ later }}, {{ timezone }})
            )) as working_day
            where extract(dayofweek from working_day) between 2 and 6
        )
    )
{%- endmacro %}

{# When it is `hour` on a day in a zone. As text: the emulator's timestamp(datetime, zone) takes no column there. #}
{% macro hour_of_day(day, hour, timezone) -%}
    parse_timestamp(
        '%Y-%m-%d %H:%M:%S', cast(datetime_add(datetime({{ day }}), interval {{ hour }} hour) as string), {{ timezone }}
    )
{%- endmacro %}
