"use strict";

// The browser reports its connections in the Resource Timing API. A request that had to open one spent time between
// connectStart and connectEnd. For a request that reused an open one, both are equal to fetchStart; this includes the one
// or two connections that a browser opens in advance, before there is a request for them.

const TILES = 40;

let firstTime = true;

const kinds = {
  cached: (entry) => entry.transferSize === 0 && entry.decodedBodySize > 0,
  // The clock is coarse: a connection on the same machine may open within one tick, so connectStart counts as well.
  fresh: (entry) => entry.connectEnd > entry.connectStart || entry.connectStart > entry.fetchStart,
  reused: () => true,
};

function kindOf(entry) {
  return Object.keys(kinds).find((kind) => kinds[kind](entry));
}

/** Whether the response was a 304: headers alone, of about 300 bytes, with which a browser takes the copy that it has. */
function isStillTheSame(entry) {
  return entry.transferSize > 0 && (entry.encodedBodySize === 0 || entry.transferSize < entry.encodedBodySize);
}

function plural(count, one, many) {
  return `${count} ${count === 1 ? one : many}`;
}

function milliseconds(value) {
  return `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}

/** The requests to count, in order: first the document and its resources, later only the tiles that were fetched again. */
function requests() {
  const icon = document.querySelector("link[rel=icon]").href; // for the browser's tab, not for the page
  const own = performance.getEntriesByType("resource").filter((entry) => entry.name !== icon);
  own.sort((a, b) => a.startTime - b.startTime);
  return firstTime ? [...performance.getEntriesByType("navigation"), ...own] : own;
}

/** Shows the current figures, and the sentence below them once they are final. */
function show(final) {
  const found = requests().map((entry) => ({ entry, kind: kindOf(entry) }));
  const count = (kind) => found.filter((each) => each.kind === kind).length;

  document.getElementById("requests").textContent = found.length - count("cached");
  document.getElementById("fresh").textContent = count("fresh");
  document.getElementById("reused").textContent = count("reused");

  const strip = document.getElementById("strip");
  strip.replaceChildren(
    ...found.map(({ kind }) => {
      const bar = document.createElement("li");
      bar.className = kind;
      return bar;
    }),
  );
  strip.setAttribute(
    "aria-label",
    `The requests in their order: ${count("fresh")} needed a new connection, ${count("reused")} reused one`,
  );

  const tiles = new Map([...document.querySelectorAll(".mosaic img")].map((image) => [image.src, image.parentNode]));
  for (const { entry, kind } of found) {
    tiles.get(entry.name)?.classList.toggle("fresh", kind === "fresh");
  }

  if (final) {
    document.getElementById("summary").textContent = summary(found, count);
  }
}

function summary(found, count) {
  const fresh = count("fresh");
  const reused = count("reused");
  const words = [];
  const connecting = found
    .filter(({ kind }) => kind === "fresh")
    .reduce((sum, { entry }) => sum + entry.connectEnd - entry.connectStart, 0);
  const cached = count("cached");
  if (cached === found.length) {
    words.push("No request was necessary.");
  } else if (fresh === 0) {
    words.push("No handshake: every request found an open connection.");
  } else {
    words.push(`${plural(fresh, "request", "requests")} waited for a handshake, ${milliseconds(connecting)} together.`);
    if (reused > 0) {
      words.push(`${reused} found an open connection.`);
    }
  }
  // With a copy in the cache, the server says only that it is still the same (304 Not Modified).
  const same = found.filter(({ entry, kind }) => kind !== "cached" && isStillTheSame(entry)).length;
  if (same > 0) {
    words.push(`${plural(same, "response", "responses")} had no content, since the copy in the browser's cache is the same.`);
  }
  if (cached > 0) {
    words.push(`${plural(cached, "resource", "resources")} came from the browser's cache, without a request.`);
  }
  const sent = found.filter(({ kind }) => kind !== "cached");
  const protocols = [...new Set(sent.map(({ entry }) => entry.nextHopProtocol).filter(Boolean))];
  if (protocols.length > 0) {
    words.push(`Protocol: ${protocols.join(", ")}.`);
  }
  return words.join(" ");
}

/** Fetches the tiles again without the cache, so that only connections are reused. */
async function again(button) {
  button.disabled = true;
  firstTime = false;
  performance.clearResourceTimings();
  const images = [...document.querySelectorAll(".mosaic img")];
  try {
    await Promise.all(
      images.map(async (image) => {
        const response = await fetch(image.src, { cache: "no-store" });
        await response.blob();
      }),
    );
    await settled(TILES);
    show(true);
  } catch {
    document.getElementById("summary").textContent = "The server did not respond. Is it still running?";
  } finally {
    button.disabled = false;
  }
}

/** Waits until the browser has recorded `count` requests: it does so a moment after the last byte. */
async function settled(count) {
  for (let frame = 0; frame < 30 && requests().length < count; frame += 1) {
    await new Promise(requestAnimationFrame);
  }
}

new PerformanceObserver(() => show(false)).observe({ type: "resource", buffered: true });

window.addEventListener("load", async () => {
  await settled(1 + 2 + TILES);
  show(true);
  const button = document.getElementById("again");
  button.disabled = false;
  button.addEventListener("click", () => again(button));
});
