"""Make mel_*.f32 and bpe.json: what faster-whisper's spectrogram and Hugging Face's tokenizer give.

Needs faster-whisper==1.2.1, tokenizers, soundfile, pocketsphinx-testdata and the models. Run: make_parts.py [MODELS]
"""
import json
import os
import sys

import numpy as np
import soundfile as sf
import tokenizers
from faster_whisper.feature_extractor import FeatureExtractor
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = sys.argv[1] if len(sys.argv) > 1 else os.path.expanduser("~/.local/share/dragoman/models")
SPEECH = "/usr/share/pocketsphinx/test/data/librivox/sense_and_sensibility_01_austen_64kb-0880.wav"

pcm = sf.read(SPEECH, dtype="int16")[0][8000:24000].astype(np.float32) / 32768
for bands in (80, 128):
    FeatureExtractor(feature_size=bands)(pcm).astype("<f4").tofile(os.path.join(HERE, f"mel_{bands}.f32"))

TEXTS = [
    "", " ", "  ", "a", "Hello, world!", " And so my fellow Americans", "don't we'll I'm you're they've he'd it's DON'T",
    "1234567 12,345.67 \u00bd \u0663\u0664 \u2167", "  two  spaces   three\t\ttabs\n\nlines \n end  ",
    "caf\u00e9 na\u00efve \u00fcber \u0441\u043b\u043e\u0432\u043e \u03bb\u03cc\u03b3\u03bf\u03c2",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002", "\u3053\u3093\u306b\u3061\u306f\u3000\u4e16\u754c", "\ud55c\uad6d\uc5b4",
    "\u0939\u093f\u0928\u094d\u0926\u0940", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "e\u0301 combining",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 emoji", "\u266a\u266a\u266a \u266b [MUSIC] (applause)",
    "<<>> -- --- -( -[ (' (\" ((( ))) {{ }}", "\u2014 \u2026 \u201cquoted\u201d \u00a0nbsp\u2003em",
    "x" * 200, "aaaaaaaaaaaaaaaabbbbbbbbbbbb    ccccc", "http://example.org/a?b=c&d=e#f", "C\u0327a va? \u00bfQu\u00e9? \u00a1S\u00ed!",
    "trailing space ", "\u0001\u007f\u0080\u009f control", "\ufeffBOM \ufffd replacement",
]
out = {}
for name in ("whisper-tiny.en", "whisper-base"):
    hf = tokenizers.Tokenizer.from_file(os.path.join(MODELS, name, "tokenizer.json"))
    tokenizer = Tokenizer(hf, name == "whisper-base", task="transcribe", language="en")
    special = {hf.token_to_id(t) for t in ("<|endoftext|>", "<|startoftranscript|>", "<|en|>")}
    decoded = []
    for ids in ([171, 119, 123], [171, 119], [119, 220, 171], [15496, 50258, 11], [50256, 50257, 220], [1, 2, 3, 60000]):
        decoded.append([ids, hf.decode([i for i in ids if i < hf.get_vocab_size()])])
    out[name] = {
        "encoded": [[text, hf.encode(text, add_special_tokens=False).ids] for text in TEXTS],
        "decoded": decoded,
        "suppressed": get_suppressed_tokens(tokenizer, [-1]),
    }
with open(os.path.join(HERE, "bpe.json"), "w", encoding="utf-8") as file:
    json.dump(out, file)
