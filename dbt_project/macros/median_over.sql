{# The exact median of a partition, nulls left out. approx_quantiles only comes near it, and customers check by hand. #}
{% macro median_over(column, partition_by) -%}
    percentile_cont({{ column }}, 0.5) over (partition by {{ partition_by | join(", ") }})
{%- endmacro %}
