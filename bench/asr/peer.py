"""faster-whisper as bench_asr is: peer.py MODEL WAV BEAM THREADS COMPUTE_TYPE"""
import resource
import sys
import time

import soundfile
from faster_whisper import WhisperModel

folder, wav, beam, threads, compute_type = sys.argv[1:]
pcm = soundfile.read(wav, dtype="float32")[0]
model = WhisperModel(folder, device="cpu", compute_type=compute_type, cpu_threads=int(threads))
for line in sys.stdin:
    wall, cpu = time.perf_counter(), time.process_time()
    segments, _ = model.transcribe(pcm, beam_size=int(beam))
    tokens = sum(len(s.tokens) for s in segments)
    print(f"{time.perf_counter() - wall:.4f} {time.process_time() - cpu:.4f}",
          resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, tokens, flush=True)
