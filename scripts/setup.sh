# Sourced by quickstart.sh and test.sh: makes .venv and installs the project with the tested
# versions, once; again when pyproject.toml or constraints.txt change. Leaves the shell in the repository.
cd "$(dirname "${BASH_SOURCE[0]}")/.."

install() { # install EXTRAS: "" or "[dev]"
    local python=${PYTHON:-$(command -v python3.11 || command -v python3)}
    local stamp=".venv/installed$1" wanted
    wanted=$(cat pyproject.toml scripts/constraints.txt | cksum)
    if [[ -x .venv/bin/python && -f $stamp && $(<"$stamp") == "$wanted" ]]; then
        return
    fi
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "error: $python is older than Python 3.11; name another with PYTHON=..." >&2
        exit 2
    }
    echo "Installing into .venv (a few minutes the first time) ..."
    "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --constraint scripts/constraints.txt --editable ".$1"
    echo "$wanted" >"$stamp"
}
