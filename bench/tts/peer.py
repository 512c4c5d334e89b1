"""peer.py FOLDER SENTENCE THREADS: what bench_tts does, by piper-tts."""
import glob
import resource
import sys
import time

import onnxruntime
from piper import PiperVoice, SynthesisConfig

folder, sentence, threads = sys.argv[1:]
path = glob.glob(f"{folder}/*.onnx")[0]
voice = PiperVoice.load(path)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
voice.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
settings = SynthesisConfig(noise_scale=0, noise_w_scale=0, normalize_audio=False)
for _ in sys.stdin:
    wall, cpu, first, samples = time.monotonic(), time.process_time(), None, 0
    for chunk in voice.synthesize(sentence, settings):
        samples += len(chunk.audio_int16_bytes) // 2
        first = first or time.monotonic() - wall
    print(f"{time.monotonic() - wall:.4f} {time.process_time() - cpu:.4f} {first:.4f} "
          f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} "
          f"{samples / voice.config.sample_rate:.3f}", flush=True)
