"use strict";
// Drop an image, see its mask. Nothing is stored: what the page knows is gone when it is left.

// Okabe and Ito's colours, in the order of resunet.palette.CLASS_COLOURS.
const COLOURS = ["#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"];
// The layers over the image are drawn at about this many pixels a side, whatever the image's size.
const DRAWN = 1536;
const TYPES = { png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", tif: "image/tiff", tiff: "image/tiff", bmp: "image/bmp" };

const at = (id) => document.getElementById(id);
let last = null; // the file, for another try
let going = null; // what ends the request that is under way
let urls = []; // of pictures that are shown now

async function show(file) {
  going?.abort();
  const mine = (going = new AbortController());
  last = file;
  clear();
  document.body.dataset.state = "working";
  at("picture").hidden = false;
  at("progress").hidden = false;
  at("caption").textContent = file.name;
  at("status").textContent = `Segmenting ${file.name}.`;
  try {
    const shown = await preview(file, mine.signal);
    let answer = await ask(file, shown ? "mask" : "overlay", mine.signal);
    // Turned by a tag that this browser does not follow, say.
    if (shown && (shown.width !== answer.width || shown.height !== answer.height)) answer = await ask(file, "overlay", mine.signal);
    mine.signal.throwIfAborted();
    await (answer.mask ? layMask(answer, mine.signal) : showOverlay(answer));
    mine.signal.throwIfAborted();
    tell(answer);
  } catch (error) {
    if (mine.signal.aborted) return;
    complain(error);
  }
  at("progress").hidden = true;
}

// The file in the browser's own eyes; null where it cannot show it.
async function preview(file, signal) {
  const image = new Image();
  image.src = keep(file);
  try {
    await image.decode();
  } catch {
    signal.throwIfAborted();
    return null;
  }
  signal.throwIfAborted();
  const size = { width: image.naturalWidth, height: image.naturalHeight };
  frame(size);
  at("image").src = image.src;
  at("image").alt = file.name;
  return size;
}

async function ask(file, view, signal) {
  // What is no image by its name is sent all the same: the server looks at the bytes, and says best what is wrong.
  const told = file.type || TYPES[ending(file.name)];
  const type = Object.values(TYPES).includes(told) ? told : "application/octet-stream";
  const headers = { "Accept": "application/json", "Content-Type": type };
  const key = at("key").value.trim();
  if (key) headers["Authorization"] = `Bearer ${key}`;
  if (!/^[!-~]*$/.test(key)) throw new Problem("That is no API key: it holds letters that none has. Copy it once more.", 401);
  const begun = performance.now();
  let response;
  try {
    response = await fetch(`segment?view=${view}`, { method: "POST", body: file, headers, signal, cache: "no-store" });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new Problem("The server cannot be reached. See whether it runs, and try again.", 0);
  }
  if (!response.ok) throw await problem(response);
  const answer = await response.json();
  answer.time = performance.now() - begun;
  answer.model_version = response.headers.get("X-Model-Version") ?? answer.model_version;
  answer.request_id = response.headers.get("X-Request-Id") ?? answer.request_id;
  return answer;
}

class Problem extends Error {
  constructor(sentence, status) {
    super(sentence);
    this.status = status;
  }
}

async function problem(response) {
  let told = "";
  try {
    const body = await response.json();
    told = [body.message, body.detail, body.error].find((text) => typeof text === "string") ?? "";
  } catch {
    // What stands before the server may answer in anything but JSON.
  }
  return new Problem(sentence(told || `The server answered ${response.status} and did not say why.`), response.status);
}

function sentence(text) {
  const whole = text.trim();
  return whole.charAt(0).toUpperCase() + whole.slice(1) + (/[.!?]$/.test(whole) ? "" : ".");
}

// Lay the mask over the image that the browser shows.
async function layMask(answer, signal) {
  const file = png(answer.mask);
  const mask = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  signal.throwIfAborted();
  const longest = Math.max(mask.width, mask.height);
  const scale = longest > DRAWN ? DRAWN / longest : Math.floor(DRAWN / longest);
  const width = Math.max(1, Math.round(mask.width * scale));
  const height = Math.max(1, Math.round(mask.height * scale));
  const drawn = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  Object.assign(drawn.canvas, { width, height });
  drawn.imageSmoothingEnabled = false;
  drawn.drawImage(mask, 0, 0, width, height);
  mask.close();
  const values = drawn.getImageData(0, 0, width, height).data;
  const binary = answer.classes ? answer.classes.length === 1 : typeof answer.foreground_fraction === "number";
  paint(classesOf(values, binary), width, height);
  at("save").href = keep(file);
  at("save").download = `${last.name.replace(/\.[^.]*$/, "")}-mask.png`;
  at("layering").hidden = at("save").hidden = false;
}

// Of each pixel its class, 0 for the background.
function classesOf(values, binary) {
  const classes = new Uint8Array(values.length / 4);
  for (let i = 0; i < classes.length; i++) classes[i] = binary ? values[4 * i] >> 7 : values[4 * i];
  return classes;
}

// Tint the classes in one layer; in the other a coloured line inside them and a dark one around.
function paint(classes, width, height) {
  const pack = (...levels) => new Uint32Array(Uint8Array.from(levels).buffer)[0];
  const colours = COLOURS.map((colour) => pack(...[1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16)), 255));
  const dark = pack(0, 0, 0, 140);
  const tint = new ImageData(width, height);
  const outline = new ImageData(width, height);
  const tints = new Uint32Array(tint.data.buffer);
  const outlines = new Uint32Array(outline.data.buffer);
  const line = Math.max(1, Math.round(Math.max(width, height) / 450));
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const own = classes[i];
      const left = x >= line ? classes[i - line] : own;
      const right = x + line < width ? classes[i + line] : own;
      const above = y >= line ? classes[i - line * width] : own;
      const below = y + line < height ? classes[i + line * width] : own;
      const border = left !== own || right !== own || above !== own || below !== own;
      const colour = own ? colours[(own - 1) % colours.length] : 0;
      tints[i] = colour;
      if (border) outlines[i] = colour || dark;
    }
  }
  for (const [id, pixels] of Object.entries({ tint, outline })) {
    Object.assign(at(id), { width, height });
    at(id).getContext("2d").putImageData(pixels, 0, 0);
  }
}

// Where the browser cannot show the file, the server's picture has the mask in it.
async function showOverlay(answer) {
  for (const id of ["tint", "outline"]) Object.assign(at(id), { width: 0, height: 0 });
  frame(answer);
  at("image").src = keep(png(answer.overlay));
  at("image").alt = `${last.name} with its mask`;
  at("pictured").hidden = false;
  await at("image").decode();
}

function tell(answer) {
  const confidence = Math.min(1, Math.max(0, answer.confidence));
  at("confidence").textContent = confidence.toFixed(2);
  at("scale").firstElementChild.style.width = `${100 * confidence}%`;
  const fractions = typeof answer.foreground_fraction === "number" ? null : Object.entries(answer.foreground_fraction);
  const whole = fractions ? fractions.reduce((sum, [, part]) => sum + part, 0) : answer.foreground_fraction;
  at("found").textContent = whole === 0 ? "nothing" : `${percent(whole)} of the image`;
  at("time").textContent = answer.time < 1000 ? `${Math.round(answer.time)} ms` : `${(answer.time / 1000).toFixed(1)} s`;
  at("version").textContent = answer.model_version;
  at("size").textContent = `${answer.width} × ${answer.height}`;
  at("request").textContent = answer.request_id;
  legend(fractions, answer.classes);
  at("result").hidden = at("buttons").hidden = false;
  document.body.dataset.state = "done";
  at("status").textContent = `Done: confidence ${at("confidence").textContent}, found ${at("found").textContent}, by version ${answer.model_version}.`;
}

function legend(fractions, classes) {
  const items = (fractions ?? []).map(([name, part], place) => {
    const number = classes ? classes.indexOf(name) : place + 1;
    const [item, swatch, label, share] = ["li", "span", "span", "span"].map((tag) => document.createElement(tag));
    swatch.className = "swatch";
    swatch.style.backgroundColor = COLOURS[(number - 1) % COLOURS.length];
    label.textContent = name;
    share.textContent = percent(part);
    item.append(swatch, label, share);
    return item;
  });
  at("legend").replaceChildren(...items);
  at("legend").hidden = items.length === 0;
}

function complain(error) {
  const status = error instanceof Problem ? error.status : -1;
  at("sentence").textContent = status === -1 ? "This browser could not show the answer; try another one." : error.message;
  at("again").hidden = status !== 0 && status < 500 && ![401, 403, 408, 429].includes(status);
  at("problem").hidden = false;
  at("status").textContent = "";
  const pictured = at("image").hasAttribute("src");
  at("picture").hidden = at("buttons").hidden = !pictured;
  document.body.dataset.state = pictured ? "failed" : "empty";
  if (status === 401 || status === 403) {
    at("access").open = true;
    at("key").focus();
  }
}

function clear() {
  for (const url of urls) URL.revokeObjectURL(url);
  urls = [];
  at("image").removeAttribute("src");
  for (const id of ["tint", "outline"]) Object.assign(at(id), { width: 0, height: 0 });
  for (const id of ["problem", "result", "buttons", "layering", "pictured", "save"]) at(id).hidden = true;
}

function keep(file) {
  urls.push(URL.createObjectURL(file));
  return urls.at(-1);
}

function png(base64) {
  const content = Uint8Array.fromBase64?.(base64) ?? Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Blob([content], { type: "image/png" });
}

function frame({ width, height }) {
  at("layers").style.setProperty("--width", width);
  at("layers").style.setProperty("--height", height);
}

function ending(name) {
  return name.slice(name.lastIndexOf(".") + 1).toLowerCase();
}

function percent(part) {
  const value = 100 * part;
  return `${value >= 10 ? value.toFixed(0) : value > 0 && value < 0.1 ? "< 0.1" : value.toFixed(1)} %`;
}

function layer() {
  at("percent").textContent = `${at("opacity").value} %`;
  at("tint").style.opacity = at("opacity").value / 100;
  at("outline").hidden = !at("outlined").checked;
}

function take(files) {
  if (files && files.length) show(files[0]);
}

let inside = 0; // how many elements the file hovers over, one in the other
addEventListener("dragenter", () => document.body.classList.toggle("dragging", ++inside > 0));
addEventListener("dragleave", () => document.body.classList.toggle("dragging", --inside > 0));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  document.body.classList.remove("dragging");
  take(event.dataTransfer.files);
});
addEventListener("paste", (event) => take(event.clipboardData.files));
at("file").addEventListener("change", (event) => {
  take([...event.target.files]);
  event.target.value = ""; // so that the same file may be chosen again
});
at("again").addEventListener("click", () => show(last));
at("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!at("problem").hidden) show(last);
});
at("opacity").addEventListener("input", layer);
at("outlined").addEventListener("change", layer);
layer();
