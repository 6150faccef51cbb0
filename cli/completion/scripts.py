"""What `fleetctl completion` prints: a function for the shell, which asks fleetctl itself.

The line up to the cursor goes there in _FLEETCTL_LINE; every line that comes back is a candidate:
its kind, the candidate, and a word on it, with tabs between. The kinds are `plain`; `part`, after
which more is to be typed; and `file`, for which the shell knows better.
"""

_SCRIPTS = {
    "bash": r"""
_fleetctl_completion() {
    local answer kind value
    answer=$(_FLEETCTL_COMPLETE=bash_complete _FLEETCTL_LINE="${COMP_LINE:0:COMP_POINT}" \
        _FLEETCTL_WORD="$2" "${1/#\~/$HOME}" 2>/dev/null </dev/null) || return
    COMPREPLY=()
    while IFS=$'\t' read -r kind value _; do
        case $kind in
            file) compopt -o default ;;
            part) compopt -o nospace; COMPREPLY+=("$value") ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done <<<"$answer"
}
complete -o nosort -F _fleetctl_completion fleetctl 2>/dev/null ||
    complete -F _fleetctl_completion fleetctl
""",
    "zsh": r"""
#compdef fleetctl
_fleetctl() {
    local row value shown width none=1
    local -a fields plain plain_shown part part_shown
    for row in "${(@f)$(_FLEETCTL_COMPLETE=zsh_complete \
        _FLEETCTL_LINE="${(j: :)words[1,CURRENT-1]} ${QIPREFIX}${PREFIX}" \
        ${(Q)${~words[1]}} 2>/dev/null </dev/null)}"; do
        fields=("${(@ps:\t:)row}")
        value=$fields[2]
        (( width = $#value > 24 ? $#value : 24 ))
        shown="${(r:width:)value} $fields[3]"
        shown=$shown[1,COLUMNS-2]
        case $fields[1] in
            file) _files && none=0 ;;
            part) part+=("$value"); part_shown+=("$shown") ;;
            plain) plain+=("$value"); plain_shown+=("$shown") ;;
        esac
    done
    (( $#plain )) && compadd -Q -l -V plain -d plain_shown -a plain && none=0
    (( $#part )) && compadd -Q -l -V part -S '' -d part_shown -a part && none=0
    return none
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _fleetctl "$@"
else
    compdef _fleetctl fleetctl
fi
""",
    "fish": r"""
function __fleetctl_complete
    set -l program (string replace --regex '^~' $HOME (commandline -opc)[1])
    set -l answer (_FLEETCTL_COMPLETE=fish_complete _FLEETCTL_LINE=(commandline -cp) \
        $program 2>/dev/null </dev/null)
    for row in $answer
        set -l fields (string split \t -- $row)
        if test "$fields[1]" = file
            __fish_complete_path $fields[2]
        else
            echo $fields[2]\t$fields[3]
        end
    end
end
complete --command fleetctl --no-files --keep-order --arguments '(__fleetctl_complete)'
""",
}


SHELLS = tuple(_SCRIPTS)


def script_of(shell: str) -> str:
    """The completion script of that shell; raises KeyError."""
    return _SCRIPTS[shell].lstrip("\n")
