{% test between(model, column_name, at_least=none, at_most=none) %}
    {%- set faults = [] -%}
    {%- if at_least is not none %}{% do faults.append(column_name ~ " < " ~ at_least) %}{% endif -%}
    {%- if at_most is not none %}{% do faults.append(column_name ~ " > " ~ at_most) %}{% endif -%}
    select {{ column_name }}
    from {{ model }}
    where {{ faults | join(" or ") }}
{% endtest %}
