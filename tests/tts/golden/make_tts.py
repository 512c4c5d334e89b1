#!/usr/bin/env python3
"""Reference data of tests/tts: what piper-tts and onnxruntime make of our own sentences.

    make_tts.py MODELS    where piper-en_US-joe-medium/ is; writes beside itself

Needs piper-tts 1.8.0, onnxruntime and onnx from PyPI. All noise is off: what is left is exact.
"""
import json
import os
import sys

import numpy as np
import onnx
import onnxruntime
from piper.phoneme_ids import phonemes_to_ids
from piper.phonemize_espeak import EspeakPhonemizer

HERE = os.path.dirname(os.path.abspath(__file__))

SPOKEN = ["Good morning, Anna!", "Where is the next station?"]

# Clause ends of every kind that ordinary text has; the phonemes between them are espeak-ng's business.
TEXTS = {"en-us": [
    "Good morning, Anna!",
    "Where is the next station?",
    "Well; yes: no - maybe (in brackets) \"quoted.\" The end",
    "Dr. Brown paid $3.50 at 10:30 a.m. in St. Ives... really?!",
    "One line\nAnother line\n\nAnother paragraph",
    "Wait... What was that?",
    "Wait… no.",
    "He said \"no.\" Then he left.",
    "(Done.) Next one.",
    "Hm!? Yes.",
    "Bread — butter – jam.",
    "He said: \"Stop!\" and left.",
    "Use the .py, .rb or .js file.",
    "This. And that, too! Why? Because; so.",
    "Nothing ends here",
    "A thousand people came; two stayed.",
    "First.  Second.   Third.",
    "e.g. this one, i.e. that one.",
    "The train leaves at nine. Don't be late!",
    "Four ports, four more doors.",
], "es": [
    "Buenos días, ¿cómo está usted hoy?",
    "La reunión empieza a las diez: traiga los papeles, por favor.",
    "No sé... quizás mañana. ¡Qué alegría verte!",
], "de": [
    "Guten Morgen, wie geht es Ihnen heute?",
    "Ich weiß nicht... vielleicht morgen. Wie schön!",
]}

STAGES = {  # name: (operator, input or output of the node, which node)
    "x": ("input", "dp.pre.weight"),
    "prior": ("output", "enc_p.proj.weight"),
    "z": ("input", "dec.conv_pre.weight"),
}


def write(name, array, dtype="<f4"):
    np.ascontiguousarray(array.squeeze(), dtype=dtype).tofile(os.path.join(HERE, name))


def with_stages(path):
    """The model with its stages as outputs beside the samples."""
    model = onnx.load(path)
    names = {}
    for node in model.graph.node:
        for stage, (end, weight) in STAGES.items():
            if node.op_type == "Conv" and node.input[1] == weight:
                names[stage] = node.input[0] if end == "input" else node.output[0]
        # exp(log_w): the only Exp of the split of what the elementwise flow makes
        if node.op_type == "Sub" and node.input[1] == "dp.flows.0.m":
            shifted = node.output[0]
        if node.op_type == "Mul" and "shifted" in locals() and shifted in node.input:
            names["log_w"] = node.output[0]
    for name in names.values():
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return model.SerializeToString(), names


def run(session, outputs, ids, speaker=None, length_scale=1.0):
    feed = {"input": np.array([ids], dtype=np.int64),
            "input_lengths": np.array([len(ids)], dtype=np.int64),
            "scales": np.array([0, length_scale, 0], dtype=np.float32)}
    if speaker is not None:
        feed["sid"] = np.array([speaker], dtype=np.int64)
    return session.run(outputs, feed)


def tiny():
    data, names = with_stages(os.path.join(HERE, "en_GB-tiny-high.onnx"))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    ids = [1, 0] + [i for p in range(3, 45) for i in (p, 0)] + [2]
    stages = list(names)
    for speaker in (0, 2):
        pcm, *rest = run(session, ["output"] + [names[s] for s in stages], ids, speaker, 1.5)
        write(f"tiny_{speaker}_pcm.f32", pcm)
        for stage, array in zip(stages, rest):
            write(f"tiny_{speaker}_{stage}.f32", array[:, :1] if stage == "log_w" else array)
    write("tiny_ids.s64", np.array(ids), "<i8")
    write("tiny_one_pcm.f32", run(session, ["output"], [1], 1)[0])  # the shortest there is


def joe(models):
    folder = os.path.join(models, "piper-en_US-joe-medium")
    path = os.path.join(folder, "en_US-joe-medium.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with open(path + ".json", encoding="utf-8") as file:
        id_map = json.load(file)["phoneme_id_map"]
    phonemizer = EspeakPhonemizer()
    for i, text in enumerate(SPOKEN):
        (phonemes,) = phonemizer.phonemize("en-us", text)
        ids = phonemes_to_ids(phonemes, id_map)
        pcm = run(session, ["output"], ids)[0]
        write(f"joe_{i}_ids.s64", np.array(ids), "<i8")
        write(f"joe_{i}_pcm.s16", np.round(np.clip(pcm, -1, 1) * 32767), "<i2")


def phonemes():
    phonemizer = EspeakPhonemizer()
    table = [{"voice": voice, "text": text,
              "sentences": ["".join(s) for s in phonemizer.phonemize(voice, text)]}
             for voice, texts in TEXTS.items() for text in texts]
    with open(os.path.join(HERE, "phonemes.json"), "w", encoding="utf-8") as file:
        json.dump(table, file, ensure_ascii=False, indent=1)
        file.write("\n")


if __name__ == "__main__":
    tiny()
    joe(sys.argv[1])
    phonemes()
