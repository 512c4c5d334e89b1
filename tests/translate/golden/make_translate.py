#!/usr/bin/env python3
"""Makes the reference data of tests/translate: run it from this folder.

    python3 -m venv venv && venv/bin/pip install numpy sentencepiece
    venv/bin/python make_translate.py            # MODELS names the folder of the models

Writes
  enpt.int8.txt, pten.int8.txt              exact int8 arithmetic, all words, greedy
  enpt.shortlist.txt, pten.shortlist.txt    the same with each sentence's own shortlist
  enpt.beam4.txt, pten.beam4.txt            the same with a beam of four, for the first sentences
  tiny/                                     a random model of other depths and widths with separate
                                            vocabularies, and what it makes of sentences.txt

The forward pass below is written for this purpose, from the papers and the files; it shares nothing
with the C code but the order in which floats are added, see translate/marian/exact.h: without it
results differ from machine to machine. pten translates back what enpt.int8.txt says.

`make_translate.py agreement` counts how many lines of the int8 files a pass gives whose scores are summed
by this machine's BLAS; OPENBLAS_CORETYPE chooses another kernel.

With PyPI's bergamot (wheels up to Python 3.10), `make_translate.py bergamot` writes
enpt.bergamot.txt and pten.bergamot.txt: what Bergamot 0.4.5 itself says, one call a sentence.
"""
import io
import os
import struct
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np
import sentencepiece

MODELS = os.environ.get("MODELS", os.path.expanduser("~/.local/share/dragoman/models"))
HERE = os.path.dirname(os.path.abspath(__file__))
BEAM_LINES = 40
F32, INT8, TEXT = 0x0404, 0x4101, 0x0101


def read_marian(path):
    """{name: (type, shape, bytes)}"""
    data = open(path, "rb").read()
    version, n = struct.unpack_from("<QQ", data)
    assert version == 1
    at, tensors = 16 + 32 * n, {}
    heads = [struct.unpack_from("<QQQQ", data, 16 + 32 * i) for i in range(n)]
    names = []
    for head in heads:
        names.append(data[at : at + head[0] - 1].decode())
        at += head[0]
    shapes = []
    for head in heads:
        shapes.append(struct.unpack_from("<%di" % head[2], data, at))
        at += 4 * head[2]
    at += 8 + struct.unpack_from("<Q", data, at)[0]
    for head, name, shape in zip(heads, names, shapes):
        tensors[name] = (head[1], shape, data[at : at + head[3]])
        at += head[3]
    return tensors


def read_yaml(text):
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line and line[0] != " ")


def dots(q, k):
    """(heads, t_q, t_k) dot products in f32, as OpenBLAS sums them on AVX-512: fused, in lanes."""
    t_q, t_k, d = q.shape[1], k.shape[1], q.shape[2]
    n = 8 if t_q == 1 else 16 if t_q * t_k <= 1200 else 1
    q, k = q[:, :, None].astype(np.longdouble), k[:, None].astype(np.longdouble)  # products are exact
    sums = np.zeros((len(q), t_q, t_k, n), np.float32)
    for j in range(0, d, n):
        part = q[..., j : j + n] * k[..., j : j + n]
        sums[..., : part.shape[-1]] = sums[..., : part.shape[-1]] + part
    if n == 8:
        sums = sums[..., :4] + sums[..., 4:]
    while sums.shape[-1] > 1:
        sums = sums[..., 0::2] + sums[..., 1::2]
    return sums[..., 0]


class Student:
    def __init__(self, path):
        self.f32, self.s8, self.scale = {}, {}, {}
        for name, (kind, shape, data) in read_marian(path).items():
            count = int(np.prod(shape))
            if kind == TEXT:
                self.config = read_yaml(data.rstrip(b"\0").decode())
            elif kind == F32:
                self.f32[name] = np.frombuffer(data, "<f4", count).reshape(shape)
            else:
                stored = np.frombuffer(data, np.int8, count)
                scale = np.frombuffer(data[count : count + 4], "<f4")[0]
                if name.endswith("_QuantMultA"):
                    self.f32[name] = np.float32(stored[0] / scale).reshape(1, 1)
                    continue
                rows = shape if "Wemb" in name else (shape[1], shape[0])
                self.s8[name] = stored.reshape(rows).astype(np.float64)  # exact sums in f64
                self.scale[name] = scale
        self.d = int(self.config["dim-emb"])
        self.heads = int(self.config["transformer-heads"])
        self.source = "Wemb" if "Wemb" in self.s8 else "encoder_Wemb"
        self.target = "Wemb" if "Wemb" in self.s8 else "decoder_Wemb"

    def product(self, x, name, rows=None):
        alpha = self.f32[name + "_QuantMultA"].item()
        q = np.clip(np.rint(x * alpha), -127, 127).astype(np.float64)
        w = self.s8[name] if rows is None else self.s8[name][rows]
        divisor = np.float32(alpha) * self.scale[name]
        return (q @ w.T).astype(np.float32) / divisor  # sums of integers: exact in f64

    def affine(self, x, prefix, suffix):
        return self.product(x, prefix + "_W" + suffix) + self.f32[prefix + "_b" + suffix]

    def norm(self, x, prefix):
        mean = x.mean(-1, keepdims=True)  # pairwise summation
        spread = np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + np.float32(1e-6))
        return (x - mean) / spread * self.f32[prefix + "_ln_scale"] + self.f32[prefix + "_ln_bias"]

    def attend(self, q, k, v):
        split = lambda x: x.reshape(len(x), self.heads, -1).transpose(1, 0, 2)
        q, k, v = split(q), split(k), split(v)
        scores = dots(q, k).astype(np.float64) / np.sqrt(self.d // self.heads)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ v.astype(np.float64)
        return mixed.transpose(1, 0, 2).reshape(q.shape[1], self.d)

    def ffn(self, x, prefix):
        hidden = np.maximum(self.affine(x, prefix, "1"), 0)
        return self.norm(x + self.product(hidden, prefix + "_W2") + self.f32[prefix + "_b2"], prefix + "_ffn")

    def embed(self, name, ids):
        return self.s8[name][ids].astype(np.float32) / self.scale[name] * np.float32(np.sqrt(self.d))

    def positions(self, first, n):
        half = self.d // 2
        angle = np.arange(first, first + n)[:, None] * np.exp(-np.arange(half) * np.log(1e4) / (half - 1))
        return np.concatenate([np.sin(angle), np.cos(angle)], 1).astype(np.float32)

    def encode(self, ids):
        x = self.embed(self.source, ids) + self.positions(0, len(ids))
        for layer in range(1, int(self.config["enc-depth"]) + 1):
            p = f"encoder_l{layer}_self"
            mixed = self.attend(*(self.affine(x, p, s) for s in "qkv"))
            x = self.norm(x + self.affine(mixed, p, "o"), p + "_Wo")
            x = self.ffn(x, f"encoder_l{layer}_ffn")
        return x

    def memory(self, x):
        layers = range(1, int(self.config["dec-depth"]) + 1)
        return [tuple(self.affine(x, f"decoder_l{l}_context", s) for s in "kv") for l in layers]

    def step(self, word, at, cells, memory):
        """The decoder's output and new cells; word None at the start."""
        x = self.positions(at, 1) + (0 if word is None else self.embed(self.target, [word]))
        new = []
        for layer, (k, v) in enumerate(memory, 1):
            p = f"decoder_l{layer}_rnn"
            f = 1 / (1 + np.exp(-self.affine(x, p, "f").astype(np.float64)).astype(np.float32))
            new.append(f * cells[layer - 1] + (1 - f) * self.product(x, p + "_W"))
            x = self.norm(x + np.maximum(new[-1], 0), p + "_ffn")
            p = f"decoder_l{layer}_context"
            mixed = self.attend(self.affine(x, p, "q"), k, v)
            x = self.norm(x + self.affine(mixed, p, "o"), p + "_Wo")
            x = self.ffn(x, f"decoder_l{layer}_ffn")
        return x, new

    def logits(self, x, words):
        bias = self.f32["decoder_ff_logit_out_b"].reshape(-1)
        rows = slice(None) if words is None else words
        return (self.product(x, self.target, rows) + bias[rows]).reshape(-1)

    def search(self, ids, beam, words=None):
        """Marian's beam search; of length-normalized scores the best."""
        memory, eos, unk = self.memory(self.encode(ids)), 0, 1
        zeros = [np.zeros((1, self.d), np.float32) for _ in memory]
        live, done, longest = [([], 0.0, zeros)], [], int(2.5 * len(ids)) + 2
        for at in range(longest):
            found = []
            for n, (path, score, cells) in enumerate(live):
                y, new = self.step(path[-1] if path else None, at, cells, memory)
                logits = self.logits(y, words).astype(np.float64)
                logp = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
                index = np.arange(len(logits)) if words is None else np.asarray(words)
                logp[index == unk] = -np.inf
                best = np.argsort(-logp, kind="stable")[:beam]
                found += [(score + logp[i], n, int(index[i]), new) for i in best]
            found = sorted(found, key=lambda c: -c[0])[: beam - len(done)]
            grown = []
            for score, n, word, new in found:
                if word == eos:
                    done.append((score / (at + 1), live[n][0]))
                elif at + 1 == longest:
                    done.append((score / (at + 1), live[n][0] + [word]))
                else:
                    grown.append((live[n][0] + [word], score, new))
            live = grown
            if not live:
                break
        return max(done, key=lambda d: d[0])[1]


def read_shortlist(path):
    """sentence, n_words -> the words that it may become; the 512 most frequent ones are always there"""
    data = open(path, "rb").read()
    _, _, first, _, n_offsets, n_ids = struct.unpack_from("<6Q", data)
    first = max(first, 512)
    offsets = np.frombuffer(data, "<u8", n_offsets, 48)
    ids = np.frombuffer(data, "<u4", n_ids, 48 + 8 * n_offsets)

    def words(source, n_words):
        chosen = set(range(first)).union(*(ids[offsets[i] : offsets[i + 1]].tolist() for i in source))
        more = (i for i in range(first, n_words) if i not in chosen)
        while len(chosen) % 8:
            chosen.add(next(more))
        return sorted(chosen)

    return words


def write(name, lines):
    open(os.path.join(HERE, name), "w").write("".join(line + "\n" for line in lines))
    print(name, len(lines))


def lines_of(name):
    return open(os.path.join(HERE, name)).read().splitlines()


def make_pair(source, target, lines):
    pair, folder = source + target, os.path.join(MODELS, f"marian-{source}-{target}")
    student = Student(os.path.join(folder, f"model.{pair}.intgemm.alphas.bin"))
    vocab = sentencepiece.SentencePieceProcessor(model_file=os.path.join(folder, f"vocab.{pair}.spm"))
    shortlist = read_shortlist(os.path.join(folder, f"lex.50.50.{pair}.s2t.bin"))
    ids = [vocab.encode(line) + [0] for line in lines]
    size = vocab.get_piece_size()
    short = [vocab.decode(student.search(i, 1, shortlist(i, size))) for i in ids]
    write(pair + ".shortlist.txt", short)
    beam = [vocab.decode(student.search(i, 4, shortlist(i, size))) for i in ids[:BEAM_LINES]]
    write(pair + ".beam4.txt", beam)
    full = [vocab.decode(student.search(i, 1)) for i in ids]
    write(pair + ".int8.txt", full)
    return full


# A model of other dimensions, with random weights ---------------------------------------------------


def tiny_tensors(rng, d, ffn, heads, enc, dec, n_source, n_target):
    tensors = {}

    def f32(name, shape, mean=0.0, spread=0.1):
        tensors[name] = (F32, shape, rng.normal(mean, spread, shape).astype("<f4").tobytes())

    def s8(name, n_in, n_out, embedding=False):
        rows = (n_in, n_out) if embedding else (n_out, n_in)
        w = rng.normal(0, 1.0 if embedding else 0.4, rows)
        scale = np.float32(127 / np.abs(w).max())
        data = np.rint(w * scale).astype(np.int8).tobytes() + scale.astype("<f4").tobytes()
        tensors[name] = (INT8, (n_in, n_out), data)
        tensors[name + "_QuantMultA"] = (F32, (1, 1), np.float32(rng.uniform(20, 40)).astype("<f4").tobytes())

    def affine(prefix, suffix, n_in, n_out):
        s8(f"{prefix}_W{suffix}", n_in, n_out)
        f32(f"{prefix}_b{suffix}", (1, n_out))

    def norm(prefix):
        f32(prefix + "_ln_scale", (1, d), 1.0)
        f32(prefix + "_ln_bias", (1, d))

    def attention(prefix):
        for suffix in "qkvo":
            affine(prefix, suffix, d, d)
        norm(prefix + "_Wo")

    def feed_forward(prefix):
        affine(prefix, "1", d, ffn)
        affine(prefix, "2", ffn, d)
        norm(prefix + "_ffn")

    for layer in range(1, enc + 1):
        attention(f"encoder_l{layer}_self")
        feed_forward(f"encoder_l{layer}_ffn")
    for layer in range(1, dec + 1):
        s8(f"decoder_l{layer}_rnn_W", d, d)
        affine(f"decoder_l{layer}_rnn", "f", d, d)
        norm(f"decoder_l{layer}_rnn_ffn")
        attention(f"decoder_l{layer}_context")
        feed_forward(f"decoder_l{layer}_ffn")
    s8("encoder_Wemb", n_source, d, embedding=True)
    s8("decoder_Wemb", n_target, d, embedding=True)
    f32("decoder_ff_logit_out_b", (1, n_target))
    config = {"type": "transformer", "dec-cell": "ssru", "transformer-decoder-autoreg": "rnn",
              "dim-emb": d, "transformer-dim-ffn": ffn, "transformer-heads": heads,
              "enc-depth": enc, "dec-depth": dec, "transformer-ffn-activation": "relu",
              "transformer-ffn-depth": 2, "transformer-preprocess": '""',
              "transformer-postprocess": "dan", "version": "tests/translate/golden"}
    text = "".join(f"{k}: {v}\n" for k, v in config.items()).encode() + b"\0"
    tensors["special:model.yml"] = (TEXT, (len(text),), text)
    return tensors


def write_marian(path, tensors):
    out, align = io.BytesIO(), lambda n: -n % 256
    padded = {name: data + b"\0" * align(len(data)) for name, (_, _, data) in tensors.items()}
    out.write(struct.pack("<QQ", 1, len(tensors)))
    for name, (kind, shape, _) in tensors.items():
        size = len(tensors[name][2]) if kind == TEXT else len(padded[name])
        padded[name] = padded[name][:size]
        out.write(struct.pack("<QQQQ", len(name) + 1, kind, len(shape), size))
    for name in tensors:
        out.write(name.encode() + b"\0")
    for kind, shape, _ in tensors.values():
        out.write(struct.pack("<%di" % len(shape), *shape))
    gap = align(out.tell() + 8)
    out.write(struct.pack("<Q", gap) + b"\0" * gap)
    for name in tensors:
        out.write(padded[name])
    open(path, "wb").write(out.getvalue())


def make_vocab(lines, size):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=size, eos_id=0, unk_id=1,
        bos_id=-1, pad_id=-1, character_coverage=1.0, hard_vocab_limit=False,
        normalization_rule_name="identity", minloglevel=2)
    return model.getvalue()


def make_tiny(source, target):
    folder = os.path.join(HERE, "tiny")
    os.makedirs(folder, exist_ok=True)
    for name, lines, size in (("srcvocab.frde.spm", source, 300), ("trgvocab.frde.spm", target, 280)):
        open(os.path.join(folder, name), "wb").write(make_vocab(lines, size))
    vocabs = [sentencepiece.SentencePieceProcessor(model_file=os.path.join(folder, n))
              for n in ("srcvocab.frde.spm", "trgvocab.frde.spm")]
    sizes = [v.get_piece_size() for v in vocabs]
    path = os.path.join(folder, "model.frde.bin")
    write_marian(path, tiny_tensors(np.random.default_rng(11), 48, 80, 3, 2, 1, *sizes))
    student, lines = Student(path), source[:24]
    ids = [vocabs[0].encode(line) + [0] for line in lines]
    write("tiny/sentences.txt", lines)
    write("tiny/greedy.txt", [vocabs[1].decode(student.search(i, 1)) for i in ids])
    write("tiny/beam3.txt", [vocabs[1].decode(student.search(i, 3)) for i in ids])


def make_bergamot():
    import importlib.util
    spec = importlib.util.find_spec("bergamot")
    sys.path.insert(0, os.path.dirname(spec.origin))
    import _bergamot as native  # the package itself wants a list of models from the network
    service = native.Service(native.ServiceConfig(numWorkers=1, cacheSize=0, logLevel="off"))
    for source, target, name in (("en", "pt", "sentences.en.txt"), ("pt", "en", "enpt.int8.txt")):
        pair, folder = source + target, os.path.join(MODELS, f"marian-{source}-{target}")
        config = open(os.path.join(folder, "config.intgemm8bitalpha.yml")).read()
        config = config.replace("relative-paths: true\n", "").replace("  - vocab", f"  - {folder}/vocab")
        config = config.replace("  - model", f"  - {folder}/model").replace("- lex", f"- {folder}/lex")
        model = service.modelFromConfig(config + "\nmax-length-break: 128\nmini-batch-words: 1024\n")
        answers = [service.translate(model, native.VectorString([line]), native.ResponseOptions())
                   for line in lines_of(name)]
        write(pair + ".bergamot.txt", [a[0].target.text for a in answers])


def plain_dots(q, k):
    """As numpy's matrix product does it: the order of a sum is that of this machine's BLAS kernel."""
    return q @ k.transpose(0, 2, 1)


def print_agreement():
    global dots
    dots = plain_dots
    for source, target, name in (("en", "pt", "sentences.en.txt"), ("pt", "en", "enpt.int8.txt")):
        pair, folder = source + target, os.path.join(MODELS, f"marian-{source}-{target}")
        student = Student(os.path.join(folder, f"model.{pair}.intgemm.alphas.bin"))
        vocab = sentencepiece.SentencePieceProcessor(model_file=os.path.join(folder, f"vocab.{pair}.spm"))
        lines, want = lines_of(name), lines_of(pair + ".int8.txt")
        got = [vocab.decode(student.search(vocab.encode(line) + [0], 1)) for line in lines]
        print(pair, sum(a == b for a, b in zip(got, want)), "of", len(want), "lines are the same")


if __name__ == "__main__":
    if sys.argv[1:] == ["bergamot"]:
        make_bergamot()
    elif sys.argv[1:] == ["agreement"]:
        print_agreement()
    else:
        english = lines_of("sentences.en.txt")
        portuguese = make_pair("en", "pt", english)
        make_pair("pt", "en", portuguese)
        make_tiny(english, portuguese)
