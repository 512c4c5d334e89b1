"""Make tiny/, a Whisper of random weights, and tiny.json, what faster-whisper makes of speech with it.

It says nonsense, and so takes every odd path: timestamps in strange places, endless repetition, empty
windows. It is also small enough for sanitizers and for fuzzing.
Needs faster-whisper==1.2.1, soundfile and pocketsphinx-testdata. Run: make_tiny.py
"""
import json
import os
import struct

import numpy as np
import soundfile as sf
from faster_whisper import WhisperModel

HERE = os.path.dirname(os.path.abspath(__file__))
LIBRIVOX = "/usr/share/pocketsphinx/test/data/librivox/sense_and_sensibility_01_austen_64kb-%s.wav"
C, HEADS, FFN, LAYERS, MELS, AUDIO, TEXT = 32, 2, 64, 2, 80, 1500, 448
rng = np.random.default_rng(4)

# The vocabulary: all bytes, a few merges, Whisper's special tokens, timestamps.
printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
alphabet = {b: chr(b) for b in printable}
for b in range(256):
    alphabet.setdefault(b, chr(256 + len(alphabet) - len(printable)))
merges = [("\u0120", "t"), ("h", "e"), ("i", "n"), ("\u0120t", "he"), ("e", "r"), ("o", "n"), ("\u0120", "a"), ("n", "d"),
          ("\u0120a", "nd"), ("-", "-"), ("\u0120", "-"), ("\u0120", "'"), ("\u0120", "("), ("\u00e2", "\u013b")]
plain = [alphabet[b] for b in [*printable, *(b for b in range(256) if b not in printable)]]
plain += [a + b for a, b in merges]
special = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>",
           "<|startofprev|>", "<|nocaptions|>", "<|notimestamps|>"]
vocab = plain + special + [f"<|{i * 0.02:.2f}|>" for i in range(1501)]
ids = {token: i for i, token in enumerate(vocab)}

variables = {}


def matrix(name, *shape, scale=None):
    variables[name] = (rng.standard_normal(shape) * (scale or shape[-1] ** -0.5)).astype(np.float16)


def linear(name, n, k):
    matrix(name + "/weight", n, k)
    variables[name + "/bias"] = (rng.standard_normal(n) * 0.1).astype(np.float16)


def norm(name):
    variables[name + "/gamma"] = (1 + 0.1 * rng.standard_normal(C)).astype(np.float16)
    variables[name + "/beta"] = (0.1 * rng.standard_normal(C)).astype(np.float16)


for side in ("encoder", "decoder"):
    for i in range(LAYERS):
        scope = f"{side}/layer_{i}"
        norm(scope + "/self_attention/layer_norm")
        linear(scope + "/self_attention/linear_0", 3 * C, C)
        linear(scope + "/self_attention/linear_1", C, C)
        if side == "decoder":
            norm(scope + "/attention/layer_norm")
            linear(scope + "/attention/linear_0", C, C)
            linear(scope + "/attention/linear_1", 2 * C, C)
            linear(scope + "/attention/linear_2", C, C)
        norm(scope + "/ffn/layer_norm")
        linear(scope + "/ffn/linear_0", FFN, C)
        linear(scope + "/ffn/linear_1", C, FFN)
    norm(side + "/layer_norm")
    variables[side + "/num_heads"] = np.int16(HEADS)
matrix("encoder/conv1/weight", C, MELS, 3, scale=0.3)
matrix("encoder/conv2/weight", C, C, 3, scale=0.3)
for conv in ("conv1", "conv2"):
    variables[f"encoder/{conv}/bias"] = (rng.standard_normal(C) * 0.1).astype(np.float16)
matrix("encoder/position_encodings/encodings", AUDIO, C, scale=1)
matrix("decoder/position_encodings/encodings", TEXT, C, scale=2)
matrix("decoder/embeddings/weight", len(vocab), C, scale=0.7)
for name, value in (("activation", 3), ("alibi", 0), ("pre_norm", 1), ("scale_embeddings", 0),
                    ("start_from_zero_embedding", 0)):
    variables["decoder/" + name] = np.int8(value)
variables["decoder/alignment_heads"] = np.int16(1)
variables["decoder/alignment_layer"] = np.int16(-1)
for side in ("encoder", "decoder"):
    variables[side + "/activation"] = np.int8(3)
    variables[side + "/pre_norm"] = np.int8(1)


def text(value):
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


folder = os.path.join(HERE, "tiny")
os.makedirs(folder, exist_ok=True)
types = {"float16": 4, "int8": 1, "int16": 2}
with open(os.path.join(folder, "model.bin"), "wb") as file:
    file.write(struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(variables)))
    for name in sorted(variables):
        value = np.asarray(variables[name])
        file.write(text(name) + struct.pack("<B", value.ndim) + b"".join(struct.pack("<I", d) for d in value.shape))
        file.write(struct.pack("<BI", types[str(value.dtype)], value.nbytes) + value.tobytes())
    file.write(struct.pack("<I", 1) + text("decoder/projection/weight") + text("decoder/embeddings/weight"))
with open(os.path.join(folder, "vocabulary.txt"), "w", encoding="utf-8") as file:
    file.write("\n".join(vocab) + "\n")
with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as file:
    level = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True, "type": "ByteLevel"}
    added = [{"id": ids[t], "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True} for t in special]
    json.dump({"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
               "pre_tokenizer": level, "post_processor": None, "decoder": level,
               "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                         "end_of_word_suffix": "", "fuse_unk": False, "vocab": {t: ids[t] for t in plain},
                         "merges": [f"{a} {b}" for a, b in merges]}}, file)
with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
    json.dump({"alignment_heads": [[0, 1], [1, 0]], "lang_ids": [ids["<|en|>"]], "suppress_ids": [],
               "suppress_ids_begin": [ids["\u0120"], ids["<|endoftext|>"]]}, file)

parts = [LIBRIVOX % "0870", 2, LIBRIVOX % "0880", LIBRIVOX % "0890", LIBRIVOX % "0920", 9, LIBRIVOX % "0930"] * 3
pcm = np.concatenate([np.zeros(p * 16000, np.int16) if isinstance(p, int) else sf.read(p, dtype="int16")[0]
                      for p in parts]).astype(np.float32) / 32768
model = WhisperModel(folder, device="cpu", compute_type="float32", cpu_threads=1)
cases = []
for options in ({"beam_size": 1}, {"beam_size": 2}, {"beam_size": 5}, {"beam_size": 8},
                {"beam_size": 5, "condition_on_previous_text": False}, {"beam_size": 1, "word_timestamps": True},
                {"beam_size": 3, "initial_prompt": "the -- (and"}):
    segments, info = model.transcribe(pcm, temperature=[0.0], **options)
    cases.append({"name": f"random weights, {options}", "model": "tiny", "parts": parts, "options": options,
                  "language": info.language, "language_probability": 1, "segments": [{
                      "start_ms": round(s.start * 1000), "end_ms": round(s.end * 1000), "seek_ms": s.seek * 10,
                      "text": s.text, "tokens": s.tokens, "avg_log_prob": round(s.avg_logprob, 5),
                      "no_speech_prob": round(s.no_speech_prob, 5), "compression_ratio": round(s.compression_ratio, 5),
                      "words": [[w.word, round(w.start * 1000), round(w.end * 1000), round(w.probability, 4)]
                                for w in s.words or []]} for s in segments]})
    print(options, [(s["seek_ms"], s["start_ms"], s["end_ms"], len(s["tokens"]), s["avg_log_prob"],
                     s["compression_ratio"]) for s in cases[-1]["segments"]])
os.remove(os.path.join(folder, "vocabulary.txt"))  # only the reference reads it
with open(os.path.join(HERE, "tiny.json"), "w", encoding="utf-8") as file:
    file.write("[\n" + ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "\n]\n")
