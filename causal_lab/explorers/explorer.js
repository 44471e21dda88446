// The one front end of all explorers. Python computes pictures (panels of arrays and words, see
// plots/picture.py), this draws them: in Jupyter and Colab as an anywidget, whose pictures come
// from a kernel; on a page without Python, whose pictures come from a record (record.py).
//
//   render, wake    the two ways in
//   mount           one explorer: controls, panels, caption; the same in every place
//   DRAW            how each kind of panel is drawn, and what it says where one points

export default { render };

const SILENCE = 8000; // milliseconds after which a kernel that says nothing is spoken of
const MEMORY = 60; // pictures that are kept, to be shown at once when one comes back
const PLAY = 500; // milliseconds from step to step

// What an explorer drew last, as data: tests hold it to what Python computes.
export const drawn = (root) => root.drawn();

// --- where pictures come from

// In a notebook: ask the kernel. One question is under way at a time, then the newest wish is next.
// While nobody wishes for anything, it is asked for what the next step would show.
function render({ model, el }) {
  const view = crypto.randomUUID?.() ?? String(Math.random());
  const root = el.appendChild(element("div", {}));
  let asked = 0, flying = null, next = null;
  function send(wishes, ahead = false) {
    const number = `${view} ${++asked}`;
    [flying, next] = [number, null];
    model.set("_asked", { number, wishes, ahead });
    model.save_changes();
    setTimeout(() => {
      if (flying !== number) return;
      flying = null; // the next move tries again
      if (ahead && next === null) return;
      explorer.complain("Python has not answered for a while: the kernel is busy or gone.");
    }, SILENCE);
  }
  function hear(message, ahead) {
    const mine = message.asked === flying; // else it came from another view, or from a program
    if (mine) flying = null;
    const picture = { ...message, panels: message.panels?.map(fromKernel) };
    // While a question of this page is under way, Python's word on another one is only a preview.
    if (ahead) explorer.keep(picture);
    else explorer.show(picture, next === null && flying === null);
    const wish = next ?? (mine && !ahead ? explorer.foresee() : null);
    if (flying === null && wish) send(wish, next === null);
  }

  const explorer = mount(root, model.get("_name"), model.get("_controls"), (wishes) => {
    next = wishes;
    if (flying === null) send(wishes);
  });
  const shown = () => hear(model.get("_picture"), false), ahead = () => hear(model.get("_ahead"), true);
  model.on("change:_picture", shown);
  model.on("change:_ahead", ahead);
  shown();
  return () => [model.off("change:_picture", shown), model.off("change:_ahead", ahead), explorer.remove()];
}

// On a page: find the explorers, and load the record of each one that comes into view.
export function wake(page) {
  const watcher = new IntersectionObserver((entries) => {
    for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
      watcher.unobserve(target);
      open(target).catch((error) => {
        target.dataset.state = "error";
        target.append(element("p", { className: "error", textContent: `${error}` }));
      });
    }
  }, { rootMargin: "600px" });
  for (const root of page.querySelectorAll(".causal-explorer[data-record]")) watcher.observe(root);
}

async function open(root) {
  root.dataset.state = "waiting";
  const name = root.dataset.record;
  if (!window.causalRecords?.[name]) await load(root.dataset.src);
  const record = await unpack(window.causalRecords[name]);
  const look = (wishes) => explorer.show(record.look(wishes), true);
  const explorer = mount(root, record.name, record.controls, look);
  explorer.say(record.note);
  look(record.first);
}

// A page from disk may load neither modules nor data, but it may load a classic script.
const load = (src) => new Promise((done, fail) => {
  const failed = () => fail(new Error(`the pictures did not come: ${src}`));
  document.head.append(element("script", { src, onload: done, onerror: failed }));
});

export async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(stream).arrayBuffer();
  const [length, points] = new Uint32Array(buffer, 0, 2);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const index = new Uint16Array(buffer.slice(8 + length, 8 + length + 2 * points));
  let end = 8 + length + 2 * points;
  const arrays = head.arrays.map(([dtype, shape]) => {
    const begin = end;
    end += ARRAYS[dtype].BYTES_PER_ELEMENT * shape.reduce((a, b) => a * b, 1);
    return { dtype, shape, data: new ARRAYS[dtype](buffer.slice(begin, end)) };
  });
  const panels = head.panels.map((panel) => withArrays(panel, (thing) => arrays[thing.array]));
  const pictures = head.pictures.map(([numbers, ...words]) => [numbers.map((n) => panels[n]), ...words]);
  const place = (wishes) => head.controls.reduce((at, { name, options, values = options }) => (
    at * values.length + Math.max(placeIn(values, wishes[name]), 0)
  ), 0);
  const look = (wishes) => {
    const [shown, caption, limits, unused] = pictures[index[place(wishes)]];
    return { panels: shown, caption, limits, unused, wishes };
  };
  return { ...head, look };
}

const ARRAYS = { uint8: Uint8Array, float32: Float32Array, float64: Float64Array };

const fromKernel = (panel) => withArrays(panel, ({ dtype, shape, data }) => {
  const bytes = data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
  return { dtype, shape, data: new ARRAYS[dtype](bytes) };
});

function withArrays(thing, make) {
  if (Array.isArray(thing)) return thing.map((one) => withArrays(one, make));
  if (thing === null || typeof thing !== "object") return thing;
  if ("array" in thing || "dtype" in thing) return make(thing);
  return Object.fromEntries(Object.entries(thing).map(([k, v]) => [k, withArrays(v, make)]));
}

// --- one explorer

function mount(root, name, controls, ask) {
  root.classList.add("causal-explorer");
  Object.assign(root.dataset, { explorer: name, state: "waiting" });
  const bar = element("div", { className: "controls", role: "group", ariaLabel: name });
  const area = element("div", { className: "panels" });
  const caption = element("p", { className: "caption", role: "status" });
  const said = element("p", { className: "said", role: "status" });
  const error = element("p", { className: "error", role: "alert" });
  const note = element("p", { className: "note" });
  let wishes = {}, picture = null, last = null, panels = [], pinned = null, pointed = null, moved = null;
  root.drawn = () => last;
  const memory = remember();

  const handles = controls.map((control) => makeControl(control, (value) => {
    moved = handles.find((handle) => handle.name === control.name);
    wish({ [control.name]: value });
  }));
  function wish(values) {
    wishes = { ...wishes, ...values };
    const known = memory.get(wishes);
    known ? draw(known, "ready") : (root.dataset.state = "waiting");
    ask(wishes);
  }
  bar.append(...handles.map((handle) => handle.box));
  const style = element("style", { textContent: STYLE });
  root.replaceChildren(style, bar, error, caption, area, said, note);
  function show(message, newest) {
    error.textContent = message.error ?? "";
    if (message.error && newest) root.dataset.state = "error";
    if (message.error) return;
    memory.put(message);
    if (newest) wishes = message.wishes;
    if (newest || !memory.get(wishes)) draw(message, newest ? "ready" : "waiting");
  }
  function keep(message) {
    if (message.panels) memory.put(message); // else it failed
    const known = memory.get(wishes); // a hand may have come there meanwhile
    if (root.dataset.state === "waiting" && known) draw(known, "ready");
  }
  // The wishes one step further the way that the hand went, if nobody has seen their picture.
  function foresee() {
    const step = moved?.ahead && { ...wishes, [moved.name]: moved.ahead() };
    return step && !memory.get(step) ? step : null;
  }
  function draw(message, state) {
    picture = message;
    if (state === "ready") place(); // else a hand is moving them
    redraw();
    if (caption.textContent !== picture.caption) caption.textContent = picture.caption;
    root.dataset.state = state;
  }

  // Controls stand where the others leave them room; a hand's wish is kept for later.
  function place() {
    for (const { name: one, put } of handles) {
      const [low, high] = picture.limits[one] ?? [-Infinity, Infinity];
      const value = typeof wishes[one] === "number" ? clamp(wishes[one], low, high) : wishes[one];
      put(value, low, high, picture.unused.includes(one));
    }
  }
  function redraw() {
    if (!picture) return;
    const colours = coloursOf(root);
    root.dataset.theme = colours.name;
    if (`${panels.map((one) => one.kind)}` !== `${picture.panels.map((one) => one.kind)}`) {
      panels = picture.panels.map(({ kind }, n) => (panels[n]?.kind === kind ? panels[n] : makePanel(kind, point)));
      area.replaceChildren(...panels.map((panel) => panel.box));
    }
    const room = root.clientWidth || 800;
    panels.forEach((panel, number) => panel.draw(picture.panels[number], colours, room));
    if (!panels.includes(pinned?.panel)) pinned = null;
    if (panels.includes(pointed?.panel)) point(pointed.panel, pointed.place);
    else said.textContent = "";
    last = picture;
  }

  // Say what stands where a finger or a key points; a click keeps it while T slides on, and may move controls.
  function point(panel, place, pin) {
    const moves = pin && picture.panels[panels.indexOf(panel)].moves;
    if (moves?.length) wish(Object.fromEntries(moves.map((name, n) => [name, place[n]])));
    const again = pinned?.panel === panel && `${pinned.place}` === `${place}`;
    if (pin) pinned = again ? null : { panel, place };
    pointed = pinned && (place === null || pin || again) ? pinned : { panel, place };
    panels.filter((one) => one !== pointed.panel).forEach((one) => one.point(null));
    const words = pointed.panel.point(pointed.place);
    said.textContent = words ? words + (pointed === pinned ? " (pinned)" : "") : "";
  }
  function key(event) {
    const target = event.composedPath()[0];
    if (!root.contains(target) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Tab" || event.key === "Escape") return;
    // JupyterLab, which listens further down, would take a slider's arrows, and letters for commands.
    event.stopImmediatePropagation();
    if (panels.find((one) => one.field === target)?.key(event.key)) event.preventDefault();
  }

  const size = new ResizeObserver(redraw);
  size.observe(root);
  const gone = new AbortController();
  window.addEventListener("keydown", key, { capture: true, signal: gone.signal });
  window.addEventListener("resize", redraw, { signal: gone.signal });
  whenThemeChanges(root, redraw, gone.signal);
  const remove = () => [size.disconnect(), gone.abort(), ...handles.map((handle) => handle.stop())];
  const [complain, say] = [error, note].map((line) => (text) => line.replaceChildren(text));
  return { show, keep, foresee, remove, complain, say };
}

// Pictures by the wishes that led to them, the oldest forgotten first.
function remember() {
  const kept = new Map();
  const keyOf = (wishes) => JSON.stringify(Object.entries(wishes).sort());
  let edition;
  return {
    get: (wishes) => kept.get(keyOf(wishes)),
    put(message) {
      if (message.edition !== edition) kept.clear(); // other data is behind all pictures now
      edition = message.edition;
      kept.delete(keyOf(message.wishes)); // what comes back is the newest again
      kept.set(keyOf(message.wishes), message);
      if (kept.size > MEMORY) kept.delete(kept.keys().next().value);
    },
  };
}

// --- controls

function makeControl(control, changed) {
  const { field, read, put, words, ahead } = { slider: range, steps: range, menu, text }[control.kind](control);
  field.id = `causal-control-${Math.random().toString(36).slice(2)}`; // each widget has its own module
  field.dataset.control = control.name;
  const box = element("div", { className: `control ${control.kind}` });
  const widest = Math.max(3, ...(control.values ?? [control.high]).map((one) => words?.(one).length)); // so that no track changes
  const number = words && element("output", { htmlFor: field.id, style: `min-width: ${Math.min(widest, 11)}ch` });
  const play = control.play && element("button", { ariaLabel: `play ${control.label}`, textContent: "▶" });
  const label = element("label", { htmlFor: field.id, textContent: control.label });
  box.append(...[label, field, number, play].filter(Boolean));
  field.addEventListener(control.kind === "menu" ? "change" : "input", () => {
    if (number) number.textContent = words(read());
    changed(read());
  });

  let timer = null;
  function stop() {
    clearInterval(timer);
    timer = null;
    if (play) play.textContent = "▶";
  }
  function step() {
    const last = field.value === field.max;
    if (last && timer !== null) return stop();
    field.value = last ? field.min : +field.value + 1;
    field.dispatchEvent(new Event("input"));
  }
  play && play.addEventListener("click", () => {
    if (timer !== null) return stop();
    step();
    // Who wants less motion gets one step for one press.
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    play.textContent = "⏸";
    timer = setInterval(step, PLAY);
  });
  return {
    name: control.name, box, stop, ahead,
    put(value, low, high, unused) {
      put(value, low, high);
      if (number) number.textContent = words(value);
      field.disabled = unused || low === high;
      if (play) play.disabled = field.disabled;
      if (field.disabled) stop(); // nobody could press pause
    },
  };
}

// Numbers from low to high, or a walk over given values.
function range({ low, high, values, words }) {
  const field = element("input", { type: "range", step: 1 });
  const at = (place) => (values ? values[place] : place);
  let from = 0, way = 1;
  field.addEventListener("input", () => { way = Math.sign(field.value - from); from = +field.value; field.ariaValueText = say(at(from)); });
  const ahead = () => at(clamp(+field.value + way, +field.min, +field.max));
  const say = (value) => words?.[values.indexOf(value)] ?? `${value}`;
  function put(value, lowest, highest) {
    const open = values && [...values.keys()].filter((n) => !(values[n] < lowest || values[n] > highest));
    field.min = values ? open[0] ?? 0 : Math.max(low, lowest);
    field.max = values ? open.at(-1) ?? 0 : Math.min(high, highest);
    field.value = !values ? value : placeIn(values, value);
    from = +field.value;
    field.ariaValueText = say(value);
  }
  return { field, put, read: () => at(+field.value), ahead, words: say };
}

function menu({ options }) {
  const field = element("select", {});
  field.append(...options.map((one) => element("option", { textContent: one, value: one })));
  return { field, put: (value) => { field.value = value; }, read: () => field.value };
}

function text() {
  const field = element("input", { type: "text", spellcheck: false, autocomplete: "off" });
  const put = (value) => { if (field.value !== value) field.value = value; };
  return { field, put, read: () => field.value };
}

// --- colours

const VIRIDIS = `440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73
  5ec962 84d44b addc30 d8e219 fde725`.split(/\s+/);
const DIVERGING = "40004b 7f3c8d ae8bbd dec9e2 f6f7f6 cbeac5 7ec37f 298440 00441b".split(" ");
const SHARED = { past: "#2f6fae", future: "#e1701a", broken: "#d6218f", allowed: "#7fb2dd" };
const LIGHT = {
  ...SHARED, name: "light", ink: "#1b1b1b", soft: "#595959", line: "#d4d4d4", pale: "#f3f3f3", blocked: "#e3e3e3",
  hatch: "#b5b5b5", missing: "#a3a3a3", truth: "#757575", second: "#17795e", third: "#7a4fa3",
};
const DARK = {
  ...SHARED, name: "dark", past: "#5b9bd8", ink: "#ececec", soft: "#b4b4b4", line: "#4a4a4a",
  pale: "#2b2b2b", blocked: "#3a3a3a", hatch: "#5f5f5f", missing: "#7d7d7d", truth: "#a0a0a0",
  second: "#45bf9c", third: "#b592da", future: "#f08a3c", broken: "#f062b4",
};

// Every page has its own switch for dark and light; what all have is a background.
function coloursOf(root) {
  for (let at = root; at; at = at.parentElement ?? at.getRootNode().host) {
    const colour = getComputedStyle(at).backgroundColor;
    const whole = colour.startsWith("color(") ? 255 : 1; // as in marimo: color(srgb 1 1 1)
    const numbers = colour.match(/[\d.]+/g)?.map((one, n) => (n < 3 ? one * whole : Number(one)));
    if (numbers && (numbers[3] ?? 1) > 0.5) return isDark(numbers) ? DARK : LIGHT;
  }
  const may = getComputedStyle(document.documentElement).colorScheme.includes("dark");
  return may && matchMedia("(prefers-color-scheme: dark)").matches ? DARK : LIGHT;
}

function whenThemeChanges(root, redraw, signal) {
  const look = () => coloursOf(root).name !== root.dataset.theme && redraw();
  const later = () => [0, 150, 600].forEach((wait) => setTimeout(look, wait)); // styles load late
  const observer = new MutationObserver(later);
  for (const one of [document.documentElement, document.body]) observer.observe(one, { attributes: true });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", later, { signal });
  signal.addEventListener("abort", () => observer.disconnect());
}

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
// A pixel of an image, red in the lowest byte.
const pixel = ([r, g, b], alpha = 255) => ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;

function between(stops, share) {
  const at = clamp(share, 0, 1) * (stops.length - 1);
  const [low, high] = [stops[Math.floor(at)], stops[Math.ceil(at)]].map((hex) => channels(`#${hex}`));
  return low.map((one, n) => Math.round(one + (high[n] - one) * (at % 1)));
}

const SCALE = Array.from({ length: 256 }, (_, n) => between(VIRIDIS, n / 255));
// A square root, so that a small leak is seen.
const ofWeight = (weight) => SCALE[Math.round(255 * Math.sqrt(clamp(weight, 0, 1)))];
const ofLevel = (level, levels) => between(VIRIDIS, 1 - (0.9 * level) / Math.max(levels - 1, 1));
const rgb = (colour) => `rgb(${colour.join()})`;
const isDark = ([r, g, b]) => 0.299 * r + 0.587 * g + 0.114 * b < 128;

// --- panels

const FONT = "12px system-ui, sans-serif";
const FRAME = [null, "future", "past", "ink"]; // picture.FRAMES
const WHY = ["", ", a leak", ", should be seen", ", changed"];
const TICKS = [0, 0.01, 0.1, 0.25, 0.5, 1];

// A title, a legend, a canvas, and a frame around the place that is pointed at.
function makePanel(kind, point) {
  const box = element("figure", { className: `panel ${kind.toLowerCase()}` });
  const title = element("figcaption", {});
  if (kind === "Sentence") return sentence(box, title);
  const legend = element("div", { className: "legend" });
  const field = element("canvas", { tabIndex: 0, role: "img" });
  const cursor = element("div", { className: "cursor", hidden: true });
  const sheet = element("div", { className: "sheet" });
  sheet.append(field, cursor);
  box.append(title, legend, sheet);
  let drawing, at = null, last = [0, 0];
  const self = { kind, box, field, draw, point: show, key };
  function draw(panel, colours, room) {
    drawing = DRAW[kind](panel, colours, Math.max(room, 200));
    const { width, height } = drawing;
    title.textContent = panel.title;
    legend.replaceChildren(...(drawing.legend ?? []).map(([words, colour, dashed]) => {
      const one = element("span", { textContent: words, className: dashed ? "dashed" : "" });
      one.style.setProperty("--colour", colour);
      return one;
    }));
    const sharp = window.devicePixelRatio || 1;
    Object.assign(field, { width: Math.round(width * sharp), height: Math.round(height * sharp) });
    Object.assign(field.style, { width: `${width}px`, height: `${height}px` });
    box.style.maxWidth = `${Math.max(width, 150)}px`;
    const pen = field.getContext("2d");
    pen.scale(sharp, sharp);
    drawing.paint(pen, sharp);
    field.setAttribute("aria-label", `${panel.title || kind}; the arrow keys walk through it`);
    show(at);
  }

  // Put the frame around a place, and give its words.
  function show(place) {
    [at, last] = [place, place ?? last];
    const there = place && place[0] < drawing.rows && place[1] < drawing.columns;
    cursor.hidden = !there;
    if (!there) return "";
    drawing.rect(...place).forEach((one, n) => { cursor.style[["left", "top", "width", "height"][n]] = `${one}px`; });
    return drawing.words(...place);
  }
  function key(pressed) {
    const step = {
      ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1], Enter: [0, 0], " ": [0, 0],
    }[pressed];
    if (!step) return false;
    const ends = [drawing.rows - 1, drawing.columns - 1];
    // The first press only shows where one is.
    const place = ends.map((end, n) => clamp(last[n] + (at ? step[n] : 0), 0, end));
    point(self, place, at !== null && !pressed.startsWith("Arrow"));
    return true;
  }

  const placeOf = (event) => drawing?.at(event.offsetX, event.offsetY) ?? null;
  field.addEventListener("pointermove", (event) => point(self, placeOf(event)));
  field.addEventListener("click", (event) => placeOf(event) && point(self, placeOf(event), true));
  for (const away of ["pointerleave", "blur"]) field.addEventListener(away, () => point(self, null));
  return self;
}

function sentence(box, title) {
  const line = element("p", { className: "words" });
  box.append(title, line);
  const draw = (panel) => {
    title.textContent = panel.title;
    line.replaceChildren(...panel.words.flatMap((word, n) => {
      const className = panel.kinds[n] + (panel.ring === n ? " ring" : "");
      return [element("span", { className, textContent: word, ariaHidden: panel.kinds[n] === "hidden" || null }), " "];
    }));
  };
  return { kind: "Sentence", box, draw, point: () => "" };
}

// Each kind says how large it is, how it is painted, and what stands where.
const DRAW = { Heat: heat, Bars: bars, Curves: curves, Sizes: sizes, Dials: dials, Boxes: boxes };

function heat(panel, colours, room) {
  const { cells, blocked, absent, frames, labels, levels, names } = panel;
  const [rows, columns] = (cells ?? blocked).shape;
  const [left, top] = [isLong(labels) ? 100 : 46, panel.above.length ? 22 : 8];
  const scale = cells && !levels.length;
  const right = (scale ? 64 : 8) + (panel.right.length ? 42 : 0);
  const side = Math.min(panel.side, Math.max(room - left - right, 120));
  const [width, height] = [left + side + right, top + side + (isLong(labels) ? 92 : 40)];
  const first = panel.moves.length ? 0 : Math.max(columns - rows, 0); // the queries are the last of the keys
  const [wide, high] = [side / columns, side / rows];
  const rect = (row, column) => [left + column * wide, top + row * high, wide, high];
  const at = (x, y) => inside((y - top) / high, (x - left) / wide, rows, columns);
  const hatched = (n) => blocked?.data[n] && !(cells && cells.data[n] !== 0);

  const [pale, allowed, broken] = [colours.pale, colours.allowed, colours.broken].map(channels);
  function colourOf(n) {
    if (absent?.data[n]) return pale;
    if (!cells) return allowed;
    if (Number.isNaN(cells.data[n])) return broken;
    return levels.length ? ofLevel(cells.data[n], levels.length) : ofWeight(cells.data[n]);
  }
  function paint(pen, sharp) {
    const shades = new Uint32Array(rows * columns); // 0 where the hatching goes
    for (let n = 0; n < shades.length; n++) {
      const faint = panel.dim && !panel.rows.includes(Math.floor(n / columns) + first);
      if (absent?.data[n] || !hatched(n)) shades[n] = pixel(colourOf(n), faint ? 90 : 255);
    }
    const [x, y, pixels] = [left, top, side].map((one) => Math.round(one * sharp));
    pen.putImageData(enlarged(shades, rows, columns, pixels, sharp, colours), x, y);
    if (Math.max(rows, columns) <= 32) {
      for (let n = 1; n < columns; n++) pen.clearRect(left + n * wide - 0.5, top, 1, side);
      for (let n = 1; n < rows; n++) pen.clearRect(left, top + n * high - 0.5, side, 1);
    }
    const room = Math.min(wide, high) > 4; // for a frame or a number in a cell
    for (let n = 0; room && n < shades.length; n++) mark(pen, n, rect(Math.floor(n / columns), n % columns));
    const marked = panel.rows.filter((one) => one >= first && one < first + rows);
    for (const one of marked) outline(pen, colours.ink, [left - 1, top + (one - first) * high, side + 2, high]);
    for (const one of panel.columns) outline(pen, colours.ink, [left + one * wide, top - 1, wide, side + 2]);
    below(pen, labels, columns, left, wide, top + side, colours);
    beside(pen, labels, rows, first, left, top, high, colours);
    nameAxes(pen, names[1], left + side / 2, height, names[0], top + side / 2, colours);
    const small = { ink: colours.ink, small: true };
    const [rightOf, above] = [high < 11 ? [] : panel.right, wide < 27 ? [] : panel.above];
    rightOf.forEach((word, row) => write(pen, word, left + side + 6, top + (row + 0.5) * high, { ...small, align: "left" }));
    above.forEach((word, column) => write(pen, word, left + (column + 0.5) * wide, top - 9, small));
    if (scale) colourBar(pen, width - 56, top, side, names[2], colours);
  }
  function mark(pen, n, [x, y]) {
    const frame = FRAME[frames?.data[n] ?? 0];
    const thick = clamp(wide / 10, 1, 3), inset = thick / 2 + 1;
    if (frame) outline(pen, colours[frame], [x + inset, y + inset, wide - 2 * inset, high - 2 * inset], thick);
    if (panel.numbers && Math.min(wide, high) > 27 && cells && !absent?.data[n] && !hatched(n)) {
      const ink = isDark(colourOf(n)) ? "#fff" : "#000";
      const shown = levels.length ? levels[cells.data[n]] : short(+cells.data[n].toPrecision(cells.data[n] < 0.005 ? 1 : 2));
      write(pen, shown, x + wide / 2, y + high / 2, { ink, small: true, room: wide - 8 });
    }
  }
  function words(row, column) {
    const n = row * columns + column;
    const value = cells && (levels.length ? levels[cells.data[n]] : short(cells.data[n]));
    const state = absent?.data[n] ? panel.nothing : hatched(n) ? "blocked" : value ?? "open";
    const [query, looked] = [named(names[0], row + first, labels), named(names[1], column, labels)];
    return `${query} → ${looked}: ${state}${WHY[frames?.data[n] ?? 0]}`;
  }
  const legend = levels.map((word, n) => [word, rgb(ofLevel(n, levels.length))]);
  return { width, height, rows, columns, rect, at, words, paint, legend };
}

function colourBar(pen, x, top, side, name, colours) {
  for (let n = 0; n < side; n++) {
    pen.fillStyle = rgb(SCALE[Math.round(255 * (1 - n / (side - 1)))]);
    pen.fillRect(x, top + n, 10, 1.5);
  }
  for (const tick of TICKS) {
    const y = top + Math.min(Math.max((1 - Math.sqrt(tick)) * side, 6), side - 6);
    write(pen, `${tick}`, x + 14, y, { ink: colours.ink, align: "left", small: true });
  }
  write(pen, name, x + 48, top + side / 2, { ink: colours.soft, turned: true });
}

// Blow cells up to pixels; where the shade is 0, hatch.
function enlarged(shades, rows, columns, side, sharp, colours) {
  const image = new ImageData(side, side);
  const out = new Uint32Array(image.data.buffer);
  const columnOf = Uint32Array.from({ length: side }, (_, n) => Math.floor((n * columns) / side));
  const [paper, line] = [colours.blocked, colours.hatch].map((one) => pixel(channels(one)));
  const [pitch, thick] = [8 * sharp, 2 * sharp];
  for (let i = 0, n = 0; i < side; i++) {
    const begin = Math.floor((i * rows) / side) * columns;
    for (let j = 0; j < side; j++, n++) {
      out[n] = shades[begin + columnOf[j]] || ((i + j) % pitch < thick ? line : paper);
    }
  }
  return image;
}

function bars(panel, colours, room) {
  const { heights, parts, labels, meanings } = panel;
  const [kinds, count] = heights.shape;
  const truth = panel.outline?.data;
  const [left, top, alone] = [52, 8, count === 1 && !labels]; // one bar alone has no number
  const wide = Math.min(panel.width, Math.max(room - left - 8, 60));
  const [width, height] = [left + wide + 8, top + panel.height + (isLong(labels) ? 92 : 40)];
  const share = (one) => clamp(one / panel.top, 0, 1.04) ** (panel.root ? 0.5 : 1);
  const y = (one) => top + panel.height * (1 - share(one));
  const pitch = wide / count;
  const gap = Math.min(pitch * 0.1, 6);
  const rect = (_, bar) => [left + bar * pitch + gap, top, Math.max(pitch - 2 * gap, 1), panel.height];
  const at = (x) => inside(0, (x - left) / pitch, 1, count);
  function paint(pen) {
    const ticks = panel.root ? TICKS : [0, 0.25, 0.5, 0.75, 1];
    ruled(pen, ticks.map((one) => one * panel.top), y, left, wide, colours);
    for (let bar = 0; bar < count; bar++) {
      const [x, , thick] = rect(0, bar);
      let sum = 0;
      for (let part = 0; part < kinds; part++) {
        const one = heights.data[part * count + bar];
        const broken = Number.isNaN(one);
        pen.fillStyle = broken ? colours.broken : colours[parts[part]];
        if (broken) pen.fillRect(x, top, thick, panel.height);
        else pen.fillRect(x, y(sum + one), thick, y(sum) - y((sum += one)));
      }
      if (truth) outline(pen, colours.truth, [x, y(truth[bar]), thick, y(0) - y(truth[bar])]);
      const around = [x - 2, top - 2, thick + 4, panel.height + 4];
      if (panel.marked.includes(bar)) outline(pen, colours.ink, around);
    }
    if (!alone) below(pen, labels, count, left, pitch, top + panel.height, colours);
    nameAxes(pen, panel.name, left + wide / 2, height, panel.label, top + panel.height / 2, colours);
  }
  function words(_, bar) {
    const all = parts.map((_part, n) => [meanings[n] ?? "", heights.data[n * count + bar]]);
    const some = all.filter(([, one]) => one !== 0);
    const said = (some.length ? some : all.slice(0, 1)).map(([what, one]) => `${what} ${short(one)}`.trim());
    const right = truth ? `; right: ${short(truth[bar])}` : "";
    return `${alone ? panel.name : named(panel.name, bar, labels)}: ${said.join(", ")}${right}`;
  }
  const legend = meanings.map((meaning, n) => [meaning, colours[parts[n]]]);
  return { width, height, rows: 1, columns: count, rect, at, words, paint, legend };
}

function curves(panel, colours, room) {
  const { values, names, log } = panel;
  const [count, points] = values.shape;
  const xs = panel.x?.data ?? Float64Array.from({ length: points }, (_, n) => n);
  const [left, top] = [64, 8];
  const wide = Math.min(panel.width, Math.max(room - left - 14, 100));
  const [width, height] = [left + wide + 14, top + panel.height + 40];
  const [begin, end] = [xs[0], xs[points - 1]];
  const x = (one) => left + (end > begin ? ((one - begin) / (end - begin)) * wide : wide / 2);
  const scaled = log ? Math.log10 : (one) => one;
  const [low, high] = [scaled(panel.low), scaled(panel.high)];
  const y = (one) => top + panel.height * (1 - (scaled(one) - low) / (high - low));
  const rect = (_, n) => [x(xs[n]) - 3, top, 6, panel.height];
  function paint(pen) {
    ruled(pen, evenly(low, high).map((one) => (log ? 10 ** one : one)), y, left, wide, colours);
    const below = { ink: colours.ink, base: "top", small: true };
    for (const one of evenly(begin, end)) write(pen, short(one), x(one), top + panel.height + 6, below);
    const mark = panel.marked === null ? null : x(panel.marked);
    if (mark !== null) rule(pen, colours.missing, mark, top, mark, top + panel.height, 1.5);
    pen.save();
    pen.beginPath();
    pen.rect(left, top - 2, wide + 2, panel.height + 4);
    pen.clip();
    names.forEach((_, one) => trace(pen, one));
    pen.restore();
    nameAxes(pen, panel.axis, left + wide / 2, height, panel.label, top + panel.height / 2, colours);
  }
  function trace(pen, one) {
    const half = panel.steps ? (x(xs[1] ?? 1) - x(xs[0])) / 2 || wide / 2 : 0;
    pen.setLineDash(panel.dashed.includes(one) ? [7, 6] : []);
    pen.beginPath();
    let drawing = false;
    for (let n = 0; n < points; n++) {
      const value = values.data[one * points + n];
      const there = Number.isFinite(value) && !(log && value <= 0); // else a gap
      if (there) {
        pen[drawing ? "lineTo" : "moveTo"](x(xs[n]) - half, y(value));
        if (half) pen.lineTo(x(xs[n]) + half, y(value));
      }
      drawing = there;
    }
    stroke(pen, colours[panel.colours[one]], 2.5);
    pen.setLineDash([]);
  }
  function at(place) {
    const wanted = begin + ((place - left) / wide) * (end - begin);
    const far = xs.map((one) => Math.abs(one - wanted));
    return place < left - 8 || place > left + wide + 8 ? null : [0, far.indexOf(Math.min(...far))];
  }
  function words(_, n) {
    const there = names.map((name, one) => [name, values.data[one * points + n]]).filter(([, one]) => !Number.isNaN(one));
    return `${panel.axis} ${short(xs[n])}: ${there.map(([name, one]) => `${name} ${short(one)}`).join(", ") || "nothing"}`;
  }
  const legend = names.map((name, n) => [name, colours[panel.colours[n]], panel.dashed.includes(n)]);
  return { width, height, rows: 1, columns: points, rect, at, words, paint, legend };
}

function sizes(panel, colours, room) {
  const rows = panel.names.length;
  const left = room < 520 ? 110 : 200;
  const wide = Math.min(panel.width, Math.max(room - left - 76, 100));
  const [top, pitch] = [30, 42];
  const [width, height] = [left + wide + 76, top + rows * pitch + 42];
  const [low, high] = [10, 44]; // powers of two, 1 KiB and 16 TiB
  const x = (one) => left + (wide * (clamp(Math.log2(one), low, high) - low)) / (high - low);
  const words = (row) => `${panel.names[row]}: ${panel.words[row]}`;
  function paint(pen) {
    const foot = top + rows * pitch;
    [..."KMGT"].forEach((unit, n) => {
      const to = x(1024 ** (n + 1));
      rule(pen, colours.line, to, top, to, foot);
      write(pen, `1 ${unit}iB`, to, foot + 6, { ink: colours.ink, base: "top", small: true });
    });
    panel.marks.forEach(([one, name], n) => {
      rule(pen, colours.ink, x(one), 16, x(one), foot, 1.5);
      const align = n ? "left" : "right";
      write(pen, name, x(one) + (n ? 5 : -5), 9, { ink: colours.ink, align, small: true });
    });
    panel.names.forEach((name, row) => {
      const middle = top + (row + 0.5) * pitch;
      const known = !Number.isNaN(panel.nbytes.data[row]);
      const long = known ? Math.max(x(panel.nbytes.data[row]) - left, 2) : 0;
      pen.fillStyle = colours.past;
      pen.fillRect(left, middle - 12, long, 24);
      write(pen, name, left - 8, middle, { ink: colours.ink, align: "right", room: left - 12 });
      pen.clearRect(left + long, middle - 9, 6.5 * panel.words[row].length + 8, 18); // no line through it
      write(pen, panel.words[row], left + long + 6, middle, { ink: colours.ink, align: "left" });
    });
    write(pen, "bytes, on a logarithmic axis", left + wide / 2, height - 9, { ink: colours.soft });
  }
  return { width, height, ...stacked(rows, top, pitch, width), words, paint };
}

function dials(panel, colours) {
  const { side, hands, angles: { shape: [count] } } = panel;
  const pitch = side + 40;
  const [width, height] = [Math.max(side + 20, 150), count * pitch];
  const words = (row) => `${panel.names[row]}: ${panel.words[row]} between ${hands.join(" and ")}`;
  function paint(pen) {
    for (let dial = 0; dial < count; dial++) {
      const [x, y, radius] = [width / 2, dial * pitch + side / 2 + 4, side / 2 - 2];
      const [from, to] = panel.angles.data.slice(2 * dial, 2 * dial + 2);
      const turn = ((from - to + Math.PI) % (2 * Math.PI) + 2 * Math.PI) % (2 * Math.PI) - Math.PI;
      pen.fillStyle = colours.line; // the angle between, the short way
      pen.beginPath();
      pen.moveTo(x, y);
      pen.arc(x, y, radius * 0.5, -to, -to - turn, turn > 0);
      pen.fill();
      pen.beginPath();
      pen.arc(x, y, radius, 0, 2 * Math.PI);
      stroke(pen, colours.soft, 1);
      for (const [angle, colour] of [[from, colours.past], [to, colours.third]]) {
        rule(pen, colour, x, y, x + radius * Math.cos(angle), y - radius * Math.sin(angle), 3);
      }
      write(pen, panel.names[dial], x, y + radius + 12, { ink: colours.ink, small: true });
      write(pen, panel.words[dial], x, y + radius + 26, { ink: colours.ink, small: true });
    }
  }
  const legend = hands.map((hand, n) => [hand, [colours.past, colours.third][n]]);
  return { width, height, ...stacked(count, 0, pitch, width), words, paint, legend };
}

function boxes(panel, colours, room) {
  const [left, top, space] = [52, 22, 14];
  const each = Math.min(panel.width, (room - left) / panel.boxes.length - space);
  const [pitch, high] = [each + space, panel.height / panel.room];
  const [width, height] = [left + panel.boxes.length * pitch, top + panel.height + 6];
  const rows = Math.max(...panel.boxes.map((box) => box.shape[0]));
  const lines = panel.boxes.flatMap(({ shape: [, size] }, box) => Array.from({ length: size }, (_, n) => (
    { box, n, size, x: left + box * pitch + (n * each) / size }
  )));
  const rect = (row, line) => [lines[line].x, top + row * high, each / lines[line].size, high];
  const at = (x, y) => {
    const line = lines.findIndex((one) => x >= one.x && x < one.x + each / one.size);
    return inside((y - top) / high, line, rows, lines.length);
  };
  function paint(pen) {
    panel.boxes.forEach(({ shape: [tokens] }, box) => {
      const x = left + box * pitch;
      write(pen, panel.names[box], x + each / 2, 10, { ink: colours.ink });
      outline(pen, colours.line, [x, top, each, panel.height], 1);
      for (const line of lines.filter((one) => one.box === box)) {
        for (let row = 0; row < tokens; row++) {
          const share = panel.boxes[box].data[row * line.size + line.n] / (2 * panel.limit);
          pen.fillStyle = rgb(between(DIVERGING, 0.5 + share));
          pen.fillRect(line.x, top + row * high, each / line.size + 0.5, high - 0.5);
        }
      }
      const fresh = Math.min(panel.fresh[box], tokens) * high;
      if (fresh) outline(pen, colours.ink, [x - 1, top + tokens * high - fresh, each + 2, fresh], 2);
    });
    beside(pen, panel.labels, rows, 0, left, top, high, colours);
  }
  function words(row, line) {
    const { box, n, size } = lines[line];
    const [tokens] = panel.boxes[box].shape;
    if (row >= tokens) return `${panel.names[box]}: not there`;
    const age = row >= tokens - panel.fresh[box] ? "computed now" : "from before";
    const number = short(panel.boxes[box].data[row * size + n]);
    return `${panel.names[box]}, ${named("token", row, panel.labels)}, number ${n}: ${number} (${age})`;
  }
  return { width, height, rows, columns: lines.length, rect, at, words, paint };
}

// Places one above the other.
const stacked = (rows, top, pitch, width) => ({
  rows, columns: 1,
  rect: (row) => [1, top + row * pitch, width - 2, pitch - 2],
  at: (_, y) => inside((y - top) / pitch, 0, rows, 1),
});

// --- axes

function nameAxes(pen, along, x, foot, up, y, { soft }) {
  write(pen, along, x, foot - 8, { ink: soft });
  write(pen, up, 8, y, { ink: soft, turned: true });
}

// Labels below columns; as many as have room.
function below(pen, labels, count, left, pitch, foot, colours) {
  const place = isLong(labels) ? { align: "right", turned: true, room: 70 } : { base: "top" };
  for (let n = 0; n < count; n += stride(pitch, isLong(labels) ? 13 : labels ? 10 : 22)) {
    write(pen, label(labels, n), left + (n + 0.5) * pitch, foot + 6, { ink: colours.ink, ...place });
  }
}

// Labels left of rows; behind a cache, row 0 is token `first`.
function beside(pen, labels, count, first, left, top, pitch, colours) {
  const place = { ink: colours.ink, align: "right", small: pitch < 13, room: left - 22 };
  for (let n = 0; n < count; n += stride(pitch, 11)) {
    write(pen, label(labels, n + first), left - 7, top + (n + 0.5) * pitch, place);
  }
}

const stride = (pitch, room) => [1, 2, 4, 8, 16, 32, 64, 128, 256].find((n) => n * pitch >= room) ?? 512;

function ruled(pen, ticks, y, left, wide, colours) {
  for (const tick of ticks) {
    rule(pen, colours.line, left, y(tick), left + wide, y(tick));
    write(pen, short(tick), left - 6, y(tick), { ink: colours.ink, align: "right", small: true });
  }
}

function evenly(low, high) {
  const rough = (high - low) / 5 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const each = power * [1, 2, 5, 10].find((n) => n * power >= rough * 0.99);
  const [from, to] = [Math.ceil(low / each - 1e-9), Math.floor(high / each + 1e-9)];
  return Array.from({ length: to - from + 1 }, (_, n) => +((from + n) * each).toPrecision(6));
}

// --- small things

const element = (tag, values) => Object.assign(document.createElement(tag), values);

function clamp(number, low, high) { return Math.min(Math.max(number, low), high); }
const placeIn = (all, one) => (all.includes(one) ? all.indexOf(one) : all.findLastIndex((some) => some < one)); // or below

function inside(row, column, rows, columns) {
  return row >= 0 && row < rows && column >= 0 && column < columns ? [row, column].map(Math.floor) : null;
}

function write(pen, words, x, y, { ink, align = "center", base = "middle", turned, small, room }) {
  pen.save();
  const font = small ? FONT.replace("12", "11") : FONT;
  Object.assign(pen, { fillStyle: ink, font, textAlign: align, textBaseline: base });
  pen.translate(x, y);
  if (turned) pen.rotate(-Math.PI / 2);
  pen.fillText(words, 0, 0, room);
  pen.restore();
}

function outline(pen, colour, rect, thick = 1.5) {
  pen.beginPath();
  pen.rect(...rect);
  stroke(pen, colour, thick);
}

function stroke(pen, strokeStyle, lineWidth) {
  Object.assign(pen, { strokeStyle, lineWidth }).stroke();
}

function rule(pen, colour, x0, y0, x1, y1, thick = 1) {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  stroke(pen, colour, thick);
}

const printable = (word) => word.replace(/[\n\t\r]/g, (sign) => JSON.stringify(sign).slice(1, -1));
const clip = (word) => ([...word].length > 12 ? `${[...word].slice(0, 11).join("")}…` : word);
const isLong = (labels) => labels?.some((word) => word.length > 2); // words, no letters
const label = (labels, n) => (labels ? clip(printable(labels[n] ?? "")) : `${n}`);
const named = (name, n, labels) => `${name} ${n}${labels ? ` “${printable(labels[n])}”` : ""}`;

export function short(number) {
  if (!Number.isFinite(number)) return { Infinity: "∞", "-Infinity": "−∞" }[number] ?? "NaN";
  const size = Math.abs(number);
  const plain = size === 0 || (size >= 1e-3 && size < 1e5);
  const [digits, power] = (plain ? `${+number.toPrecision(3)}` : number.toExponential(1)).split("e");
  return (power ? `${+digits}e${+power}` : digits).replaceAll("-", "−");
}

const STYLE = `.causal-explorer {
  font: 14px/1.4 system-ui, sans-serif; max-width: 1100px; color: #1b1b1b; &[data-theme=dark] { color: #ececec }
  .controls, .control, .panels, .legend { display: flex; flex-wrap: wrap; gap: 4px 24px }
  .controls { max-width: 880px; margin-bottom: 6px }
  .control { flex: 1 1 330px; flex-wrap: nowrap; gap: 8px; align-items: center; min-width: 0; max-width: 420px }
  .control.text { flex-basis: 100%; max-width: 700px } .control:has(:disabled) { opacity: .55 }
  input, select, button { font: inherit; color: inherit; flex: 1 1 90px; min-width: 60px; max-width: 100%; accent-color: #2f6fae }
  input[type=range] { padding: 0; margin: 0; height: 24px }
  select, input[type=text], button { background: transparent; border: 1px solid #8a8a8a; border-radius: 4px; padding: 2px 6px }
  button { cursor: pointer; flex: 0 0 34px; min-width: 0 } output { text-align: right; font-variant-numeric: tabular-nums }
  &[data-theme=dark] option { background: #2b2b2b }
  :is(input, select, button, canvas):focus-visible { outline: 3px solid #e1701a; outline-offset: 2px }
  .panels { gap: 8px 16px; margin-top: 8px; align-items: flex-start } figure { margin: 0; min-width: 0 } figure.sentence { flex: 1 0 100% }
  figcaption { font-size: 14px; min-height: 1.4em; margin: 0 0 2px; text-align: left; color: inherit } .legend { gap: 0 12px; font-size: 12px }
  .legend span::before { content: ""; display: inline-block; width: 16px; margin-right: 5px; vertical-align: middle; border-top: 10px solid var(--colour) }
  .legend span::before, .words :is(.hidden, .changed) { forced-color-adjust: none } .legend .dashed::before { border-top: 3px dashed var(--colour) } .sheet { position: relative } canvas { display: block }
  .cursor { position: absolute; box-sizing: border-box; pointer-events: none; border: 2px solid; box-shadow: 0 0 0 1px #fff8 }
  p, .caption { margin: 2px 0; min-height: 1.4em; font-size: 14px; text-align: left } .said { font-weight: 600; position: sticky; bottom: 0; pointer-events: none }
  .said:not(:empty) { background: #fff } &[data-theme=dark] .said:not(:empty) { background: #1b1b1b } .note { opacity: .8; font-size: 13px } .error { color: #b00020; white-space: pre-wrap; font-family: monospace }
  :is(.error, .note):empty { display: none } &[data-theme=dark] .error { color: #ff8a9a } .words { font-size: 18px; line-height: 2 }
  .words span { padding: 2px 4px; border-radius: 4px; border: 2px solid transparent } .words .hidden { color: transparent; background: #9a9a9a; user-select: none }
  .words .changed { color: #fff; background: #1b1b1b; font-weight: 600 }
  &[data-theme=dark] .words .changed { color: #1b1b1b; background: #e8e8e8 } .words .plain { opacity: .7 } .words .ring { border-color: currentColor }
  .words .hidden.ring { border-color: #2f6fae } }`;
