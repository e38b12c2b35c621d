// One stream: its newest picture, what is drawn on it, and its numbers.

import { color, contrast, css, paint } from "/masks.js";

const LABEL = "600 12px system-ui, sans-serif";
const FILL = 92;
const EDGE = 245;

export class Tile {
  /** `page` knows names, selection and switches; `onPick(stream, track)` and `onFocus(stream)`. */
  constructor(id, page) {
    this.id = id;
    this.page = page;
    const tile = document.getElementById("tile").content.cloneNode(true).firstElementChild;
    this.element = tile;
    tile.dataset.stream = id;
    this.name = tile.querySelector(".name");
    this.name.textContent = id;
    this.name.title = "Show alone, or with the others";
    this.state = tile.querySelector(".state");
    this.numbers = tile.querySelector(".numbers");
    this.trouble = tile.querySelector(".trouble");
    this.view = tile.querySelector(".view");
    this.picture = tile.querySelector(".picture");
    this.overlay = tile.querySelector(".overlay");
    this.mask = new OffscreenCanvas(1, 1);
    this.shown = null;
    this.serial = 0;
    this.name.addEventListener("click", () => page.onFocus(id));
    this.overlay.addEventListener("click", (event) => this.pick(event));
    new ResizeObserver(() => this.draw()).observe(this.view);
  }

  /** Takes a picture in; the newest wins, whatever order they are decoded in. */
  async take(head, jpeg) {
    const serial = ++this.serial;
    let bitmap = null;
    if (jpeg.byteLength > 0) {
      bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
    }
    if (serial !== this.serial || this.page.frozen) return bitmap?.close();
    this.shown?.bitmap?.close();
    this.shown = { head, bitmap };
    this.label();
    this.draw();
  }

  /** Where the picture is in the view, in CSS pixels. */
  area() {
    const { width, height } = this.shown.head;
    const [w, h] = [this.view.clientWidth, this.view.clientHeight];
    const scale = Math.min(w / width, h / height);
    const size = [Math.round(width * scale), Math.round(height * scale)];
    return { x: Math.round((w - size[0]) / 2), y: Math.round((h - size[1]) / 2), w: size[0], h: size[1], scale };
  }

  draw() {
    if (!this.shown || !this.view.clientWidth) return;
    const started = performance.now();
    const area = this.area();
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    for (const canvas of [this.picture, this.overlay]) {
      const [w, h] = [Math.max(1, Math.round(area.w * ratio)), Math.max(1, Math.round(area.h * ratio))];
      if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
      Object.assign(canvas.style, { left: `${area.x}px`, top: `${area.y}px`, width: `${area.w}px`, height: `${area.h}px` });
    }
    const { head, bitmap } = this.shown;
    const picture = this.picture.getContext("2d", { alpha: false });
    if (bitmap) picture.drawImage(bitmap, 0, 0, this.picture.width, this.picture.height);
    else {
      picture.fillStyle = "#0c1216";
      picture.fillRect(0, 0, this.picture.width, this.picture.height);
    }
    const context = this.overlay.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.overlay.width, this.overlay.height);
    const rows = head.rows.filter((row) => row.visible);
    if (this.page.switches.masks) this.drawMasks(context, rows, head, bitmap);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    for (const row of rows) this.drawRow(context, row, area);
    this.element.dataset.epoch = head.epoch;
    this.element.dataset.frame = head.frame;
    this.page.drawn(performance.now() - started);
  }

  /** Masks in the size of the picture, each with an edge, then scaled as one. */
  drawMasks(context, rows, head, bitmap) {
    const width = bitmap?.width ?? Math.min(head.width, 640);
    const height = bitmap?.height ?? Math.max(1, Math.round((head.height * width) / head.width));
    if (this.mask.width !== width || this.mask.height !== height) {
      [this.mask.width, this.mask.height] = [width, height];
      this.grid = null;
    }
    this.grid ??= new Uint8Array(width * height);
    const grid = this.grid.fill(0);
    rows.forEach((row, index) => paint(grid, width, height, row.mask, (index % 255) + 1));
    const colors = rows.map((row) => color(row.track_id));
    const target = this.mask.getContext("2d");
    const image = target.createImageData(width, height);
    const pixels = image.data;
    const chosen = this.page.selectedOf(this.id);
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at++) {
        const value = grid[at];
        if (!value) continue;
        const edge = x === 0 || y === 0 || x === width - 1 || y === height - 1
          || grid[at - 1] !== value || grid[at + 1] !== value || grid[at - width] !== value || grid[at + width] !== value;
        const [r, g, b] = colors[value - 1];
        const fill = rows[value - 1].track_id === chosen ? FILL + 60 : FILL;
        pixels.set([r, g, b, edge ? EDGE : fill], at * 4);
      }
    }
    target.putImageData(image, 0, 0);
    context.imageSmoothingEnabled = true;
    context.drawImage(this.mask, 0, 0, this.overlay.width, this.overlay.height);
  }

  drawRow(context, row, area) {
    const { switches } = this.page;
    const chosen = this.page.selectedOf(this.id) === row.track_id;
    const [x0, y0, x1, y1] = row.bbox.map((edge) => edge * area.scale);
    if (switches.boxes || chosen) {
      context.lineWidth = chosen ? 2.5 : 1.5;
      context.strokeStyle = chosen ? "#ffffff" : css(row.track_id);
      context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    }
    if (!switches.labels && !chosen) return;
    const name = this.page.nameOf(this.id, row.track_id);
    const text = name ? `${row.track_id} ${name}` : `${row.track_id}`;
    context.font = LABEL;
    const width = context.measureText(text).width + 10;
    const x = Math.max(0, Math.min(x0, area.w - width));
    const y = Math.max(0, y0 - 19);
    context.fillStyle = css(row.track_id);
    context.beginPath();
    context.roundRect(x, y, width, 17, 4);
    context.fill();
    context.fillStyle = contrast(row.track_id);
    context.fillText(text, x + 5, y + 12.5);
  }

  /** The smallest object under the pointer, by mask, else by box. */
  pick(event) {
    if (!this.shown) return;
    const bounds = this.overlay.getBoundingClientRect();
    const u = (event.clientX - bounds.left) / bounds.width;
    const v = (event.clientY - bounds.top) / bounds.height;
    const { head } = this.shown;
    const rows = head.rows.filter((row) => row.visible);
    let hit = null;
    if (this.page.switches.masks && this.grid) {
      const at = Math.floor(v * this.mask.height) * this.mask.width + Math.floor(u * this.mask.width);
      hit = rows[this.grid[at] - 1] ?? null;
    }
    const [x, y] = [u * head.width, v * head.height];
    const inside = rows.filter(({ bbox: [x0, y0, x1, y1] }) => x >= x0 && x < x1 && y >= y0 && y < y1);
    hit ??= inside.sort((a, b) => a.area - b.area)[0] ?? null;
    this.page.onPick(this.id, hit?.track_id ?? null);
  }

  /** The part of the picture that a track is on, for the details. */
  cut(track) {
    const row = this.shown?.head.rows.find((one) => one.track_id === track && one.visible);
    if (!row || !this.shown.bitmap) return null;
    return { row, head: this.shown.head, bitmap: this.shown.bitmap };
  }

  /** What the picture says to those who cannot see it. */
  label() {
    const { head } = this.shown;
    const seen = head.rows.filter((row) => row.visible).map((row) => {
      const name = this.page.nameOf(this.id, row.track_id);
      return name ? `${row.track_id} ${name}` : `${row.track_id}`;
    });
    this.overlay.setAttribute("aria-label", `${this.id}, frame ${head.frame}: ${seen.length ? `tracks ${seen.join(", ")}` : "no tracks"}`);
  }

  /** The stream's line of the board. */
  update(line) {
    this.element.dataset.state = line.state;
    this.state.textContent = line.state === "open" ? (line.status === "ok" ? "" : line.status) : line.state;
    const numbers = [
      [line.fps.toFixed(1), "fps"],
      [line.objects, line.objects === 1 ? "object" : "objects"],
      [line.dropped, "dropped"],
    ];
    if (line.latency_ms !== null) numbers.push([line.latency_ms, "ms behind"]);
    this.numbers.replaceChildren(...numbers.map(([value, what]) => {
      const item = document.createElement("span");
      const strong = document.createElement("b");
      strong.textContent = value;
      item.append(strong, ` ${what}`);
      if (what === "dropped" && value > 0) item.className = "warn";
      return item;
    }));
    this.numbers.title = `${line.width}×${line.height}, ${line.model}, ${line.processing_ms.toFixed(1)} ms a frame, ${line.frames} frames, ${line.tracks} tracks`;
    this.trouble.hidden = !line.error;
    this.trouble.textContent = line.error ?? "";
  }
}
