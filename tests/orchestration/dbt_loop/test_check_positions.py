from __future__ import annotations

import pytest

from orchestration.dbt_loop.check_positions import source_position, yaml_line

SOURCE = """\
select
    id,
    {{ minutes_between('a', 'b') }} as minutes,
    nam
from {{ ref('users') }} as users
where {{ long_condition('a') }}
    and nam = 1
"""
COMPILED = """\
select
    id,
    timestamp_diff(b, a, second) / 60.0 as minutes,
    nam
from `acme`.`core`.`users` as users
where date_diff(date(a), date(b), day) between -1 and 3
    and a >= timestamp(date_sub(current_date('UTC'), interval 4 day))
    and nam = 1"""

YAML = """\
sources:
  - name: product
    tables:
      - name: users
        columns:
          - {name: id, data_type: string}
          - name: email
models:
  - name: users
    columns:
      - name: email
        data_tests: [not_null]
"""


@pytest.mark.parametrize(
    ("compiled", "source"),
    [
        ((4, 5), (4, 5)),
        ((3, 5), (3, 1)),
        ((3, 44), (3, 40)),
        ((5, 31), (5, 28)),
        ((6, 7), (6, 1)),
        ((7, 12), (6, 1)),
        ((8, 9), (7, 9)),
        ((99, 1), (1, 1)),
    ],
    ids=[
        "same line",
        "in a macro",
        "after a macro",
        "after a ref",
        "first of a macro",
        "inside a macro",
        "later",
        "beyond",
    ],
)
def test_a_compiled_position_is_found_in_the_file(compiled: tuple[int, int], source: tuple[int, int]) -> None:
    assert source_position(SOURCE, COMPILED, *compiled) == source


def test_a_position_in_what_was_put_before_the_file_is_its_first_line() -> None:
    assert source_position("select 1\nfrom a", "with cte as (\nselect x\n)\nselect 1\nfrom a", 2, 8) == (1, 1)


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (("product", "users"), 4),
        (("product", "users", "id"), 6),
        (("product", "users", "email"), 7),
        (("product", "users", "no_such_column"), 4),
        (("no_such_model",), 1),
    ],
)
def test_names_in_yaml_have_lines(names: tuple[str, ...], line: int) -> None:
    assert yaml_line(YAML, *names) == line


def test_a_name_at_an_outer_level_comes_first() -> None:
    assert yaml_line(YAML, "users", "email") == 11
