"""Make asr.json: what faster-whisper, in float32, hears in speech of Debian's packages.

Needs faster-whisper==1.2.1, soundfile, av; the models whisper-tiny.en and whisper-base (dragoman models
pull); the packages pocketsphinx-testdata and asterisk-core-sounds-es-g722. Run: make_asr.py [MODELS]

spanish.ogg is made here too: Asterisk's prompt "demo-instruct", read by Allison Smith, CC BY-SA 3.0.
"""
import json
import os
import sys

import av
import numpy as np
import soundfile as sf
from faster_whisper import WhisperModel

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = sys.argv[1] if len(sys.argv) > 1 else os.path.expanduser("~/.local/share/dragoman/models")
LIBRIVOX = "/usr/share/pocketsphinx/test/data/librivox/sense_and_sensibility_01_austen_64kb-%s.wav"
SPANISH = "/usr/share/asterisk/sounds/es_MX_f_Allison/demo-instruct.g722"
RATE = 16000


def make_spanish():
    with av.open(SPANISH, format="g722") as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    pcm = np.concatenate(frames, axis=1)[0]
    sf.write(os.path.join(HERE, "spanish.ogg"), pcm.astype(np.int16), RATE, format="OGG", subtype="VORBIS")


def clip(parts):
    """A list of files and of seconds of silence; [file, seconds] is the beginning of a file."""
    pcm = []
    for part in parts:
        if isinstance(part, (int, float)):
            pcm.append(np.zeros(int(part * RATE), np.int16))
            continue
        name, seconds = part if isinstance(part, list) else (part, None)
        path = name if name.startswith("/") else os.path.join(HERE, name)
        samples = sf.read(path, dtype="int16")[0]
        pcm.append(samples[: int(seconds * RATE)] if seconds else samples)
    return np.concatenate(pcm).astype(np.float32) / 32768


austen = [LIBRIVOX % n for n in ("0870", "0880", "0890", "0920", "0930")]
long = [austen[0], 1, austen[1], austen[2], 3, austen[3], 0.5, austen[4], 2, austen[2], austen[0], 1.5,
        austen[1], austen[3], 1, austen[4], austen[0]]
cases = []


def case(name, model, parts, **options):
    cases.append({"name": name, "model": model, "parts": parts, "options": options})


for i, file in enumerate(austen):
    for beam in (1, 5):
        case(f"tiny.en, sentence {i}, beam {beam}", "whisper-tiny.en", [file], beam_size=beam)
case("tiny.en, a minute, beam 1", "whisper-tiny.en", long, beam_size=1)
case("tiny.en, a minute, beam 5", "whisper-tiny.en", long, beam_size=5)
case("tiny.en, each window on its own", "whisper-tiny.en", long, beam_size=5, condition_on_previous_text=False)
case("tiny.en, after a text", "whisper-tiny.en", [austen[3]], beam_size=5,
     initial_prompt="  Mrs. JOHN DASHWOOD, 1811; it's \u201cselfish\u201d\u2026 ")
case("tiny.en, with words to favour", "whisper-tiny.en", [austen[0]], beam_size=5, hotwords="Dashwoode, pruudently")
case("tiny.en, without timestamps", "whisper-tiny.en", [austen[2]], beam_size=5, without_timestamps=True)
case("tiny.en, silence", "whisper-tiny.en", [4], beam_size=1)
case("tiny.en, exactly 30 s", "whisper-tiny.en", [austen[0], 22.9], beam_size=1)
case("tiny.en, beam 8", "whisper-tiny.en", [austen[3], austen[1]], beam_size=8)
case("base, sentence, beam 1", "whisper-base", [austen[0]], beam_size=1)
case("base, sentence, beam 5", "whisper-base", [austen[2]], beam_size=5)
case("base, Spanish, beam 1", "whisper-base", ["spanish.ogg"], beam_size=1)
case("base, Spanish, beam 5", "whisper-base", ["spanish.ogg"], beam_size=5)
case("base, Spanish told as such", "whisper-base", [["spanish.ogg", 12]], beam_size=5, language="es")
case("base, Spanish to English", "whisper-base", [["spanish.ogg", 20]], beam_size=5, language="es", task="translate")
case("tiny.en, words", "whisper-tiny.en", [austen[0], 1, austen[2]], beam_size=5, word_timestamps=True)
case("tiny.en, a minute's words", "whisper-tiny.en", long, beam_size=1, word_timestamps=True)
case("base, Spanish words", "whisper-base", ["spanish.ogg"], beam_size=1, language="es", word_timestamps=True)

make_spanish()
models = {}
for c in cases:
    if c["model"] not in models:
        models[c["model"]] = WhisperModel(os.path.join(MODELS, c["model"]), device="cpu", compute_type="float32",
                                          cpu_threads=1)
    segments, info = models[c["model"]].transcribe(clip(c["parts"]), **c["options"])
    c["language"], c["language_probability"] = info.language, round(info.language_probability, 4)
    c["segments"] = []
    for s in segments:
        assert s.temperature == 0, f"{c['name']}: sampled, which the reference does at random"
        c["segments"].append({
            "start_ms": round(s.start * 1000), "end_ms": round(s.end * 1000), "seek_ms": s.seek * 10,
            "text": s.text, "tokens": s.tokens, "avg_log_prob": round(s.avg_logprob, 5),
            "no_speech_prob": round(s.no_speech_prob, 5), "compression_ratio": round(s.compression_ratio, 5),
            "words": [[w.word, round(w.start * 1000), round(w.end * 1000), round(w.probability, 4)]
                      for w in s.words or []],
        })
    print(c["name"], *(s["text"] for s in c["segments"]))
with open(os.path.join(HERE, "asr.json"), "w", encoding="utf-8") as file:
    file.write("[\n" + ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "\n]\n")
