# shellcheck shell=bash
# Short commands for changing dbt models, in bash and zsh: `source scripts/dbt_aliases.sh`. They are `dataplatform dbt …` under the same names.
#
#   mfest         fetch production's newest manifest, and parse this branch
#   dbm           build whatever this branch has changed, and what is downstream of it; read the rest from production
#   drm           the same without tests
#   dbs MODELS    build these models; read the rest from production
#   drs MODELS    the same without tests

# The command of the checkout that this file is in; in a git worktree without an environment of its own, that of the main one.
_dataplatform() {
  local top common program
  top="$(git rev-parse --show-toplevel 2>/dev/null)"
  common="$(git rev-parse --path-format=absolute --git-common-dir 2>/dev/null)"
  for program in "$top/.venv/bin/dataplatform" "${common%/.git}/.venv/bin/dataplatform"; do
    if [ -x "$program" ]; then
      "$program" dbt "$@"
      return
    fi
  done
  command dataplatform dbt "$@"
}

mfest() { _dataplatform mfest "$@"; }
dbm() { _dataplatform dbm "$@"; }
drm() { _dataplatform drm "$@"; }
dbs() { _dataplatform dbs "$@"; }
drs() { _dataplatform drs "$@"; }

# Models and tags as the last parse left them.
_dbt_names() { cat "$(git rev-parse --show-toplevel 2>/dev/null)"/dbt_project/target/dev/names.txt 2>/dev/null; }

_dbt_complete() {
  # Not COMP_WORDS: bash breaks words at the colon of a tag.
  local typed="${COMP_LINE:0:COMP_POINT}" plus="" word
  typed="${typed##* }"
  if [[ $typed == +* ]]; then
    plus="+" typed="${typed#+}"
  fi
  COMPREPLY=()
  while IFS= read -r word; do
    word="$plus$word"
    [[ $typed == *:* && $COMP_WORDBREAKS == *:* ]] && word="${word#*:}"
    COMPREPLY+=("$word")
  done < <(compgen -W "$(_dbt_names)" -- "$typed")
}

if [ -n "${ZSH_VERSION:-}" ]; then
  # Hidden from bash, which cannot read it.
  eval '
    _dbt_complete_zsh() { local -a names; names=(${(f)"$(_dbt_names)"}); compset -P "+"; compadd -a names; }
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
    compdef _dbt_complete_zsh dbs drs
  '
else
  complete -F _dbt_complete dbs drs
fi
