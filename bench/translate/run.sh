#!/bin/sh
# Speed and quality beside Bergamot, turn by turn in one run.
#   bench/translate/run.sh BENCH_TRANSLATE PYTHON   (a Python 3.10 with bergamot, numpy and sacrebleu)
# Models: $DRAGOMAN_MODELS, else ~/.local/share/dragoman/models. Text: the Debian Reference, see parallel.py.
set -eu
bench=$1 python=$2
here=$(cd "$(dirname "$0")" && pwd)
models=${DRAGOMAN_MODELS:-$HOME/.local/share/dragoman/models}
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

cd "$work"
apt-get download -q debian-reference-en debian-reference-pt >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" reference; done
"$here/parallel.py" reference text
cd - >/dev/null

echo "The train to Lisbon leaves from platform four at seven." >"$work/10"
echo "The museum, which was founded in the nineteenth century, holds one of the largest \
collections of maps in the world, and it is free." >"$work/25"
export OMP_NUM_THREADS=1
for round in 1 2 3; do
    for words in 10 25; do
        echo "$words words, dragoman: $("$bench" "$models/marian-en-pt" 1 0 single 50 <"$work/$words" 2>&1 >/dev/null | tail -1)"
        echo "$words words, bergamot: $("$python" "$here/bergamot_lines.py" "$models/marian-en-pt" single 50 <"$work/$words" 2>&1 >/dev/null | tail -1)"
    done
    for pair in en-pt pt-en; do
        source=${pair%-*} target=${pair#*-}
        echo "$pair, dragoman: $("$bench" "$models/marian-$pair" 1 0 batch 2 <"$work/text.$source" 2>&1 >"$work/ours.$target" | tail -1)"
        echo "$pair, bergamot: $("$python" "$here/bergamot_lines.py" "$models/marian-$pair" batch 2 <"$work/text.$source" 2>&1 >"$work/theirs.$target" | tail -1)"
    done
done
for target in pt en; do
    for who in ours theirs; do
        echo "into $target, $who: BLEU, chrF $("$python" -m sacrebleu "$work/text.$target" -i "$work/$who.$target" -m bleu chrf -b -w 2 | tr -d '\n ')"
    done
done
