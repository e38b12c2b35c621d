// What is known of one track: its cut-out as it is now, its crops, what it is, its numbers.

import { css, paint } from "/masks.js";
import { clock } from "/timeline.js";

const AGAIN_MS = 1500;

function element(tag, options = {}, ...children) {
  const made = Object.assign(document.createElement(tag), options);
  made.append(...children);
  return made;
}

export class Details {
  constructor(page) {
    this.page = page;
    this.root = document.getElementById("details");
    this.canvas = element("canvas", { className: "cut" });
    this.choice = null;
    this.none();
    setInterval(() => this.load(), AGAIN_MS);
  }

  none() {
    this.root.replaceChildren(
      element("h2", { textContent: "No track chosen" }),
      element("p", { className: "hint", textContent: "Click an object in a picture, or a bar below, to see its crops and what it is." }),
    );
  }

  /** Shows a track, or nothing where `track` is null. */
  choose(stream, track) {
    this.choice = track === null ? null : { stream, track };
    this.crops = "";
    if (!this.choice) return this.none();
    const title = element("h2", {}, element("i", { className: "swatch" }), ` Track ${track}`);
    title.firstChild.style.background = css(track);
    this.where = element("p", { className: "where" });
    this.known = element("div", { className: "known" });
    this.facts = element("dl", { className: "facts" });
    this.album = element("div", { className: "album" });
    this.canvas.hidden = true;
    this.root.replaceChildren(title, this.where, this.canvas, this.known, this.album, this.facts);
    this.load();
  }

  async load() {
    const choice = this.choice;
    if (!choice || document.hidden) return;
    const path = `/tracks/${encodeURIComponent(choice.stream)}/${choice.track}`;
    const answer = await fetch(path).catch(() => null);
    if (!answer?.ok || this.choice !== choice) return;
    const said = await answer.json();
    if (this.choice === choice) this.fill(said);
  }

  fill({ stream_id: stream, track, crops }) {
    this.where.textContent = `${stream} · ${track.present ? track.state : `not in sight${track.state === "occluded" || track.state === "lost" ? ` (${track.state})` : ""}`}`;
    this.fillKnown(track.identification);
    const [first, last] = [track.seen[0]?.[0] ?? 0, track.seen.at(-1)?.[1] ?? 0];
    const facts = [
      ["Seen", `${clock(first)} to ${clock(last)}`],
      ["Frames", `${track.frames}`],
      ["First frame", `${track.first[1]}${track.first[0] ? ` of epoch ${track.first[0]}` : ""}`],
      ["Last frame", `${track.last[1]}${track.last[0] ? ` of epoch ${track.last[0]}` : ""}`],
      ["Score", track.score.toFixed(2)],
      ["Area", `${track.area.toLocaleString("en")} px`],
    ];
    this.facts.replaceChildren(...facts.map(([name, value]) =>
      element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: value }))));
    const now = crops.map((crop) => crop.url).join();
    if (now === this.crops) return;
    this.crops = now;
    this.album.replaceChildren(...crops.map((crop) => {
      const image = element("img", { src: crop.url, alt: `Track ${track.id} on frame ${crop.frame}`, title: `frame ${crop.frame}`, loading: "lazy" });
      // It has made room for a newer one in the meantime.
      image.onerror = () => image.remove();
      return image;
    }));
  }

  fillKnown(what) {
    if (!what) {
      return this.known.replaceChildren(element("p", { className: "hint", textContent: "Not identified yet." }));
    }
    const parts = [];
    if (what.outcome === "identified") {
      const meter = element("meter", { min: 0, max: 1, value: what.confidence });
      meter.setAttribute("aria-label", "Confidence");
      parts.push(element("p", { className: "title", textContent: what.name }));
      if (what.category) parts.push(element("p", { className: "category", textContent: what.category }));
      parts.push(element("p", { className: "sure" }, meter, ` ${Math.round(100 * what.confidence)} % sure`));
      if (what.description) parts.push(element("p", { textContent: what.description }));
      if (what.dimensions) parts.push(element("p", { className: "hint", textContent: what.dimensions }));
    } else {
      const text = what.outcome === "unknown" ? "Nobody knows what it is." : "It could not be looked up.";
      parts.push(element("p", { textContent: text }));
    }
    const source = `${what.backend}${what.cached ? ", from the cache" : ""}${what.attempts > 1 ? `, ${what.attempts} attempts` : ""}`;
    parts.push(element("p", { className: "hint", textContent: source }));
    if (what.error) parts.push(element("p", { className: "warn", textContent: what.error }));
    this.known.replaceChildren(...parts);
  }

  /** Draws the object as it is in the newest picture, without what is around it. */
  cut(tile) {
    if (!this.choice || tile.id !== this.choice.stream) return;
    const found = tile.cut(this.choice.track);
    if (!found) return;
    const { row, head, bitmap } = found;
    const [sx, sy] = [bitmap.width / head.width, bitmap.height / head.height];
    const [x0, y0, x1, y1] = row.bbox;
    const pad = 0.15 * Math.max(x1 - x0, y1 - y0);
    const left = Math.max(0, Math.floor((x0 - pad) * sx));
    const top = Math.max(0, Math.floor((y0 - pad) * sy));
    const width = Math.max(1, Math.min(bitmap.width, Math.ceil((x1 + pad) * sx)) - left);
    const height = Math.max(1, Math.min(bitmap.height, Math.ceil((y1 + pad) * sy)) - top);
    const grid = new Uint8Array(bitmap.width * bitmap.height);
    paint(grid, bitmap.width, bitmap.height, row.mask, 1);
    [this.canvas.width, this.canvas.height] = [width, height];
    const context = this.canvas.getContext("2d");
    context.drawImage(bitmap, left, top, width, height, 0, 0, width, height);
    const image = context.getImageData(0, 0, width, height);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        if (!grid[(top + y) * bitmap.width + left + x]) image.data[4 * (y * width + x) + 3] = 56;
      }
    }
    context.putImageData(image, 0, 0);
    this.canvas.hidden = false;
  }
}
