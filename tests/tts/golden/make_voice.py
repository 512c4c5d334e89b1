#!/usr/bin/env python3
"""Make a tiny voice with random weights, by Piper's own network and exporter.

It has what the voice that the other tests use has not: three speakers, residual blocks of kind 1
("high" voices) and an odd number of symbols. Needs the training code of piper-tts (as a folder, it is
not imported as a package: that would pull in Lightning) and torch 1.11.0:

    make_voice.py PATH/piper/train tiny
"""
import json
import os
import sys

import torch

sys.path.insert(0, sys.argv[1])
from vits import models  # noqa: E402

PHONEMES = "_^$ ,.?!:;abdefhijklmnopstuvwzæðŋɐɑɔəɚɛɜɡɪɹʃʊʌʒˈˌːθᵻ"


def build():
    torch.manual_seed(7)
    net = models.SynthesizerTrn(
        n_vocab=len(PHONEMES) + 3, spec_channels=9, segment_size=32, inter_channels=12,
        hidden_channels=12, filter_channels=20, n_heads=2, n_layers=2, kernel_size=3, p_dropout=0.1,
        resblock="1", resblock_kernel_sizes=(3, 7),
        resblock_dilation_sizes=((1, 3, 5), (1, 3, 5)), upsample_rates=(8, 4, 2),
        upsample_initial_channel=24, upsample_kernel_sizes=(16, 8, 4), n_speakers=3, gin_channels=6)
    for name, p in net.named_parameters():
        if name.endswith("weight_g") or ("norm" in name and name.endswith("gamma")):
            continue
        # Layers that training starts at zero (splines, couplings) get something to do.
        scale = 0.3 if p.abs().max() < 1e-9 or name.endswith(("bias", "beta", "logs", ".m")) else None
        if scale:
            p.data.normal_(0, scale)
    net.dp.flows[0].m.data.fill_(0.2)
    net.dp.flows[0].logs.data.fill_(0.1)
    net.eval()
    with torch.no_grad():
        net.dec.remove_weight_norm()
    return net


def export(net, path):
    def infer(text, lengths, scales, sid=None):
        return net.infer(text, lengths, noise_scale=scales[0], length_scale=scales[1],
                         noise_scale_w=scales[2], sid=sid)[0].unsqueeze(1)

    net.forward = infer
    ids = torch.randint(0, net.n_vocab, (1, 20), dtype=torch.long)
    torch.onnx.export(
        model=net, args=(ids, torch.LongTensor([20]), torch.FloatTensor([0.667, 1.0, 0.8]),
                         torch.LongTensor([0])),
        f=path, opset_version=15, input_names=["input", "input_lengths", "scales", "sid"],
        output_names=["output"],
        dynamic_axes={"input": {0: "batch_size", 1: "phonemes"}, "input_lengths": {0: "batch_size"},
                      "output": {0: "batch_size", 2: "time"}})


def config():
    ids = {c: [i] for i, c in enumerate(PHONEMES)}
    ids["aɪ"] = [len(PHONEMES)]
    ids["x"] = [len(PHONEMES) + 1, len(PHONEMES) + 2]
    return {
        "audio": {"sample_rate": 8000, "quality": "tiny"}, "espeak": {"voice": "en-us"},
        "inference": {"noise_scale": 0.5, "length_scale": 1.5, "noise_w": 0.6},
        "phoneme_type": "espeak", "phoneme_id_map": ids, "vowel_clusters": [["a", "ɪ"]],
        "num_symbols": len(PHONEMES) + 3, "num_speakers": 3,
        "speaker_id_map": {"ann": 0, "bob": 1, "eve": 2},
        "language": {"code": "en_GB", "family": "en", "region": "GB"}}


if __name__ == "__main__":
    folder = sys.argv[2]
    os.makedirs(folder, exist_ok=True)
    export(build(), f"{folder}/en_GB-tiny-high.onnx")
    with open(f"{folder}/en_GB-tiny-high.onnx.json", "w", encoding="utf-8") as file:
        json.dump(config(), file, ensure_ascii=False, indent=1)
