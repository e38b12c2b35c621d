// Masks: COCO compressed runs to pixels, and the colour of a track (the same as in overlay.mp4).

/** The runs of a mask, column by column, background first. */
export function decode(counts) {
  const runs = [];
  let at = 0;
  while (at < counts.length) {
    let value = 0;
    let shift = 0;
    let group;
    do {
      group = counts.charCodeAt(at++) - 48;
      value |= (group & 0x1f) << shift;
      shift += 5;
    } while (group & 0x20);
    if (group & 0x10 && shift < 32) value |= -1 << shift;
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

/**
 * Writes `value` into every cell of a `width` by `height` grid whose middle lies in the mask.
 * `mask` is `{size: [height, width], counts}` in source pixels.
 */
export function paint(grid, width, height, mask, value) {
  const [sourceHeight, sourceWidth] = mask.size;
  const [sx, sy] = [width / sourceWidth, height / sourceHeight];
  let position = 0;
  let object = false;
  for (const run of decode(mask.counts)) {
    if (object && run > 0) {
      const end = position + run;
      let column = Math.floor(position / sourceHeight);
      for (let from = position; from < end; column++) {
        const top = column * sourceHeight;
        const to = Math.min(end, top + sourceHeight);
        const [x0, x1] = cells(column, column + 1, sx);
        if (x0 < x1) {
          const [y0, y1] = cells(from - top, to - top, sy);
          for (let x = x0; x < x1; x++) {
            for (let y = y0; y < y1; y++) grid[y * width + x] = value;
          }
        }
        from = to;
      }
    }
    position += run;
    object = !object;
  }
}

/** The cells whose middles lie in [from, to) source pixels. */
function cells(from, to, scale) {
  return [Math.max(0, Math.ceil(from * scale - 0.5)), Math.ceil(to * scale - 0.5)];
}

/** Red, green, blue of a track: hues a golden ratio apart. */
export function color(id) {
  const hue = (id * 0.618033988749895) % 1;
  const [saturation, value] = [[0.85, 1], [0.6, 1], [0.9, 0.8]][id % 3];
  const channel = (offset) => {
    const k = (offset + hue * 6) % 6;
    const level = value - value * saturation * Math.max(0, Math.min(k, 4 - k, 1));
    return Math.round(level * 255);
  };
  return [channel(5), channel(3), channel(1)];
}

/** The same for CSS. */
export const css = (id) => `rgb(${color(id).join(" ")})`;

/** Black or white, whichever reads better on the colour of a track. */
export function contrast(id) {
  const [r, g, b] = color(id);
  return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#0b1013" : "#ffffff";
}
