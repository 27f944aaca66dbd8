{# Minutes from one timestamp to a later one, with fractions of a minute; null while one of them is not known. #}
{% macro minutes_between(earlier, later) -%}
    timestamp_diff({{ later }}, {{ earlier }}, second) / 60.0
{%- endmacro %}
