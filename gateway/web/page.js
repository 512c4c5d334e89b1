"use strict";
/* The page: takes a recording, sends it to /v1/interpret, shows and plays the pieces as they come. */

const el = (id) => document.getElementById(id);
const SAMPLE_RATE = 16000;
let targets = [];
let recorder = null;
let running = null; /* AbortController of the request under way */

function say(text, isError = false) {
  el("status").textContent = text;
  el("status").classList.toggle("error", isError);
}

/* --- languages ------------------------------------------------------------------------------ */

function option(value, label) {
  const made = document.createElement("option");
  made.value = value;
  made.textContent = label;
  return made;
}

function remember(id) {
  const kept = localStorage.getItem("dragoman-" + id);
  if (kept !== null && [...el(id).options].some((o) => o.value === kept)) el(id).value = kept;
  el(id).addEventListener("change", () => localStorage.setItem("dragoman-" + id, el(id).value));
}

function fillVoices() {
  const target = targets.find((t) => t.code === el("to").value);
  el("voice").replaceChildren(option("", "Best"), ...(target ? target.voices : []).map((v) => option(v, v)));
}

async function loadLanguages() {
  const answer = await fetch("/v1/interpret");
  if (!answer.ok) throw new Error((await answer.json()).error.message);
  const served = await answer.json();
  const byName = (a, b) => a.name.localeCompare(b.name);
  served.sources.sort(byName);
  targets = served.targets.sort(byName);
  if (!targets.length || !served.sources.length)
    throw new Error("No language is served yet: start the asr, translate and tts services, then reload.");
  el("from").append(...served.sources.map((l) => option(l.code, l.name)));
  el("to").append(...targets.map((l) => option(l.code, l.name)));
  remember("from");
  remember("to");
  el("to").addEventListener("change", fillVoices);
  fillVoices();
  say("Record something, or choose a recording.");
}

/* --- recording ------------------------------------------------------------------------------ */

function wav(chunks, rate) {
  const samples = chunks.reduce((n, c) => n + c.length, 0);
  const view = new DataView(new ArrayBuffer(44 + samples * 2));
  const text = (at, s) => [...s].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + samples * 2, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * 2, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, samples * 2, true);
  let at = 44;
  for (const chunk of chunks)
    for (const value of chunk) {
      view.setInt16(at, Math.max(-1, Math.min(1, value)) * 32767, true);
      at += 2;
    }
  return new Blob([view], { type: "audio/wav" });
}

const WORKLET = `registerProcessor("tap", class extends AudioWorkletProcessor {
  process(inputs) {
    if (inputs[0].length) this.port.postMessage(inputs[0][0].slice());
    return true;
  }
});`;

async function startRecording() {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  const context = new AudioContext({ sampleRate: SAMPLE_RATE });
  const url = URL.createObjectURL(new Blob([WORKLET], { type: "text/javascript" }));
  await context.audioWorklet.addModule(url);
  URL.revokeObjectURL(url);
  const tap = new AudioWorkletNode(context, "tap");
  recorder = { stream, context, chunks: [], begun: Date.now() };
  tap.port.onmessage = ({ data }) => {
    recorder?.chunks.push(data);
    el("level").value = Math.sqrt(data.reduce((sum, v) => sum + v * v, 0) / data.length) * 4;
  };
  context.createMediaStreamSource(stream).connect(tap);
  recorder.clock = setInterval(() =>
    say(`Recording… ${Math.round((Date.now() - recorder.begun) / 1000)} s. Press again to stop.`), 250);
}

async function stopRecording() {
  const { stream, context, chunks, clock } = recorder;
  recorder = null;
  clearInterval(clock);
  stream.getTracks().forEach((track) => track.stop());
  const rate = context.sampleRate;
  await context.close();
  await interpret(wav(chunks, rate), "recording.wav");
}

async function toggleRecording() {
  const starting = !recorder;
  try {
    await (starting ? startRecording() : stopRecording());
  } catch (error) {
    say(`The microphone cannot be used: ${error.message}`, true);
  }
  el("record").setAttribute("aria-pressed", String(Boolean(recorder)));
  el("record-label").textContent = recorder ? "Stop" : "Record";
  el("level").hidden = !recorder;
}

/* --- playing pieces as they come -------------------------------------------------------------- */

class Speaker {
  constructor() {
    this.context = new AudioContext();
    this.next = 0;
    this.chunks = [];
    this.rate = 22050;
  }

  push(base64, rate) {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const samples = Float32Array.from(new Int16Array(bytes.buffer), (v) => v / 32768);
    if (!samples.length) return;
    this.rate = rate;
    this.chunks.push(samples);
    const piece = this.context.createBuffer(1, samples.length, rate);
    piece.copyToChannel(samples, 0);
    const source = this.context.createBufferSource();
    source.buffer = piece;
    source.connect(this.context.destination);
    this.next = Math.max(this.next, this.context.currentTime + 0.05);
    source.start(this.next);
    this.next += piece.duration;
  }

  finish() {
    const url = URL.createObjectURL(wav(this.chunks, this.rate));
    el("player").src = url;
    el("download").href = url;
    el("download").hidden = false;
  }

  stop() {
    return this.context.close();
  }
}

/* --- interpreting --------------------------------------------------------------------------- */

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: {")) yield JSON.parse(line.slice(6));
  }
}

function showTimes(stages) {
  const names = { recognise_ms: "recognised in", translate_ms: "translated in", speak_ms: "spoken in",
    first_audio_ms: "first sound after", total_ms: "all done after" };
  el("stages").replaceChildren(...Object.entries(names).filter(([key]) => key in stages).map(([key, name]) => {
    const item = document.createElement("li");
    item.textContent = `${name} ${(stages[key] / 1000).toFixed(2)} s`;
    return item;
  }));
}

function languageName(code) {
  return [...el("from").options, ...el("to").options].find((o) => o.value === code)?.textContent ?? code;
}

function clearResult() {
  el("result").hidden = false;
  el("source-name").textContent = "Heard";
  el("target-name").textContent = languageName(el("to").value);
  el("transcript").textContent = el("translation").textContent = "";
  el("stages").replaceChildren();
  el("player").removeAttribute("src");
  el("download").hidden = true;
}

function show(event, speaker) {
  switch (event.type) {
  case "interpret.language":
    el("source-name").textContent = languageName(event.language);
    break;
  case "interpret.segment":
    el("transcript").textContent = (el("transcript").textContent + event.text).trimStart();
    say("Translating…");
    break;
  case "interpret.sentence":
    el("translation").textContent += (el("translation").textContent ? " " : "") + event.text;
    break;
  case "interpret.audio":
    speaker.push(event.audio, event.sample_rate);
    say("Speaking…");
    break;
  case "interpret.done":
    el("source-name").textContent = languageName(event.source);
    showTimes(event.stages);
    speaker.finish();
    say("Done.");
    break;
  case "error":
    throw new Error(event.error.message);
  }
}

async function interpret(blob, name) {
  running?.abort();
  const mine = (running = new AbortController());
  const form = new FormData();
  form.append("file", blob, name);
  form.append("stream", "true");
  for (const field of ["from", "to", "voice"]) if (el(field).value) form.append(field, el(field).value);
  const speaker = new Speaker();
  clearResult();
  say("Listening…");
  try {
    const response = await fetch("/v1/interpret", { method: "POST", body: form, signal: mine.signal });
    if (!response.ok) throw new Error((await response.json()).error.message);
    for await (const event of events(response)) show(event, speaker);
  } catch (error) {
    speaker.stop();
    if (error.name !== "AbortError") say(error.message, true);
  }
}

function takeFile(file) {
  if (!file) return;
  el("file-label").textContent = file.name;
  interpret(file, file.name);
}

el("record").addEventListener("click", toggleRecording);
el("file").addEventListener("change", () => takeFile(el("file").files[0]));
el("form").addEventListener("submit", (event) => event.preventDefault());
for (const [type, over] of [["dragover", true], ["dragleave", false], ["drop", false]])
  el("drop").addEventListener(type, (event) => {
    event.preventDefault();
    el("drop").classList.toggle("over", over);
    if (type === "drop") takeFile(event.dataTransfer.files[0]);
  });
loadLanguages().catch((error) => say(error.message, true));
