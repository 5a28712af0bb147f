"use strict";

// What the browser itself knows about its connections, by the Resource Timing API: a request that had to open one spent
// time between connectStart and connectEnd; for a request that found one open both are equal to fetchStart. That holds
// also for the one or two connections that a browser opens on a guess, before there is a request for them.

const TILES = 40;

let firstTime = true;

const kinds = {
  cached: (entry) => entry.transferSize === 0 && entry.decodedBodySize > 0,
  // The clock is coarse: a connection on the same machine may open within one tick, so look at when it began, too.
  fresh: (entry) => entry.connectEnd > entry.connectStart || entry.connectStart > entry.fetchStart,
  reused: () => true,
};

function kindOf(entry) {
  return Object.keys(kinds).find((kind) => kinds[kind](entry));
}

function plural(count, one, many) {
  return `${count} ${count === 1 ? one : many}`;
}

function milliseconds(value) {
  return `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}

/** What is counted, in order: the document with all it needed, then only the tiles that were fetched again. */
function requests() {
  const icon = document.querySelector("link[rel=icon]").href; // of the browser's tab, not of the page
  const own = performance.getEntriesByType("resource").filter((entry) => entry.name !== icon);
  own.sort((a, b) => a.startTime - b.startTime);
  return firstTime ? [...performance.getEntriesByType("navigation"), ...own] : own;
}

/** Shows the figures as they are now; and the sentence below them, once they are final. */
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
    words.push("Not one request.");
  } else if (fresh === 0) {
    words.push("Not one handshake: every request found a connection open.");
  } else {
    words.push(`${plural(fresh, "request", "requests")} waited for a handshake, ${milliseconds(connecting)} together.`);
    if (reused > 0) {
      words.push(`${reused} found a connection open.`);
    }
  }
  if (cached > 0) {
    words.push(`${cached} came from the browser's cache.`);
  }
  const protocols = [...new Set(found.map(({ entry }) => entry.nextHopProtocol).filter(Boolean))];
  if (protocols.length > 0) {
    words.push(`Protocol: ${protocols.join(", ")}.`);
  }
  return words.join(" ");
}

/** Fetches the tiles once more, past the cache, so that only the connections are left from the first time. */
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
    document.getElementById("summary").textContent = "The server did not answer. Is it still running?";
  } finally {
    button.disabled = false;
  }
}

/** Waits until the browser has noted `count` requests: it does so a moment after the last byte. */
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
