// The lives of a stream's tracks, as bars over time.

import { css } from "/masks.js";

const TICKS = [1000, 2000, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000];

export class Timeline {
  constructor(page) {
    this.page = page;
    this.rows = document.getElementById("rows");
    this.axis = document.getElementById("axis");
    this.title = document.getElementById("timeline-stream");
    this.span = document.getElementById("span");
    this.span.addEventListener("change", () => page.refresh());
    this.known = new Map();
    this.stream = null;
  }

  /** Shows the tracks of a stream up to now. */
  show(line, tracks) {
    if (!line) return;
    if (this.stream !== line.id) {
      this.stream = line.id;
      this.title.textContent = line.id;
      this.known.clear();
      this.rows.replaceChildren();
    }
    const end = line.time_ms;
    const begin = Math.min(...[...tracks.values()].map((track) => track.seen[0]?.[0] ?? end), end);
    const elapsed = Math.max(5000, end - begin);
    const span = Math.min(Number(this.span.value) || elapsed, elapsed);
    const start = end - span;
    this.drawAxis(start, span);
    const shown = [...tracks.values()]
      .filter((track) => track.seen.length > 0 && track.seen.at(-1)[1] >= start)
      .sort((a, b) => b.present - a.present || b.id - a.id);
    for (const [id, row] of this.known) {
      if (!shown.some((track) => track.id === id)) {
        row.element.remove();
        this.known.delete(id);
      }
    }
    shown.forEach((track, index) => {
      const row = this.row(track.id);
      if (this.rows.children[index] !== row.element) this.rows.insertBefore(row.element, this.rows.children[index] ?? null);
      this.fill(row, track, start, span);
    });
    if (shown.length === 0 && !this.rows.firstChild) this.rows.replaceChildren();
  }

  row(id) {
    let row = this.known.get(id);
    if (row) return row;
    const element = document.createElement("button");
    element.type = "button";
    element.className = "row";
    element.setAttribute("role", "option");
    element.dataset.track = id;
    const label = document.createElement("span");
    label.className = "label";
    const lane = document.createElement("span");
    lane.className = "lane";
    element.append(label, lane);
    element.addEventListener("click", () => this.page.onPick(this.stream, id));
    row = { element, label, lane };
    this.known.set(id, row);
    return row;
  }

  fill(row, track, start, span) {
    const name = track.identification?.outcome === "identified" ? track.identification.name : "";
    row.label.textContent = name ? `${track.id} ${name}` : `${track.id}`;
    row.element.setAttribute("aria-selected", this.page.selectedOf(this.stream) === track.id);
    row.element.classList.toggle("gone", !track.present);
    row.element.title = `${track.frames} frames, ${track.state}`;
    const percent = (ms) => Math.max(0, Math.min(100, (100 * (ms - start)) / span));
    const stretches = track.seen.filter(([, to]) => to >= start);
    while (row.lane.children.length > stretches.length) row.lane.lastChild.remove();
    while (row.lane.children.length < stretches.length) row.lane.append(document.createElement("i"));
    stretches.forEach(([from, to], index) => {
      const left = percent(from);
      const bar = row.lane.children[index].style;
      bar.left = `${left}%`;
      bar.width = `${Math.max(0.25, percent(to) - left)}%`;
      bar.background = css(track.id);
    });
  }

  drawAxis(start, span) {
    const step = TICKS.find((tick) => span / tick <= 8) ?? span / 4;
    const ticks = [];
    for (let at = Math.ceil(Math.max(0, start) / step) * step; at <= start + span; at += step) {
      const tick = document.createElement("span");
      tick.textContent = clock(at);
      tick.style.left = `${(100 * (at - start)) / span}%`;
      ticks.push(tick);
    }
    this.axis.replaceChildren(...ticks);
  }
}

/** Minutes and seconds of stream time. */
export function clock(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}
