#!/bin/sh
# Sets everything up on a Debian 12 that has nothing but a shell and apt, starts dragoman and has it
# interpret a recording of English speech into Portuguese. Quick the second time.
set -eu
cd "$(dirname "$0")"
. scripts/setup.sh

# shellcheck disable=SC2046 # a list of words
setup_packages $(cat scripts/packages-build.txt) python3-pip pocketsphinx-testdata
setup_build release dragoman
setup_models whisper-tiny.en marian-en-pt piper-en_US-joe-medium samples-librivox

dragoman=build/release/cli/dragoman
recording=$($dragoman models path samples-librivox)/sense_and_sensibility_01_austen_64kb-0870.wav
spoken=demo-pt.wav
port=${DEMO_PORT:-8087}

say "Starting: dragoman up"
$dragoman up --listen "127.0.0.1:$port" --asr whisper-tiny.en --translate marian-en-pt &
up=$!
trap 'kill "$up" 2>/dev/null; wait "$up" 2>/dev/null || :' EXIT INT TERM

say "Interpreting $recording into Portuguese"
$dragoman interpret "$recording" --to pt -o "$spoken" --wait 30 --server "http://127.0.0.1:$port"

say "Done. The Portuguese speech lies in $PWD/$spoken"
