// The one front end of all explorers. Python computes pictures (panels of arrays and words, see
// plots/picture.py), this draws them: in Jupyter and Colab as an anywidget, whose pictures come
// from a kernel; on a page without Python, whose pictures come from a record (record.py).
//
//   render, wake    the two ways in
//   mount           one explorer: controls, panels, caption; the same in every place
//   DRAW            how each kind of panel is drawn, and what it says where one points

export default { render };

const SILENCE = 8000; // milliseconds after which a kernel that says nothing is spoken of
const MEMORY = 32e6; // bytes of pictures that are kept, to be shown at once when one comes back
const PLAY = 500; // milliseconds from step to step

// What an explorer drew last, as data: tests hold it to what Python computes.
export const drawn = (root) => root.drawn();

// --- where pictures come from

// In a notebook: ask the kernel. One question is under way at a time, then the newest wish is next.
function render({ model, el }) {
  const view = crypto.randomUUID?.() ?? String(Math.random());
  const root = document.createElement("div");
  el.append(root);
  let count = 0, flying = null, next = null, timer;

  function send(wishes) {
    flying = `${view} ${++count}`;
    next = null;
    model.set("_asked", { number: flying, wishes });
    model.save_changes();
    clearTimeout(timer);
    timer = setTimeout(() => {
      flying = null; // the next move tries again
      explorer.complain("Python has not answered for a while: the kernel is busy or gone.");
    }, SILENCE);
  }

  function hear() {
    const message = model.get("_picture");
    const mine = flying !== null && message.asked === flying;
    if (mine) {
      clearTimeout(timer);
      flying = null;
    }
    const picture = { ...message, panels: message.panels?.map(fromKernel) };
    // While a question of this page is under way, Python's word on another one is only a preview.
    explorer.show(picture, next === null && flying === null);
    if (flying === null && next !== null) send(next);
  }

  const explorer = mount(root, model.get("_name"), model.get("_controls"), (wishes) => {
    next = wishes;
    if (flying === null) send(wishes);
  });
  model.on("change:_picture", hear);
  hear();
  return () => {
    model.off("change:_picture", hear);
    clearTimeout(timer);
    explorer.remove();
  };
}

// On a page: find the explorers, and load the record of each one that comes into view.
export function wake(page) {
  const watcher = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => {
      watcher.unobserve(target);
      open(target).catch((error) => {
        target.dataset.state = "error";
        target.append(element("p", { className: "error", textContent: String(error) }));
      });
    }),
    { rootMargin: "600px" },
  );
  for (const root of page.querySelectorAll(".causal-explorer[data-record]")) {
    root.dataset.state = "waiting";
    watcher.observe(root);
  }
}

async function open(root) {
  const name = root.dataset.record;
  if (!window.causalRecords?.[name]) await load(root.dataset.src);
  const record = await unpack(window.causalRecords[name]);
  const explorer = mount(root, record.name, record.controls, (wishes) => {
    explorer.show({ ...record.look(wishes), wishes }, true);
  });
  explorer.say(record.note);
  explorer.show({ ...record.look(record.first), wishes: record.first }, true);
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
  const pictures = head.pictures.map(([numbers, caption, limits, unused]) => (
    { panels: numbers.map((number) => panels[number]), caption, limits, unused }
  ));
  const look = (wishes) => {
    let place = 0;
    for (const { name, options, values } of head.controls) {
      const choices = options ?? values;
      place = place * choices.length + choices.indexOf(wishes[name]);
    }
    return pictures[index[place]];
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
  const bar = element("div", { className: "controls" });
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", name);
  const area = element("div", { className: "panels" });
  const caption = element("p", { className: "caption", role: "status" });
  const said = element("p", { className: "said", role: "status" });
  const error = element("p", { className: "error", role: "alert" });
  const note = element("p", { className: "note" });
  let wishes = {}, picture = null, last = null, panels = [], pinned = null;
  root.drawn = () => last;
  const memory = remember();

  const handles = controls.map((control) => makeControl(control, (value) => {
    wishes = { ...wishes, [control.name]: value };
    const known = memory.get(wishes);
    if (known) draw(known, "ready");
    else root.dataset.state = "waiting";
    ask(wishes);
  }));
  bar.append(...handles.map((handle) => handle.box));
  root.replaceChildren(element("style", { textContent: STYLE }), bar, area, caption, said, error, note);

  function show(message, newest) {
    error.textContent = message.error ?? "";
    if (message.error) {
      if (newest) root.dataset.state = "error";
      return;
    }
    memory.put(message);
    if (newest) wishes = message.wishes;
    if (newest || !memory.get(wishes)) draw(message, newest ? "ready" : "waiting");
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
      const value = typeof wishes[one] === "number"
        ? Math.min(Math.max(wishes[one], low), high) : wishes[one];
      put(value, low, high, picture.unused.includes(one));
    }
  }

  function redraw() {
    if (!picture) return;
    const colours = coloursOf(root);
    root.dataset.theme = colours.name;
    if (panels.map((panel) => panel.kind).join() !== picture.panels.map((one) => one.kind).join()) {
      panels = picture.panels.map(({ kind }) => makePanel(kind, point));
      area.replaceChildren(...panels.map((panel) => panel.box));
    }
    const room = root.clientWidth || 800;
    panels.forEach((panel, number) => panel.draw(picture.panels[number], colours, room));
    if (pinned && panels.includes(pinned.panel)) pinned.panel.point(pinned.place);
    last = picture;
  }

  // Say what stands where a finger or a key points; a click keeps it while T slides on.
  function point(panel, place, pin) {
    if (pin) pinned = pinned && pinned.panel === panel && same(pinned.place, place) ? null : { panel, place };
    const chosen = place === null && pinned ? pinned : { panel, place };
    panels.filter((one) => one !== chosen.panel).forEach((one) => one.point(null));
    const words = chosen.panel.point(chosen.place);
    said.textContent = words ? words + (pinned ? " (pinned)" : "") : "";
  }

  function key(event) {
    const target = event.composedPath()[0];
    if (!root.contains(target) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Tab" || event.key === "Escape") return;
    // JupyterLab would take the arrows of a slider for its own, and letters for commands.
    event.stopImmediatePropagation();
    const handle = [...handles, ...panels].find((one) => one.field === target);
    if (handle?.key?.(event.key)) event.preventDefault();
  }

  const sizes = new ResizeObserver(redraw);
  sizes.observe(root);
  window.addEventListener("keydown", key, true);
  window.addEventListener("resize", redraw);
  const stop = whenThemeChanges(redraw);
  function remove() {
    sizes.disconnect();
    window.removeEventListener("keydown", key, true);
    window.removeEventListener("resize", redraw);
    stop();
    handles.forEach((handle) => handle.stop?.());
  }
  const complain = (text) => { error.textContent = text; };
  const say = (text) => { note.textContent = text ?? ""; };
  return { show, complain, say, remove };
}

// Pictures by the wishes that led to them, the oldest forgotten first.
function remember() {
  const kept = new Map();
  let edition, size = 0;
  const keyOf = (wishes) => JSON.stringify(Object.entries(wishes).sort());
  const weigh = (message) => message.panels.reduce((sum, panel) => sum + bytesIn(panel), 500);
  return {
    get: (wishes) => kept.get(keyOf(wishes)),
    put(message) {
      if (message.edition !== edition) { // the data behind all pictures is another one now
        kept.clear();
        [edition, size] = [message.edition, 0];
      }
      const key = keyOf(message.wishes);
      if (!kept.has(key)) size += weigh(message);
      kept.set(key, message);
      for (const [old, picture] of kept) {
        if (size <= MEMORY || old === key) break;
        kept.delete(old);
        size -= weigh(picture);
      }
    },
  };
}

const bytesIn = (thing) => thing?.data?.byteLength
  ?? (thing && typeof thing === "object" ? Object.values(thing).reduce((sum, one) => sum + bytesIn(one), 0) : 0);

// --- controls

let numbers = 0;

function makeControl(control, changed) {
  const id = `causal-control-${++numbers}-${Math.random().toString(36).slice(2, 7)}`;
  const label = element("label", { htmlFor: id, textContent: control.label });
  const { field, read, put, key } = { slider, steps, menu, text }[control.kind](control);
  field.id = id;
  field.dataset.control = control.name;
  const move = () => changed(read());
  field.addEventListener(control.kind === "menu" ? "change" : "input", move);
  const box = element("div", { className: `control ${control.kind}` });
  box.append(label, field);
  const value = element("output", {});
  value.setAttribute("for", id);
  if (control.kind === "slider" || control.kind === "steps") box.append(value);
  let timer = null;
  const play = control.play ? element("button", { type: "button", textContent: "▶" }) : null;
  play?.setAttribute("aria-label", `play ${control.label}`);
  const stop = () => {
    clearInterval(timer);
    timer = null;
    if (play) play.textContent = "▶";
  };
  const step = () => {
    if (Number(field.value) < Number(field.max)) field.value = Number(field.value) + 1;
    else if (timer === null) field.value = field.min;
    else return stop();
    move();
  };
  play?.addEventListener("click", () => {
    if (timer !== null) return stop();
    step();
    // Who wants less motion gets one step for one press.
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    play.textContent = "⏸";
    timer = setInterval(step, PLAY);
  });
  if (play) box.append(play);
  return {
    name: control.name, box, field, stop,
    key: (pressed) => key?.(pressed) && (move(), true),
    put(shown, low, high, unused) {
      value.textContent = put(shown, low, high) ?? "";
      field.disabled = unused || (low === high && field.type === "range");
      if (play) play.disabled = field.disabled;
      box.classList.toggle("unused", field.disabled);
    },
  };
}

function range() {
  const field = element("input", { type: "range", step: 1 });
  const key = (pressed) => {
    const [low, high, now] = [field.min, field.max, field.value].map(Number);
    const page = Math.max(1, Math.round((high - low) / 10));
    const to = {
      ArrowRight: now + 1, ArrowUp: now + 1, ArrowLeft: now - 1, ArrowDown: now - 1,
      PageUp: now + page, PageDown: now - page, Home: low, End: high,
    }[pressed];
    if (to === undefined) return false;
    field.value = Math.min(Math.max(to, low), high);
    return true;
  };
  return { field, key };
}

function slider({ low, high }) {
  const { field, key } = range();
  const put = (value, lowest, highest) => {
    field.min = Math.max(low, lowest);
    field.max = Math.min(high, highest);
    field.value = value;
    return String(value);
  };
  return { field, key, put, read: () => Number(field.value) };
}

function steps({ values, words }) {
  const { field, key } = range();
  const put = (value, lowest, highest) => {
    const open = values.map((_, n) => n).filter((n) => !(values[n] < lowest || values[n] > highest));
    field.min = open[0] ?? 0;
    field.max = open.at(-1) ?? 0;
    const near = values.findLastIndex((one) => one === value || one < value);
    field.value = values.includes(value) ? values.indexOf(value) : near;
    const shown = words[values.indexOf(value)] ?? String(value);
    field.setAttribute("aria-valuetext", shown);
    return shown;
  };
  return { field, key, put, read: () => values[Number(field.value)] };
}

function menu({ options }) {
  const field = element("select", {});
  field.append(...options.map((one) => element("option", { textContent: one, value: one })));
  const key = (pressed) => {
    const now = field.selectedIndex;
    const to = {
      ArrowDown: now + 1, ArrowRight: now + 1, ArrowUp: now - 1, ArrowLeft: now - 1,
      Home: 0, End: options.length - 1,
    }[pressed];
    if (to === undefined) return false;
    field.selectedIndex = Math.min(Math.max(to, 0), options.length - 1);
    return true;
  };
  return { field, key, put: (value) => { field.value = value; }, read: () => field.value };
}

function text() {
  const field = element("input", { type: "text", spellcheck: false, autocomplete: "off" });
  const put = (value) => { if (field.value !== value) field.value = value; };
  return { field, put, read: () => field.value };
}

// --- colours

const VIRIDIS = `440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73
  5ec962 84d44b addc30 d8e219 fde725`.split(/\s+/);
const DIVERGING = "2d004b 5f3a91 9990bf cfcfe5 f7f7f6 fed59f ee9b39 bd6109 7f3b08".split(" ");
const SHARED = { past: "#2f6fae", future: "#e1701a", broken: "#d6218f", allowed: "#7fb2dd" };
const LIGHT = {
  ...SHARED, name: "light", ink: "#1b1b1b", soft: "#595959", line: "#d4d4d4", pale: "#f3f3f3",
  blocked: "#e3e3e3", hatch: "#b5b5b5", missing: "#a3a3a3", truth: "#757575", second: "#17795e",
  third: "#7a4fa3",
};
const DARK = {
  ...SHARED, name: "dark", past: "#5b9bd8", ink: "#ececec", soft: "#b4b4b4", line: "#4a4a4a",
  pale: "#2b2b2b", blocked: "#3a3a3a", hatch: "#5f5f5f", missing: "#7d7d7d", truth: "#a0a0a0",
  second: "#45bf9c", third: "#b592da", future: "#f08a3c", broken: "#f062b4",
};

// Every page has its own switch for dark and light; what all have is a background.
function coloursOf(root) {
  for (let at = root; at; at = at.parentElement ?? at.getRootNode().host) {
    const [r, g, b, a = 1] = getComputedStyle(at).backgroundColor.match(/[\d.]+/g)?.map(Number) ?? [0, 0, 0, 0];
    if (a > 0.5) return 0.299 * r + 0.587 * g + 0.114 * b < 128 ? DARK : LIGHT;
  }
  const may = getComputedStyle(document.documentElement).colorScheme.includes("dark");
  return may && matchMedia("(prefers-color-scheme: dark)").matches ? DARK : LIGHT;
}

function whenThemeChanges(redraw) {
  const later = () => [0, 150, 600].forEach((wait) => setTimeout(redraw, wait)); // styles load late
  const observer = new MutationObserver(later);
  const attributes = { attributeFilter: ["class", "data-theme", "data-jp-theme-light", "theme", "style"] };
  for (const one of [document.documentElement, document.body]) observer.observe(one, attributes);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", later);
  return () => {
    observer.disconnect();
    dark.removeEventListener("change", later);
  };
}

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

// A pixel of an image, red in the lowest byte.
const pixel = ([r, g, b], alpha = 255) => ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;

function between(stops, share) {
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const [low, high] = [stops[Math.floor(at)], stops[Math.ceil(at)]].map((hex) => channels(`#${hex}`));
  return low.map((one, n) => Math.round(one + (high[n] - one) * (at % 1)));
}

const SCALE = Array.from({ length: 256 }, (_, n) => between(VIRIDIS, n / 255));
// A square root, so that a small leak is seen.
const ofWeight = (weight) => SCALE[Math.round(255 * Math.sqrt(Math.min(Math.max(weight, 0), 1)))];
const ofLevel = (level, levels) => between(VIRIDIS, 1 - (0.9 * level) / Math.max(levels - 1, 1));
const rgb = (colour) => `rgb(${colour.join()})`;
const isDark = ([r, g, b]) => 0.299 * r + 0.587 * g + 0.114 * b < 128;

// --- panels

const FONT = "12px system-ui, sans-serif";
const FRAME = [null, "future", "past", "ink"]; // picture.FRAMES

function makePanel(kind, point) {
  const box = element("figure", { className: `panel ${kind.toLowerCase()}` });
  const title = element("figcaption", {});
  if (kind === "Sentence") return sentence(box, title);
  const field = element("canvas", { tabIndex: 0, role: "img" });
  const cursor = element("div", { className: "cursor", hidden: true });
  const sheet = element("div", { className: "sheet" });
  sheet.append(field, cursor);
  box.append(title, sheet);
  let spots, at = null;
  const self = { kind, box, field, draw, point: show, key };

  function draw(panel, colours, room) {
    title.textContent = panel.title;
    const { width, height, paint } = DRAW[kind](panel, colours, Math.max(room - 4, 200));
    const sharp = window.devicePixelRatio || 1;
    Object.assign(field, { width: Math.round(width * sharp), height: Math.round(height * sharp) });
    Object.assign(field.style, { width: `${width}px`, height: `${height}px` });
    box.style.maxWidth = `${width}px`;
    const pen = field.getContext("2d");
    pen.scale(sharp, sharp);
    pen.font = FONT;
    spots = paint(pen, sharp);
    field.setAttribute("aria-label", `${panel.title || kind}: ${spots.rows} by ${spots.columns}`);
    show(at);
  }

  // Put the frame around a place, and give its words.
  function show(place) {
    at = place;
    const there = place && place[0] < spots.rows && place[1] < spots.columns;
    cursor.hidden = !there;
    if (!there) return "";
    const [left, top, width, height] = spots.rect(...place);
    Object.assign(cursor.style, {
      left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px`,
    });
    return spots.words(...place);
  }

  function key(pressed) {
    const [row, column] = at ?? [0, 0];
    const to = {
      ArrowDown: [row + 1, column], ArrowUp: [row - 1, column], ArrowRight: [row, column + 1],
      ArrowLeft: [row, column - 1], Home: [row, 0], End: [row, spots.columns - 1],
      Enter: [row, column], " ": [row, column],
    }[pressed];
    if (!to) return false;
    const inside = (one, count) => Math.min(Math.max(one, 0), count - 1);
    const first = at === null && pressed.startsWith("Arrow"); // the first press shows where one is
    const place = first ? [0, 0] : [inside(to[0], spots.rows), inside(to[1], spots.columns)];
    point(self, place, pressed === "Enter" || pressed === " ");
    return true;
  }

  const placeOf = (event) => spots?.at(event.offsetX, event.offsetY) ?? null;
  field.addEventListener("pointermove", (event) => point(self, placeOf(event)));
  field.addEventListener("pointerleave", () => point(self, null));
  field.addEventListener("click", (event) => placeOf(event) && point(self, placeOf(event), true));
  field.addEventListener("blur", () => point(self, null));
  return self;
}

function sentence(box, title) {
  const line = element("p", { className: "words" });
  box.append(title, line);
  const draw = (panel) => {
    title.textContent = panel.title;
    line.replaceChildren(...panel.words.flatMap((word, n) => {
      const one = element("span", { className: panel.kinds[n], textContent: word });
      if (panel.ring === n) one.classList.add("ring");
      if (panel.kinds[n] === "hidden") one.title = "hidden";
      return [one, " "];
    }));
  };
  return { kind: "Sentence", box, draw, point: () => "" };
}

// Each kind says how large it is and how it is painted; painted, it knows what stands where.
const DRAW = { Heat: heat, Bars: bars, Curves: curves, Sizes: sizes, Dials: dials, Boxes: boxes };

function heat(panel, colours, room) {
  const { cells, blocked, absent, frames, labels, levels, names } = panel;
  const [rows, columns] = (cells ?? blocked).shape;
  const scale = cells !== null || levels.length > 0;
  const left = labels ? 100 : 46;
  const top = panel.above.length ? 22 : 8;
  const right = 10 + (scale ? 58 : 0) + (panel.right.length ? 44 : 0) + (levels.length ? 40 : 0);
  const side = Math.min(panel.side, Math.max(room - left - right, 120));
  const [width, height] = [left + side + right, top + side + (labels ? 92 : 40)];
  const first = columns - rows; // the queries are the last of the keys
  const x = (column) => left + (column * side) / columns;
  const y = (row) => top + (row * side) / rows;
  const [wide, high] = [side / columns, side / rows];
  const value = (n) => (cells ? cells.data[n] : NaN);
  const hatched = (n) => blocked?.data[n] && (!cells || cells.data[n] === 0);

  function colourOf(n) {
    if (absent?.data[n]) return channels(colours.pale);
    if (!cells) return channels(colours.allowed);
    if (Number.isNaN(cells.data[n])) return channels(colours.broken);
    return levels.length ? ofLevel(cells.data[n], levels.length) : ofWeight(cells.data[n]);
  }

  function paint(pen, sharp) {
    const pixels = Math.round(side * sharp);
    const image = new ImageData(pixels, pixels);
    const out = new Uint32Array(image.data.buffer);
    const shades = new Uint32Array(rows * columns); // 0 where the hatching goes
    for (let row = 0, n = 0; row < rows; row++) {
      const faint = panel.dim && !panel.rows.includes(row + first) ? 90 : 255;
      for (let column = 0; column < columns; column++, n++) {
        if (absent?.data[n] || !hatched(n)) shades[n] = pixel(colourOf(n), faint);
      }
    }
    const columnOf = Uint32Array.from({ length: pixels }, (_, i) => Math.floor((i * columns) / pixels));
    const [paper, line] = [pixel(channels(colours.blocked)), pixel(channels(colours.hatch))];
    const [pitch, thick] = [8 * sharp, 2 * sharp];
    for (let i = 0, n = 0; i < pixels; i++) {
      const begin = Math.floor((i * rows) / pixels) * columns;
      for (let j = 0; j < pixels; j++, n++) {
        out[n] = shades[begin + columnOf[j]] || ((i + j) % pitch < thick ? line : paper);
      }
    }
    pen.putImageData(image, Math.round(left * sharp), Math.round(top * sharp));
    if (Math.max(rows, columns) <= 32) {
      for (let column = 1; column < columns; column++) pen.clearRect(x(column) - 0.5, top, 1, side);
      for (let row = 1; row < rows; row++) pen.clearRect(left, y(row) - 0.5, side, 1);
    }
    for (let n = 0; n < rows * columns; n++) mark(pen, n, Math.floor(n / columns), n % columns);
    for (const query of panel.rows) {
      if (query < first || query >= columns) continue;
      write.box(pen, colours.ink, left - 1, y(query - first), side + 2, high, 1.5);
    }
    for (const one of panel.columns) write.box(pen, colours.ink, x(one), top - 1, wide, side + 2, 1.5);
    axes(pen);
    if (scale) key(pen);
    return { rows, columns, rect, words, at };
  }

  function mark(pen, n, row, column) {
    const frame = FRAME[frames?.data[n] ?? 0];
    if (frame && Math.min(wide, high) > 4) {
      const thick = Math.min(Math.max(wide / 10, 1), 3);
      const inset = thick / 2 + 1;
      write.box(pen, colours[frame], x(column) + inset, y(row) + inset, wide - 2 * inset, high - 2 * inset, thick);
    }
    if (panel.numbers && Math.min(wide, high) > 27 && cells && !absent?.data[n] && !hatched(n)) {
      const ink = isDark(colourOf(n)) ? "#fff" : "#000";
      const shown = levels.length ? levels[value(n)] : tight(value(n));
      write(pen, shown, x(column) + wide / 2, y(row) + high / 2, { ink, small: true });
    }
  }

  function axes(pen) {
    const each = labels ? 13 : 22;
    for (let column = 0; column < columns; column += stride(columns, side, each)) {
      write(pen, label(labels, column), x(column + 0.5), top + side + 6, {
        ink: colours.ink, align: labels ? "right" : "center", base: labels ? "middle" : "top", turned: !!labels,
      });
    }
    for (let row = 0; row < rows; row += stride(rows, side, 13)) {
      write(pen, label(labels, row + first), left - 7, y(row + 0.5), { ink: colours.ink, align: "right" });
    }
    write(pen, names[1], left + side / 2, height - 8, { ink: colours.soft });
    write(pen, names[0], 8, top + side / 2, { ink: colours.soft, turned: true });
    panel.right.forEach((word, row) => {
      if (high >= 11) write(pen, word, left + side + 6, y(row + 0.5), { ink: colours.ink, align: "left", small: true });
    });
    panel.above.forEach((word, column) => {
      if (wide >= 27) write(pen, word, x(column + 0.5), top - 9, { ink: colours.ink, small: true });
    });
  }

  function key(pen) {
    const from = left + side + (panel.right.length ? 50 : 10);
    if (levels.length) {
      levels.forEach((word, level) => {
        pen.fillStyle = rgb(ofLevel(level, levels.length));
        pen.fillRect(from, top + 20 * level, 12, 12);
        write(pen, word, from + 17, top + 20 * level + 6, { ink: colours.ink, align: "left" });
      });
      return;
    }
    for (let i = 0; i < side; i++) {
      pen.fillStyle = rgb(SCALE[Math.round(255 * (1 - i / (side - 1)))]);
      pen.fillRect(from, top + i, 10, 1.5);
    }
    for (const tick of [0, 0.01, 0.1, 0.25, 0.5, 1]) {
      const place = top + Math.min(Math.max((1 - Math.sqrt(tick)) * side, 6), side - 6);
      write(pen, String(tick), from + 14, place, { ink: colours.ink, align: "left", small: true });
    }
    write(pen, names[2], from + 44, top + side / 2, { ink: colours.soft, turned: true });
  }

  const rect = (row, column) => [x(column), y(row), wide, high];
  const at = (left_, top_) => inGrid((top_ - top) / high, (left_ - left) / wide, rows, columns);
  function words(row, column) {
    const n = row * columns + column;
    const state = absent?.data[n] ? "nothing was computed"
      : hatched(n) ? "blocked"
        : !cells ? "may be looked at"
          : levels.length ? levels[value(n)] : short(value(n));
    const why = ["", ", a leak", ", should be seen", ", changed"][frames?.data[n] ?? 0];
    return `${named(names[0], row + first, labels)} → ${named(names[1], column, labels)}: ${state}${why}`;
  }
  return { width, height, paint };
}

function bars(panel, colours, room) {
  const { heights, parts, outline, labels, meanings } = panel;
  const [kinds, count] = heights.shape;
  const [left, top, bottom] = [52, meanings.length ? 26 : 8, labels ? 92 : 40];
  const wide = Math.min(panel.width, Math.max(room - left - 8, 60));
  const [width, height] = [left + wide + 8, top + panel.height + bottom];
  const share = (one) => Math.min(Math.max(one / panel.top, 0), 1.04);
  const y = (one) => top + panel.height * (1 - (panel.root ? Math.sqrt(share(one)) : share(one)));
  const pitch = wide / count;
  const gap = Math.min(pitch * 0.1, 6);
  const rect = (_, bar) => [left + bar * pitch + gap, top, Math.max(pitch - 2 * gap, 1), panel.height];

  function paint(pen) {
    for (const tick of panel.root ? [0, 0.01, 0.1, 0.25, 0.5, 1] : [0, 0.25, 0.5, 0.75, 1]) {
      rule(pen, colours.line, left, y(tick * panel.top), left + wide, y(tick * panel.top));
      write(pen, short(tick * panel.top), left - 6, y(tick * panel.top), { ink: colours.ink, align: "right", small: true });
    }
    for (let bar = 0; bar < count; bar++) {
      const [begin, , thick] = rect(0, bar);
      let below = 0;
      for (let part = 0; part < kinds; part++) {
        const one = heights.data[part * count + bar];
        if (Number.isNaN(one)) {
          pen.fillStyle = colours.broken;
          pen.fillRect(begin, top, thick, panel.height);
          continue;
        }
        pen.fillStyle = colours[parts[part]];
        pen.fillRect(begin, y(below + one), thick, y(below) - y(below + one));
        below += one;
      }
      if (outline) write.box(pen, colours.truth, begin, y(outline.data[bar]), thick, y(0) - y(outline.data[bar]), 1.5);
      if (panel.marked.includes(bar)) write.box(pen, colours.ink, begin - 2, top - 2, thick + 4, panel.height + 4, 1.5);
    }
    for (let bar = 0; bar < count; bar += stride(count, wide, labels ? 13 : 22)) {
      write(pen, label(labels, bar), left + (bar + 0.5) * pitch, top + panel.height + 6, {
        ink: colours.ink, align: labels ? "right" : "center", base: labels ? "middle" : "top", turned: !!labels,
      });
    }
    legend(pen, meanings, parts.map((part) => colours[part]), left, 10, colours);
    write(pen, panel.name, left + wide / 2, height - 8, { ink: colours.soft });
    write(pen, panel.label, 8, top + panel.height / 2, { ink: colours.soft, turned: true });
    return { rows: 1, columns: count, rect, words, at };
  }

  const at = (x) => inGrid(0, (x - left) / pitch, 1, count);
  function words(_, bar) {
    const said = parts.map((part, n) => [meanings[n] ?? "", heights.data[n * count + bar]])
      .filter(([, one], n) => one !== 0 || kinds === 1 || (n === 0 && parts.every((__, m) => heights.data[m * count + bar] === 0)))
      .map(([meaning, one]) => `${meaning} ${short(one)}`.trim());
    const truth = outline ? `; right: ${short(outline.data[bar])}` : "";
    return `${named(panel.name, bar, labels)}: ${said.join(", ")}${truth}`;
  }
  return { width, height, paint };
}

function curves(panel, colours, room) {
  const { values, names, log } = panel;
  const [count, points] = values.shape;
  const xs = panel.x?.data ?? Array.from({ length: points }, (_, n) => n);
  const [left, top, bottom] = [64, 10 + 18 * count, 44];
  const wide = Math.min(panel.width, Math.max(room - left - 14, 100));
  const [width, height] = [left + wide + 14, top + panel.height + bottom];
  const [x0, x1] = [xs[0], xs[points - 1]];
  const x = (one) => left + (x1 > x0 ? ((one - x0) / (x1 - x0)) * wide : wide / 2);
  const scaled = log ? Math.log10 : (one) => one;
  const [low, high] = [scaled(panel.low), scaled(panel.high)];
  const y = (one) => top + panel.height * (1 - (scaled(one) - low) / (high - low));

  function paint(pen) {
    for (const tick of log ? decades(panel.low, panel.high) : evenly(panel.low, panel.high)) {
      rule(pen, colours.line, left, y(tick), left + wide, y(tick));
      write(pen, short(tick), left - 6, y(tick), { ink: colours.ink, align: "right", small: true });
    }
    for (const tick of evenly(x0, x1).filter((one) => one >= x0 && one <= x1)) {
      write(pen, short(tick), x(tick), top + panel.height + 6, { ink: colours.ink, base: "top", small: true });
    }
    if (panel.marked !== null) {
      pen.globalAlpha = 0.5;
      rule(pen, colours.ink, x(panel.marked), top, x(panel.marked), top + panel.height, 1.5);
      pen.globalAlpha = 1;
    }
    pen.save();
    pen.beginPath();
    pen.rect(left, top - 2, wide + 2, panel.height + 4);
    pen.clip();
    for (let one = 0; one < count; one++) trace(pen, one);
    pen.restore();
    names.forEach((name, n) => {
      pen.setLineDash(panel.dashed.includes(n) ? [6, 4] : []);
      rule(pen, colours[panel.colours[n]], left, 10 + 18 * n, left + 24, 10 + 18 * n, 2.5);
      pen.setLineDash([]);
      write(pen, name, left + 30, 10 + 18 * n, { ink: colours.ink, align: "left" });
    });
    write(pen, panel.axis, left + wide / 2, height - 8, { ink: colours.soft });
    write(pen, panel.label, 8, top + panel.height / 2, { ink: colours.soft, turned: true });
    return { rows: 1, columns: points, rect, words, at };
  }

  function trace(pen, one) {
    pen.strokeStyle = colours[panel.colours[one]];
    pen.lineWidth = 2.5;
    pen.setLineDash(panel.dashed.includes(one) ? [6, 4] : []);
    pen.beginPath();
    let drawing = false;
    for (let n = 0; n < points; n++) {
      const value = values.data[one * points + n];
      const there = Number.isFinite(value) && !(log && value <= 0);
      if (there) {
        const [a, b] = [x(xs[n]), y(value)];
        if (panel.steps) {
          const half = points > 1 ? (x(xs[1]) - x(xs[0])) / 2 : wide / 4;
          drawing ? pen.lineTo(a - half, b) : pen.moveTo(a - half, b);
          pen.lineTo(a + half, b);
        } else drawing ? pen.lineTo(a, b) : pen.moveTo(a, b);
      }
      drawing = there;
    }
    pen.stroke();
    pen.setLineDash([]);
  }

  const rect = (_, n) => [x(xs[n]) - 3, top, 6, panel.height];
  function at(place) {
    const share = (place - left) / wide;
    if (share < -0.02 || share > 1.02) return null;
    const wanted = x0 + share * (x1 - x0);
    let near = 0;
    for (let n = 1; n < points; n++) if (Math.abs(xs[n] - wanted) < Math.abs(xs[near] - wanted)) near = n;
    return [0, near];
  }
  const words = (_, n) => `${panel.axis} ${short(xs[n])}: `
    + names.map((name, one) => `${name} ${short(values.data[one * points + n])}`).join(", ");
  return { width, height, paint };
}

function sizes(panel, colours, room) {
  const rows = panel.names.length;
  const names = room < 520 ? 110 : 190;
  const wide = Math.min(panel.width, Math.max(room - names - 80, 100));
  const [top, pitch] = [30, 44];
  const [width, height] = [names + wide + 80, top + rows * pitch + 42];
  const x = (one) => names + (wide * Math.log2(Math.min(Math.max(one, 2 ** 10), 2 ** 44) / 2 ** 10)) / 34;
  const rect = (row) => [0, top + row * pitch, width, pitch];

  function paint(pen) {
    [..."KMGT"].forEach((unit, n) => {
      const at = x(1024 ** (n + 1));
      rule(pen, colours.line, at, top, at, top + rows * pitch);
      write(pen, `1 ${unit}iB`, at, top + rows * pitch + 6, { ink: colours.ink, base: "top", small: true });
    });
    panel.names.forEach((name, row) => {
      const [middle, end] = [top + (row + 0.5) * pitch, x(panel.nbytes.data[row])];
      write(pen, name, names - 8, middle, { ink: colours.ink, align: "right", room: names - 12 });
      if (Number.isNaN(panel.nbytes.data[row])) return write(pen, panel.words[row], names + 6, middle, { ink: colours.soft, align: "left" });
      pen.fillStyle = colours.past;
      pen.fillRect(names, middle - 12, Math.max(end - names, 2), 24);
      write(pen, panel.words[row], Math.max(end, names + 2) + 6, middle, { ink: colours.ink, align: "left" });
    });
    panel.marks.forEach(([one, name], n) => {
      rule(pen, colours.ink, x(one), 16, x(one), top + rows * pitch, 1.5);
      write(pen, name, x(one) + (n ? 5 : -5), 9, { ink: colours.ink, align: n ? "left" : "right", small: true });
    });
    write(pen, "bytes, on a logarithmic axis", names + wide / 2, height - 9, { ink: colours.soft });
    return { rows, columns: 1, rect, words, at };
  }

  const words = (row) => `${panel.names[row]}: ${panel.words[row]}`;
  const at = (_, y) => inGrid((y - top) / pitch, 0, rows, 1);
  return { width, height, paint };
}

function dials(panel, colours) {
  const [count] = panel.angles.shape;
  const { side, hands } = panel;
  const [width, height] = [Math.max(side + 20, 120), count * (side + 44) + 26];
  const middle = (dial) => [width / 2, 26 + dial * (side + 44) + side / 2];
  const rect = (_, dial) => [2, middle(dial)[1] - side / 2 - 4, width - 4, side + 40];

  function paint(pen) {
    legend(pen, hands, [colours.past, colours.third], 4, 10, colours);
    for (let dial = 0; dial < count; dial++) {
      const [x, y] = middle(dial);
      const [from, to] = [panel.angles.data[2 * dial], panel.angles.data[2 * dial + 1]];
      const radius = side / 2 - 2;
      pen.lineWidth = 1;
      pen.strokeStyle = colours.soft;
      pen.beginPath();
      pen.arc(x, y, radius, 0, 2 * Math.PI);
      pen.stroke();
      pen.fillStyle = colours.line;
      pen.beginPath();
      pen.moveTo(x, y);
      const turn = ((from - to) % (2 * Math.PI) + 3 * Math.PI) % (2 * Math.PI) - Math.PI; // the short way
      pen.arc(x, y, radius * 0.45, -to, -to - turn, turn > 0);
      pen.fill();
      for (const [angle, colour] of [[from, colours.past], [to, colours.third]]) {
        rule(pen, colour, x, y, x + radius * Math.cos(angle), y - radius * Math.sin(angle), 3);
      }
      write(pen, panel.names[dial], x, y + side / 2 + 12, { ink: colours.ink, small: true });
      write(pen, panel.words[dial], x, y + side / 2 + 27, { ink: colours.ink, small: true });
    }
    return { rows: 1, columns: count, rect, words, at };
  }

  const words = (_, dial) => `${panel.names[dial]}: ${panel.words[dial]} between ${hands[0]} and ${hands[1]}`;
  const at = (_, y) => inGrid(0, (y - 22) / (side + 44), 1, count);
  return { width, height, paint };
}

function boxes(panel, colours, room) {
  const count = panel.boxes.length;
  const wide = Math.min(panel.width, (room - 60) / count - 16);
  const [left, top, pitch] = [52, 26, wide + 16];
  const high = panel.height / panel.room;
  const [width, height] = [left + count * pitch, top + panel.height + 12];
  const rows = Math.max(...panel.boxes.map((box) => box.shape[0]));
  const columns = panel.boxes.reduce((sum, box) => sum + box.shape[1], 0);
  // Which box a column of numbers belongs to, and which number of it.
  const split = (column) => {
    let box = 0;
    while (column >= panel.boxes[box].shape[1]) column -= panel.boxes[box++].shape[1];
    return [box, column];
  };

  function paint(pen) {
    panel.boxes.forEach((box, n) => {
      const [tokens, size] = box.shape;
      const begin = left + n * pitch;
      write(pen, panel.names[n], begin + wide / 2, 12, { ink: colours.ink });
      write.box(pen, colours.line, begin, top, wide, panel.height, 1);
      for (let i = 0; i < tokens * size; i++) {
        pen.fillStyle = rgb(between(DIVERGING, 0.5 + box.data[i] / (2 * panel.limit)));
        const [row, column] = [Math.floor(i / size), i % size];
        pen.fillRect(begin + (column * wide) / size, top + row * high, wide / size + 0.5, high - 0.5);
      }
      const fresh = Math.min(panel.fresh[n], tokens);
      if (fresh) write.box(pen, colours.ink, begin - 1, top + (tokens - fresh) * high, wide + 2, fresh * high, 2);
    });
    for (let row = 0; row < rows; row += stride(rows, rows * high, 13)) {
      write(pen, label(panel.labels, row), left - 6, top + (row + 0.5) * high, { ink: colours.ink, align: "right", small: true, room: left - 8 });
    }
    return { rows, columns, rect, words, at };
  }

  const rect = (row, column) => {
    const [box, number] = split(column);
    const size = panel.boxes[box].shape[1];
    return [left + box * pitch + (number * wide) / size, top + row * high, wide / size, high];
  };
  function at(x, y) {
    const box = Math.floor((x - left) / pitch);
    const share = (x - left - box * pitch) / wide;
    if (box < 0 || box >= count || share < 0 || share >= 1) return null;
    const before = panel.boxes.slice(0, box).reduce((sum, one) => sum + one.shape[1], 0);
    return inGrid((y - top) / high, before + share * panel.boxes[box].shape[1], panel.boxes[box].shape[0], columns);
  }
  function words(row, column) {
    const [box, number] = split(column);
    const [tokens, size] = panel.boxes[box].shape;
    if (row >= tokens) return `${panel.names[box]}: not there yet`;
    const fresh = row >= tokens - panel.fresh[box] ? "computed now" : "from before";
    return `${panel.names[box]}, ${named("token", row, panel.labels)}, number ${number}: ${short(panel.boxes[box].data[row * size + number])} (${fresh})`;
  }
  return { width, height, paint };
}

// --- small things

function element(tag, values) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(values)) {
    if (name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  return made;
}

const same = (a, b) => a[0] === b[0] && a[1] === b[1];

function inGrid(row, column, rows, columns) {
  const place = [Math.floor(row), Math.floor(column)];
  return place[0] >= 0 && place[0] < rows && place[1] >= 0 && place[1] < columns ? place : null;
}

function write(pen, words, x, y, { ink, align = "center", base = "middle", turned, small, room }) {
  pen.save();
  pen.fillStyle = ink;
  pen.font = small ? FONT.replace("12", "11") : FONT;
  pen.textAlign = align;
  pen.textBaseline = base;
  pen.translate(x, y);
  if (turned) pen.rotate(-Math.PI / 2);
  pen.fillText(words, 0, 0, room);
  pen.restore();
}

write.box = (pen, colour, x, y, width, height, thick) => {
  pen.strokeStyle = colour;
  pen.lineWidth = thick;
  pen.strokeRect(x, y, width, height);
};

function rule(pen, colour, x0, y0, x1, y1, thick = 1) {
  pen.strokeStyle = colour;
  pen.lineWidth = thick;
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

function legend(pen, meanings, shades, x, y, colours) {
  for (const [n, meaning] of meanings.entries()) {
    pen.fillStyle = shades[n];
    pen.fillRect(x, y - 6, 12, 12);
    write(pen, meaning, x + 17, y, { ink: colours.ink, align: "left" });
    x += 32 + pen.measureText(meaning).width;
  }
}

// How many labels are left out between two, so that each has its room.
const stride = (count, length, each) => [1, 2, 4, 8, 16, 32, 64, 128, 256].find((n) => (length / count) * n >= each) ?? 512;

const label = (labels, n) => (labels ? clip(printable(labels[n] ?? "")) : String(n));
const printable = (word) => word.replace(/[\n\t\r]/g, (sign) => ({ "\n": "\\n", "\t": "\\t", "\r": "\\r" })[sign]);
const clip = (word) => ([...word].length > 12 ? [...word].slice(0, 11).join("") + "…" : word);
const named = (name, n, labels) => `${name} ${n}${labels ? ` “${printable(labels[n])}”` : ""}`;

export function short(number) {
  if (Number.isNaN(number)) return "NaN";
  if (!Number.isFinite(number)) return number > 0 ? "∞" : "−∞";
  const size = Math.abs(number);
  const plain = size === 0 || (size >= 1e-3 && size < 1e5);
  const [digits, power] = (plain ? `${+number.toPrecision(3)}` : number.toExponential(1)).split("e");
  return (power ? `${digits}e${+power}` : digits).replaceAll("-", "−");
}

// For a cell: two digits behind the point, and a small one as a power.
const tight = (number) => (number !== 0 && Math.abs(number) < 0.005 ? short(number) : short(+number.toFixed(2)));

function decades(low, high) {
  const [from, to] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high) + 1e-9)];
  const each = Math.max(1, Math.ceil((to - from) / 6));
  return Array.from({ length: Math.floor((to - from) / each) + 1 }, (_, n) => 10 ** (to - n * each));
}

function evenly(low, high) {
  const rough = (high - low) / 5 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const each = [1, 2, 5, 10].map((n) => n * power).find((one) => one >= rough * 0.99);
  const from = Math.ceil(low / each - 1e-9);
  return Array.from({ length: Math.floor(high / each + 1e-9) - from + 1 }, (_, n) => +((from + n) * each).toPrecision(6));
}

const STYLE = `
.causal-explorer { font: 14px/1.4 system-ui, sans-serif; max-width: 1100px; color: #1b1b1b }
.causal-explorer[data-theme=dark] { color: #ececec }
.causal-explorer .controls { display: flex; flex-wrap: wrap; gap: 4px 24px; max-width: 860px; margin-bottom: 6px }
.causal-explorer .control { display: flex; align-items: center; gap: 8px; flex: 1 1 360px; min-width: 0; max-width: 420px }
.causal-explorer .control.text { flex-basis: 100%; max-width: 700px }
.causal-explorer label { flex: 0 0 auto; max-width: 55% }
.causal-explorer input, .causal-explorer select { flex: 1 1 80px; min-width: 60px; max-width: 100%; font: inherit; accent-color: #2f6fae }
.causal-explorer select, .causal-explorer input[type=text], .causal-explorer button { color: inherit; background: transparent; border: 1px solid #8a8a8a; border-radius: 4px; padding: 2px 6px }
.causal-explorer[data-theme=dark] option { background: #2b2b2b }
.causal-explorer input[type=range] { padding: 0; margin: 0; height: 24px }
.causal-explorer output { min-width: 3ch; text-align: right; font-variant-numeric: tabular-nums }
.causal-explorer button { cursor: pointer; min-width: 32px; font: inherit }
.causal-explorer .unused { opacity: .55 }
.causal-explorer :is(input, select, button, canvas):focus-visible { outline: 3px solid #e1701a; outline-offset: 2px }
.causal-explorer .panels { display: flex; flex-wrap: wrap; gap: 8px 16px; align-items: flex-start }
.causal-explorer figure { margin: 0 }
.causal-explorer figcaption { font-size: 14px; min-height: 1.4em; margin: 0 0 4px; text-align: left; color: inherit }
.causal-explorer .sheet { position: relative }
.causal-explorer canvas { display: block }
.causal-explorer .cursor { position: absolute; box-sizing: border-box; pointer-events: none; border: 2px solid currentColor; box-shadow: 0 0 0 1px #fff8 }
.causal-explorer p { margin: 2px 0; min-height: 1.4em; font-size: 14px }
.causal-explorer .said { font-weight: 600 }
.causal-explorer .note { opacity: .8; font-size: 13px }
.causal-explorer :is(.error, .note):empty { display: none }
.causal-explorer .error { color: #b00020; white-space: pre-wrap; font-family: monospace }
.causal-explorer[data-theme=dark] .error { color: #ff8a9a }
.causal-explorer .sentence { flex: 1 0 100%; max-width: none }
.causal-explorer .words { font-size: 18px; line-height: 2 }
.causal-explorer .words span { padding: 2px 4px; border-radius: 4px; border: 2px solid transparent }
.causal-explorer .words .hidden { color: transparent; background: #b5b5b5; user-select: none }
.causal-explorer[data-theme=dark] .words .hidden { background: #5f5f5f }
.causal-explorer .words .changed { color: #a04800; font-weight: 600; text-decoration: underline }
.causal-explorer[data-theme=dark] .words .changed { color: #f5a56a }
.causal-explorer .words .ring { border-color: currentColor }
.causal-explorer .words .hidden.ring { border-color: #2f6fae }
`;
