#!/bin/sh
# keys.sh FOLDER - key pairs for a whole stack: a broker, the workers, the gateway, and an operator.
#
# What is there already stays. Each may only do its own: FOLDER/callers and FOLDER/workers hold the
# certificates that the broker lets in. Uses $DRAGOMAN, else the dragoman that was built here, else the
# image dragoman.
set -eu
folder=$1
root=$(cd "$(dirname "$0")/.." && pwd)

keys() {
    if [ -n "${DRAGOMAN:-}" ]; then
        "$DRAGOMAN" keys "$@"
    elif [ -x "$root/build/release/cli/dragoman" ]; then
        "$root/build/release/cli/dragoman" keys "$@"
    else
        docker run --rm --user "$(id -u):$(id -g)" -v "$folder:$folder" dragoman keys "$@"
    fi
}

# make_pair NAME GROUP [SERVICES]: GROUP is a folder whose certificates the broker lets in, or empty
make_pair() {
    if [ ! -e "$folder/$1.key" ]; then
        keys new "$1" -o "$folder" ${3:+--services "$3"} >/dev/null
        [ -z "$2" ] || cp "$folder/$1.cert" "$folder/$2/"
        echo "$folder/$1.key"
    fi
}

mkdir -p -m 700 "$folder"
folder=$(cd "$folder" && pwd)
mkdir -p -m 700 "$folder/callers" "$folder/workers"
make_pair broker ""
make_pair gateway callers
make_pair operator callers
make_pair asr workers 'dragoman.asr.*'
make_pair translate workers 'dragoman.translate.*'
make_pair tts workers 'dragoman.tts.*'
