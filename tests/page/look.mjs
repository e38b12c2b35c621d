// Looks at a live page as a person would, in a real headless Chromium, and writes down what it saw.
//   node look.mjs URL OUT_FOLDER STREAM_COUNT
// Needs PLAYWRIGHT (a folder with node_modules/playwright-core) and CHROMIUM (the browser) in the
// environment. Exits with 1 and the reason where something is not as it should be.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const [url, out, expected] = process.argv.slice(2);
const require = createRequire(`${process.env.PLAYWRIGHT}/`);
const { chromium } = require("playwright-core");
const SECONDS = 8;

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
const troubles = [];
const origins = new Set();
// A crop may have made room for a newer one before the page asks for it; the page takes its picture out.
const isGoneCrop = (message) => message.text().includes("404") && message.location().url.includes("/crops/");
page.on("console", (message) => {
  if (message.type() === "error" && !isGoneCrop(message)) troubles.push(`${message.text()} ${message.location().url}`);
});
page.on("pageerror", (error) => troubles.push(String(error)));
page.on("request", (request) => request.url().startsWith("blob:") || origins.add(new URL(request.url()).origin));

const text = (selector) => page.locator(selector).first().innerText();
const count = (selector) => page.locator(selector).count();
const eventually = (what, script, argument) =>
  page.waitForFunction(script, argument, { timeout: 30_000 }).catch(() => assert.fail(`never: ${what}`));

/** As `eventually`, for a script that waits for answers: a promise alone would count as true. */
async function until(what, script) {
  for (let tries = 0; tries < 100; tries++) {
    if (await page.evaluate(script)) return;
    await page.waitForTimeout(300);
  }
  assert.fail(`never: ${what}`);
}

/** A metric of Chromium's own, such as the seconds it has worked. */
const session = await page.context().newCDPSession(page);
await session.send("Performance.enable");
async function measured() {
  const { metrics } = await session.send("Performance.getMetrics");
  const value = (name) => metrics.find((metric) => metric.name === name).value;
  const own = await page.evaluate(() => ({ ...tracklens.measured, drawMs: [...tracklens.measured.drawMs] }));
  return { at: value("Timestamp"), busy: value("TaskDuration"), script: value("ScriptDuration"), heap: value("JSHeapUsedSize"), ...own };
}

async function look() {
  await page.goto(url);
  await eventually("every stream has a picture", (streams) =>
    document.querySelectorAll(".tile[data-frame]").length === streams, Number(expected));
  const load = await page.evaluate(() => {
    const [navigation] = performance.getEntriesByType("navigation");
    const files = performance.getEntriesByType("resource").filter((entry) => !entry.name.startsWith("blob:"));
    const bytes = [navigation, ...files].reduce((sum, entry) => sum + entry.encodedBodySize, 0);
    return { loadedMs: navigation.loadEventEnd, firstPictureMs: tracklens.measured.firstPictureMs, files: files.length + 1, bytes };
  });

  const before = await measured();
  await page.waitForTimeout(SECONDS * 1000);
  const after = await measured();
  const seconds = after.at - before.at;
  const draws = after.drawMs.slice(-200).sort((a, b) => a - b);
  const cost = {
    seconds,
    picturesPerSecond: (after.pictures - before.pictures) / seconds,
    kilobytesPerSecond: (after.bytes - before.bytes) / seconds / 1000,
    busyShare: (after.busy - before.busy) / seconds,
    scriptShare: (after.script - before.script) / seconds,
    drawMsMedian: draws[Math.floor(draws.length / 2)],
    heapMegabytes: after.heap / 1e6,
  };

  // A track that is in sight, by its bar. The third stream, by keyboard.
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  await eventually("the third stream's timeline", () =>
    document.getElementById("timeline-stream").textContent === [...tracklens.tiles.keys()].sort()[2]);
  await eventually("a track in the timeline", () => document.querySelector("#rows .row:not(.gone)") !== null);
  assert.match(await text("#summary"), /of \d+ streams open/);
  await until("a track in sight with crops", async () => {
    const stream = document.getElementById("timeline-stream").textContent;
    for (const row of document.querySelectorAll("#rows .row:not(.gone)")) {
      const answer = await fetch(`/tracks/${stream}/${row.dataset.track}`);
      const said = answer.ok ? await answer.json() : { crops: [] };
      const seen = tracklens.tiles.get(stream).cut(Number(row.dataset.track));
      if (seen && said.crops.length > 2 && said.track.frames > 25) {
        row.click();
        return true;
      }
    }
    return false;
  });
  await eventually("its crops", () => {
    const images = [...document.querySelectorAll("#details .album img")];
    return images.length > 0 && images.every((image) => image.naturalWidth > 0);
  });
  const chosen = await page.evaluate(() => tracklens.selected);
  await eventually("its cut-out", () => !document.querySelector("#details canvas").hidden);
  assert.match(await text("#details h2"), new RegExp(`Track ${chosen.track}\\b`));
  assert.equal(await count('#rows .row[aria-selected="true"]'), 1);
  await page.screenshot({ path: `${out}/page.png` });

  // Alone, and back, by keyboard.
  await page.keyboard.press("3");
  await eventually("one stream alone", () => document.querySelectorAll(".tile:not([hidden])").length === 1);
  await page.waitForTimeout(1500);
  await page.screenshot({ path: `${out}/alone.png` });
  await page.keyboard.press("Escape");
  await eventually("all streams", (streams) =>
    document.querySelectorAll(".tile:not([hidden])").length === streams, Number(expected));

  // Frozen, what is drawn can be compared with the rows on disk.
  await page.keyboard.press("l");
  await page.evaluate(() => tracklens.onPick(tracklens.current, null));
  await eventually("a picture with objects", () =>
    [...tracklens.tiles.values()].some((tile) => tile.shown?.head.rows.some((row) => row.visible)));
  const drawn = await page.evaluate(() => {
    if (!tracklens.frozen) tracklens.toggle("freeze");
    return [...tracklens.tiles.values()].map((tile) => {
      tile.draw();
      const { head } = tile.shown;
      const { width, height } = tile.overlay;
      const { data } = tile.overlay.getContext("2d").getImageData(0, 0, width, height);
      let covered = "";
      for (let at = 3; at < data.length; at += 4) covered += data[at] > 40 ? "1" : "0";
      const { stream_id, epoch, frame, rows } = head;
      return { stream_id, epoch, frame, rows, width, height, covered };
    });
  });
  await page.waitForTimeout(700);
  const later = await page.evaluate(() => [...tracklens.tiles.values()].map((tile) => tile.shown.head.frame));
  assert.deepEqual(later, drawn.map((tile) => tile.frame), "frozen pictures stay");

  // A click on an object chooses it.
  const target = await page.evaluate(() => {
    for (const tile of tracklens.tiles.values()) {
      const rows = tile.shown.head.rows.filter((row) => row.visible);
      // A cell with the same object all around: a pointer has whole pixels only.
      const around = [-1, 0, 1].flatMap((y) => [-1, 0, 1].map((x) => y * tile.mask.width + x));
      const inside = (value, index) => value > 0 && around.every((step) => tile.grid[index + step] === value);
      const at = tile.grid?.findIndex(inside) ?? -1;
      if (at < 0 || rows.length === 0) continue;
      const box = tile.overlay.getBoundingClientRect();
      const x = box.left + (((at % tile.mask.width) + 0.5) / tile.mask.width) * box.width;
      const y = box.top + ((Math.floor(at / tile.mask.width) + 0.5) / tile.mask.height) * box.height;
      return { x, y, stream: tile.id, track: rows[tile.grid[at] - 1].track_id };
    }
    return null;
  });
  assert.ok(target, "no object to click on");
  await page.mouse.click(target.x, target.y);
  const picked = await page.evaluate(() => tracklens.selected);
  assert.deepEqual(picked, { stream: target.stream, track: target.track });

  assert.deepEqual(troubles, []);
  assert.deepEqual([...origins], [new URL(url).origin], "nothing is fetched from elsewhere");
  return { load, cost, drawn };
}

try {
  const report = await look();
  writeFileSync(`${out}/report.json`, JSON.stringify(report));
} catch (error) {
  await page.screenshot({ path: `${out}/failed.png` }).catch(() => {});
  console.error(error, troubles);
  process.exitCode = 1;
} finally {
  await browser.close();
}
