// The page at work: it asks for the figures again and again, and shows them.

const EVERY_MS = 1000;
const HIDDEN_EVERY_MS = 10_000;
const AGAIN_AT_MOST_MS = 5000;
const PATIENCE_MS = 5000; // for an answer, and longer where answers take long
const PATIENCE_MOST_MS = 60_000;

const figures = new Figures();
const events = new Events();
const table = new Table();
const totals = new Curve();
const cards = new Map();
const steering = new Steering(() => {
  refresh();
  wake();
});
find("sum-history").append(totals.element);

let wake = () => {}; // asks for the next figures at once
let asTable = false;
let takenAt = null; // when the last figures came
let failures = 0;
let patience = PATIENCE_MS;
let shown = []; // the brokers that pass the filter

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const card = entry.target.card;
    card.inView = entry.isIntersecting;
    const view = figures.brokers.get(card.name);
    if (card.inView && view) card.update(view, steering.token !== null);
  }
}, { rootMargin: "300px" });

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(patience) });
  if (!answer.ok) throw new Error(`It says: ${(await answer.text()).trim()}.`);
  return answer.json();
}

async function look() {
  const began = performance.now();
  try {
    figures.take(await ask("statz"));
    patience = Math.min(PATIENCE_MOST_MS, Math.max(PATIENCE_MS, 4 * (performance.now() - began)));
    takenAt = Date.now();
    failures = 0;
    refresh();
    if (events.wanted(figures)) events.take(await ask(`eventz?after=${events.last}`));
    events.watch(figures);
  } catch (error) {
    failures += 1;
    if (error.name === "TimeoutError") patience = Math.min(PATIENCE_MOST_MS, 2 * patience);
    if (!(error instanceof TypeError) && error.name !== "TimeoutError" && !error.message.startsWith("It says")) console.error(error);
    refreshHealth(error);
  }
  events.speak();
  const spent = performance.now() - began;
  // A server with many brokers is given three times as long to rest as an answer has taken.
  const wait = failures ? Math.min(AGAIN_AT_MOST_MS, EVERY_MS * failures) : document.hidden ? HIDDEN_EVERY_MS : Math.max(EVERY_MS - spent, 3 * spent, 100);
  await rest(wait);
  look();
}

function rest(wait) {
  return new Promise((resolve) => {
    wake = resolve;
    setTimeout(resolve, Math.min(wait, HIDDEN_EVERY_MS));
  });
}

function refresh() {
  const words = find("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const which = find("show").value;
  const views = [...figures.brokers.values()];
  shown = views.filter((view) => passes(view, words, which));
  refreshCards(views);
  if (asTable) table.update(shown);
  show(find("cards"), !asTable && shown.length > 0);
  show(find("table-place"), asTable && shown.length > 0);
  show(find("none"), figures.about !== null && !shown.length);
  say(find("none"), views.length ? "No broker is as the filter says." : "There are no brokers.");
  say(find("count"), shown.length === views.length ? "" : `${WHOLE.format(shown.length)} of ${WHOLE.format(views.length)} are shown`);
  refreshSummary(views);
  refreshHealth(null);
}

function passes(view, words, which) {
  if (which === "attention" && !["warn", "bad"].includes(view.level)) return false;
  if (which === "busy" && !view.taken) return false;
  if (!words.length) return true;
  const text = [view.name, view.device, stateOf(view)[1], ...view.ports.flatMap((port) => [port.name, port.type, ...port.endpoints])].join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}

function refreshCards(views) {
  const list = find("cards");
  for (const [name, card] of cards) {
    if (figures.brokers.has(name)) continue;
    seen.unobserve(card.element);
    card.element.remove();
    cards.delete(name);
  }
  const passing = new Set(shown);
  let at = null;
  for (const view of views) {
    let card = cards.get(view.name);
    if (!card) {
      card = new Card(view.name, (...what) => steering.carryOut(...what));
      cards.set(view.name, card);
    }
    if (card.element.previousElementSibling !== at || card.element.parentNode !== list) {
      if (at) at.after(card.element);
      else list.prepend(card.element);
      seen.observe(card.element);
    }
    at = card.element;
    show(card.element, passing.has(view));
    card.update(view, steering.token !== null);
  }
}

function refreshSummary(views) {
  if (!figures.about) return;
  const count = (test) => views.filter(test).length;
  const notes = [[count((view) => view.state === "failed"), "failed"], [count((view) => view.state === "paused"), "paused"], [count((view) => view.disabled), "disabled"]];
  const told = notes.filter(([number]) => number).map(([number, word]) => `${number} ${word}`).join(", ");
  const brokers = find("sum-brokers");
  if (brokers.dataset.told !== `${views.length} ${told}`) {
    brokers.dataset.told = `${views.length} ${told}`;
    brokers.replaceChildren(WHOLE.format(views.length), ...(told ? [make("small", {}, ` ${told}`)] : []));
  }
  say(find("sum-rate"), formatRate(figures.sums.rate));
  const stalled = count((view) => view.stalled.length > 0);
  say(find("sum-stalled"), stalled ? `❙ ${WHOLE.format(stalled)}` : "0");
  set(find("sum-stalled"), "data-level", stalled ? "warn" : "");
  say(find("sum-dropped"), figures.sums.drops ? `✕ ${formatRate(figures.sums.drops)}` : "0");
  set(find("sum-dropped"), "data-level", figures.sums.drops ? "bad" : "");
  totals.update(figures.total, "Messages taken by all brokers");
  say(find("host"), `${figures.about.version} · ${figures.about.host} · process ${figures.about.process}`);
  show(find("steer"), figures.about.steering);
  const name = `pollbroker · ${figures.about.host}`;
  const marks = views.some((view) => view.level === "bad") ? "✕ " : views.some((view) => view.level === "warn") ? "▲ " : "";
  if (document.title !== marks + name) document.title = marks + name;
}

function refreshHealth(error) {
  const status = find("status");
  if (failures) {
    set(status, "data-state", "gone");
    say(status, "No answer");
    const says = error?.message?.startsWith("It says") ? error.message : "";
    if (error) say(find("banner"), `The daemon does not answer. ${says}${says ? " " : ""}This page goes on trying.`);
    show(find("banner"), true);
  } else if (figures.about) {
    set(status, "data-state", "live");
    say(status, figures.about.ending ? "Ending" : "Live");
    show(find("banner"), false);
  }
  refreshAge();
}

function refreshAge() {
  if (takenAt === null) return;
  const seconds = Math.round((Date.now() - takenAt) / 1000);
  const age = seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
  say(find("age"), seconds < 3 && !failures ? "figures of now" : `figures are ${age} old`);
}

function chooseView(table) {
  asTable = table;
  set(find("as-picture"), "aria-pressed", !table);
  set(find("as-table"), "aria-pressed", table);
  refresh();
}

find("filter").addEventListener("input", refresh);
find("show").addEventListener("change", refresh);
find("as-picture").addEventListener("click", () => chooseView(false));
find("as-table").addEventListener("click", () => chooseView(true));
document.addEventListener("keydown", (key) => {
  if (key.ctrlKey || key.metaKey || key.altKey || find("dialog").open) return;
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "");
  if (key.key === "/" && !typing) {
    key.preventDefault();
    find("filter").focus();
  } else if (key.key === "Escape" && document.activeElement === find("filter")) {
    find("filter").value = "";
    refresh();
  }
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) wake(); });
setInterval(refreshAge, 1000);
look();
