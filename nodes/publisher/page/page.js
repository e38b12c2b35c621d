// The live page: one socket, from which streams, tracks and pictures come.

import { Details } from "/details.js";
import { Tile } from "/tile.js";
import { Timeline } from "/timeline.js";

const WIDTHS = [320, 480, 640, 960, 1280, 1920];
const RETRY_MS = [300, 5000];

const byId = (id) => document.getElementById(id);

class Page {
  constructor() {
    this.switches = { masks: true, boxes: false, labels: true };
    this.frozen = false;
    this.streams = new Map();
    this.tracks = new Map();
    this.tiles = new Map();
    this.current = null;
    this.alone = null;
    this.selected = null;
    this.over = false;
    this.measured = { pictures: 0, bytes: 0, boards: 0, drawMs: [], firstPictureMs: null };
    this.timeline = new Timeline(this);
    this.details = new Details(this);
    this.bindControls();
    this.connect(RETRY_MS[0]);
  }

  connect(pause) {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      pause = RETRY_MS[0];
      this.tracks.clear();
      this.wished = "";
      this.wish();
    };
    socket.onmessage = ({ data }) => (typeof data === "string" ? this.board(JSON.parse(data)) : this.picture(data));
    socket.onclose = () => {
      document.body.classList.add("offline");
      this.summary();
      setTimeout(() => this.connect(Math.min(2 * pause, RETRY_MS[1])), pause);
    };
  }

  /** Asks for pictures of what is in view, in the size in which it is. */
  wish() {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    const shown = this.alone ? [this.alone] : [...this.streams.keys()];
    const views = [...this.tiles.values()].map((tile) => tile.view.clientWidth);
    const needed = Math.max(320, ...views) * Math.min(window.devicePixelRatio || 1, 2);
    const width = WIDTHS.find((one) => one >= 0.9 * needed) ?? WIDTHS.at(-1);
    const wish = { width };
    if (document.hidden) wish.streams = [];
    else if (this.alone) wish.streams = shown;
    const text = JSON.stringify(wish);
    if (text !== this.wished) this.socket.send(text);
    this.wished = text;
  }

  board({ streams, tracks, over }) {
    this.measured.boards++;
    this.over = over;
    document.body.classList.remove("offline");
    const ids = new Set(streams.map((line) => line.id));
    for (const id of this.tiles.keys()) {
      if (!ids.has(id)) this.drop(id);
    }
    for (const line of streams) {
      this.streams.set(line.id, line);
      if (!this.tiles.has(line.id)) this.add(line.id);
      this.tiles.get(line.id).update(line);
    }
    for (const [stream, lines] of Object.entries(tracks)) {
      const known = this.tracks.get(stream) ?? new Map();
      lines.forEach((line) => known.set(line.id, line));
      this.tracks.set(stream, known);
    }
    this.current ??= streams[0]?.id ?? null;
    this.summary();
    if (!this.frozen) this.refresh();
    this.wish();
  }

  picture(data) {
    this.measured.pictures++;
    this.measured.bytes += data.byteLength;
    this.measured.firstPictureMs ??= performance.now();
    if (this.frozen) return;
    const length = new DataView(data).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    if (!this.tiles.has(head.stream_id)) this.add(head.stream_id);
    const tile = this.tiles.get(head.stream_id);
    tile.take(head, data.slice(4 + length)).then(() => this.details.cut(tile)).catch(() => {});
  }

  add(id) {
    const tile = new Tile(id, this);
    this.tiles.set(id, tile);
    const order = [...this.tiles.keys()].sort();
    const before = order[order.indexOf(id) + 1];
    const parent = byId("tiles");
    parent.querySelector(".empty")?.remove();
    parent.insertBefore(tile.element, before ? this.tiles.get(before).element : null);
    this.layout();
  }

  drop(id) {
    this.tiles.get(id).element.remove();
    [this.tiles, this.streams, this.tracks].forEach((map) => map.delete(id));
    if (this.current === id) this.current = null;
    if (this.alone === id) this.alone = null;
    this.layout();
  }

  /** As square as can be; a stream alone has all the room. */
  layout() {
    const count = this.alone ? 1 : this.tiles.size;
    const columns = Math.ceil(Math.sqrt(count));
    const style = byId("tiles").style;
    style.setProperty("--columns", columns);
    style.setProperty("--rows", Math.ceil(count / Math.max(1, columns)));
    for (const [id, tile] of this.tiles) {
      tile.element.hidden = this.alone !== null && id !== this.alone;
      tile.element.classList.toggle("current", id === this.current);
      tile.name.setAttribute("aria-pressed", id === this.alone);
    }
    byId("all").hidden = this.alone === null;
    this.wish();
  }

  summary() {
    const offline = document.body.classList.contains("offline");
    const lines = [...this.streams.values()];
    const open = lines.filter((line) => line.state === "open").length;
    const objects = lines.reduce((sum, line) => sum + line.objects, 0);
    let text = `${open} of ${lines.length} streams open · ${objects} objects in sight`;
    if (this.over) text = `The run is over · ${lines.length} streams`;
    else if (offline) text = "Connecting…";
    else if (this.frozen) text += " · frozen";
    byId("summary").textContent = text;
  }

  refresh() {
    const line = this.streams.get(this.current);
    this.timeline.show(line, this.tracks.get(this.current) ?? new Map());
  }

  redraw() {
    this.tiles.forEach((tile) => tile.draw());
    this.refresh();
  }

  drawn(ms) {
    this.measured.drawMs.push(ms);
    if (this.measured.drawMs.length > 2000) this.measured.drawMs.shift();
  }

  nameOf(stream, track) {
    const what = this.tracks.get(stream)?.get(track)?.identification;
    return what?.outcome === "identified" ? what.name : "";
  }

  selectedOf(stream) {
    return this.selected?.stream === stream ? this.selected.track : null;
  }

  onPick(stream, track) {
    this.current = stream;
    this.selected = track === null ? null : { stream, track };
    this.details.choose(stream, track);
    this.layout();
    this.redraw();
    if (track === null) return;
    this.details.cut(this.tiles.get(stream));
    document.querySelector('#rows .row[aria-selected="true"]')?.scrollIntoView({ block: "nearest" });
  }

  onFocus(stream) {
    this.current = stream;
    this.alone = this.alone === stream ? null : stream;
    this.layout();
    this.refresh();
  }

  toggle(name) {
    if (name === "freeze") {
      this.frozen = !this.frozen;
      byId("freeze").setAttribute("aria-pressed", this.frozen);
      document.body.classList.toggle("frozen", this.frozen);
      this.summary();
    } else {
      this.switches[name] = !this.switches[name];
      byId(name).setAttribute("aria-pressed", this.switches[name]);
    }
    this.redraw();
  }

  /** The stream or track before or after the one chosen. */
  step(by, ofTracks) {
    if (!ofTracks) {
      const ids = [...this.tiles.keys()].sort();
      const at = ids.indexOf(this.current);
      this.current = ids[(at + by + ids.length) % ids.length] ?? null;
      if (this.alone) this.alone = this.current;
      this.layout();
      this.refresh();
      return;
    }
    const rows = [...document.querySelectorAll("#rows .row")];
    const at = rows.findIndex((row) => row.getAttribute("aria-selected") === "true");
    const next = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : at + by];
    next?.click();
    next?.scrollIntoView({ block: "nearest" });
  }

  bindControls() {
    for (const name of ["masks", "boxes", "labels", "freeze"]) {
      byId(name).addEventListener("click", () => this.toggle(name));
    }
    byId("all").addEventListener("click", () => this.onFocus(this.alone));
    byId("help").addEventListener("click", () => byId("keys").showModal());
    document.addEventListener("visibilitychange", () => this.wish());
    window.addEventListener("resize", () => this.layout());
    window.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select") || byId("keys").open) return;
    const letters = { m: "masks", b: "boxes", l: "labels", f: "freeze" };
    const arrows = { ArrowLeft: [-1, false], ArrowRight: [1, false], ArrowUp: [-1, true], ArrowDown: [1, true] };
    const stream = [...this.tiles.keys()].sort()[Number(event.key) - 1];
    if (letters[event.key.toLowerCase()]) this.toggle(letters[event.key.toLowerCase()]);
    else if (arrows[event.key]) this.step(...arrows[event.key]);
    else if (event.key === "Escape" && this.alone) this.onFocus(this.alone);
    else if (event.key === "?") byId("keys").showModal();
    else if (/^[1-9]$/.test(event.key) && stream) this.onFocus(stream);
    else return;
    event.preventDefault();
  }
}

// Reachable for tests and the curious.
window.tracklens = new Page();
