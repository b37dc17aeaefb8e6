// The page: calls the service and draws its responses. Texts enter the document as text, never as markup.

const TOP_N = 20;
const COLUMN_GAP = 88;
const TYPING_MS = 90;
const MAX_REASONS = 8;
const TASKS = { click: "click", add_to_cart: "cart", purchase: "buy" };
const SIDES = {
  customer: "shopper",
  query: "query",
  product: "product",
  interaction: "query-product match",
  context: "context",
};
const DONE = { click: "Clicked", add_to_cart: "Added to the cart", purchase: "Bought" };

const at = (id) => document.getElementById(id);
const state = {
  about: null,
  answer: null,
  weights: null,
  session: `page-${Math.random().toString(36).slice(2, 10)}`,
  key: sessionStorage.getItem("key") || "",
  explained: null,
};

// ---------------------------------------------------------------- elements

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "title", "g"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function bar(share, kind) {
  const fill = make("span", { class: "fill" });
  fill.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return make("span", { class: `bar ${kind}`, "aria-hidden": "true" }, fill);
}

const number = (value, digits) => value.toLocaleString("en", { maximumFractionDigits: digits });

function percent(value) {
  const digits = value < 0.001 ? 2 : value < 0.1 ? 1 : 0;
  return `${(value * 100).toFixed(digits)} %`;
}

function count(n, one, many = `${one}s`) {
  return `${number(n, 0)} ${n === 1 ? one : many}`;
}

function day(iso) {
  const date = new Date(`${iso}T00:00:00Z`);
  return date.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
}

const words = (name) => name.replaceAll("_", " ");

// ---------------------------------------------------------------- the service

class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function ask(path, body, signal) {
  const headers = body ? { "content-type": "application/json" } : {};
  if (state.key) headers.authorization = `Bearer ${state.key}`;
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The service does not respond. Is it still running?");
  }
  const content = await response.json().catch(() => null);
  if (response.ok) return content;
  throw new Refused(response.status, content?.detail ?? `The service responded with status ${response.status}.`);
}

function tell(error) {
  if (error?.name === "AbortError") return;
  const refused = error instanceof Refused;
  at("key").hidden = !(refused && error.status === 401);
  at("notice").hidden = false;
  at("notice").textContent = refused ? error.message : `The page has an error: ${error.message}`;
  if (!refused) console.error(error);
}

function quiet() {
  at("notice").hidden = true;
  at("key").hidden = true;
}

// ---------------------------------------------------------------- search

let searching = null;
let again = false;

// One search at a time; while one runs, only the latest request waits. So sliders re-rank as fast as the service does.
async function search() {
  const query = at("query").value.trim();
  remember();
  if (!query) {
    searching?.abort();
    state.answer = null;
    draw();
    return;
  }
  if (searching) {
    again = true;
    return;
  }
  searching = new AbortController();
  at("results").setAttribute("aria-busy", "true");
  try {
    const body = {
      query,
      customer_id: at("shopper").value || null,
      session_id: state.session,
      task_weights: state.weights,
      top_n: TOP_N,
    };
    const started = performance.now();
    const answer = await ask("/v1/shop/search", body, searching.signal);
    state.answer = { ...answer, query, customer: body.customer_id, took: performance.now() - started };
    quiet();
    draw();
  } catch (error) {
    tell(error);
  } finally {
    searching = null;
    at("results").removeAttribute("aria-busy");
    if (again) {
      again = false;
      search();
    }
  }
}

function remember() {
  const kept = new URLSearchParams();
  if (at("query").value.trim()) kept.set("q", at("query").value.trim());
  if (at("shopper").value) kept.set("c", at("shopper").value);
  history.replaceState(null, "", kept.size ? `#${kept}` : location.pathname);
}

// ---------------------------------------------------------------- drawing

function draw() {
  const answer = state.answer;
  at("results").hidden = !answer;
  at("examples").hidden = Boolean(answer);
  drawDegree();
  if (!answer) return;
  const shopper = answer.customer ? `for ${answer.customer}` : "for an anonymous visitor";
  at("personalized-caption").textContent = answer.unknown_customer && answer.customer
    ? `for ${answer.customer}, who has no history yet`
    : `the same products ${shopper}`;
  at("show-personalized").textContent = answer.customer ? `For ${answer.customer}` : "For an anonymous visitor";
  at("facts").textContent = answer.candidates
    ? `${count(answer.candidates, "candidate")}: ${number(answer.by_words, 0)} share words with the query, ` +
      `${number(answer.by_meaning, 0)} are similar in meaning. Retrieved and ranked twice in ${number(answer.took, 0)} ms.`
    : `No products match “${answer.query}”.`;
  at("read-as").hidden = !answer.read_as || !answer.read_as.length;
  at("read-as").textContent = answer.read_as ? `Read as ${answer.read_as.join("; ")}.` : "";
  drawList("neutral", answer.neutral);
  drawList("personalized", answer.personalized);
  drawMoves();
}

function drawList(which, ids) {
  at(which).replaceChildren(...ids.map((id, place) => card(which, id, place + 1)));
}

function card(which, id, place) {
  const product = state.answer.products[id];
  const own = product[which];
  const moved = which === "personalized" ? product.neutral.rank - product.personalized.rank : 0;
  return make(
    "li",
    { class: "card", "data-id": id },
    make("span", { class: "place", "aria-hidden": "true" }, String(place)),
    make(
      "div",
      { class: "what" },
      make(
        "button",
        { type: "button", class: "title", "aria-haspopup": "dialog", onclick: () => explain(id, which) },
        product.title || id,
        make("span", { class: "hidden" }, ", explain this place"),
      ),
      make("p", { class: "about" }, ...about(product)),
    ),
    which === "personalized" ? badge(moved, product.neutral.rank) : null,
    make("dl", { class: "probabilities" }, ...state.about.tasks.flatMap((task) => probability(task, own.tasks[task]))),
  );
}

function about(product) {
  const parts = [];
  for (const name of ["brand", "category", "color"]) {
    if (product.about[name]) parts.push(make("span", {}, String(product.about[name])));
  }
  const price = state.about.features.find((feature) => feature.name === "price");
  const cost = product.about.price;
  if (price && typeof cost === "number") parts.push(make("span", { class: "price" }, money(cost, price.unit)));
  return parts;
}

function money(value, unit) {
  const shown = value.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  return unit === "USD" ? `$${shown}` : unit ? `${shown} ${unit}` : shown;
}

function badge(moved, from) {
  if (from > TOP_N) return make("span", { class: "badge new" }, `▲ from ${from}`);
  if (!moved) return make("span", { class: "badge same", "aria-label": "same place" }, "=");
  const up = moved > 0;
  const label = `${up ? "up" : "down"} ${Math.abs(moved)}`;
  return make("span", { class: `badge ${up ? "up" : "down"}`, "aria-label": label }, `${up ? "▲" : "▼"} ${Math.abs(moved)}`);
}

// Bars show a task's probability against the highest on this page: purchases are too rare for a common scale.
function probability(task, value) {
  const all = Object.values(state.answer.products).flatMap((product) => [
    product.neutral.tasks[task],
    product.personalized.tasks[task],
  ]);
  const min = state.about.bounded ? 0 : Math.min(...all);
  const max = Math.max(...all);
  const share = max > min ? (value - min) / (max - min) : 0;
  const text = state.about.bounded ? percent(value) : number(value, 3);
  return [
    make("dt", {}, TASKS[task] ?? words(task)),
    make("dd", {}, bar(share, task), make("span", { class: "value" }, text)),
  ];
}

function drawDegree() {
  const answer = state.answer;
  const dots = at("dots");
  dots.replaceChildren();
  at("who").classList.toggle("anonymous", !at("shopper").value);
  if (!answer) {
    at("degree").textContent = "–";
    at("degree-words").textContent = "No search yet.";
    return;
  }
  const k = state.about.k;
  const degree = answer.personalization_degree;
  if (degree === null) {
    at("degree").textContent = "–";
    at("degree-words").textContent = `Needs more than ${k} products.`;
    at("said").textContent = `${count(answer.candidates, "product")} match.`;
    return;
  }
  const stay = Math.round(degree * k);
  const first = new Set(answer.neutral.slice(0, k));
  for (const id of answer.personalized.slice(0, k)) {
    dots.append(make("span", { class: first.has(id) ? "dot stays" : "dot comes" }));
  }
  at("degree").textContent = degree.toFixed(2);
  at("degree-words").textContent =
    stay === k ? `All of the first ${k} are the same for a neutral customer.` : `${stay} of the first ${k} are the same for a neutral customer.`;
  at("said").textContent = `${count(answer.candidates, "product")} match. ${stay} of the first ${k} are the same in both orders.`;
}

function drawMoves() {
  const svg = at("moves");
  svg.replaceChildren();
  if (!state.answer || getComputedStyle(svg).display === "none") return;
  const top = svg.getBoundingClientRect().top;
  const middle = (element) => {
    const box = element.getBoundingClientRect();
    return box.top + box.height / 2 - top;
  };
  const places = new Map([...at("neutral").children].map((item) => [item.dataset.id, middle(item)]));
  const width = svg.getBoundingClientRect().width || COLUMN_GAP;
  const bottom = at("columns").getBoundingClientRect().bottom - top;
  const gone = new Set(places.keys());
  for (const item of at("personalized").children) {
    const { id } = item.dataset;
    const product = state.answer.products[id];
    const to = middle(item);
    const from = places.get(id);
    gone.delete(id);
    const moved = product.neutral.rank - product.personalized.rank;
    const kind = moved > 0 ? "up" : moved < 0 ? "down" : "same";
    svg.append(curve(from ?? bottom, to, width, `${kind}${from === undefined ? " far" : ""}`, id));
  }
  for (const id of gone) svg.append(curve(places.get(id), bottom, width, "down far", id));
}

function curve(from, to, width, kind, id) {
  const path = `M0 ${from.toFixed(1)} C${width / 2} ${from.toFixed(1)} ${width / 2} ${to.toFixed(1)} ${width} ${to.toFixed(1)}`;
  return make("path", { d: path, class: kind, "data-id": id });
}

function highlight(event) {
  const id = event.target.closest?.("[data-id]")?.dataset.id;
  for (const element of at("columns").querySelectorAll("[data-id]")) {
    element.classList.toggle("lit", Boolean(id) && element.dataset.id === id);
  }
}

// ---------------------------------------------------------------- the shopper

function drawShopper() {
  const chosen = state.about.shoppers.find((shopper) => shopper.id === at("shopper").value);
  const place = at("who-words");
  if (!chosen) {
    place.replaceChildren(
      make(
        "p",
        {},
        at("shopper").value
          ? "The page does not have the history of this customer."
          : "An anonymous visitor. Choose a shopper to see the effect of a history.",
      ),
    );
    return;
  }
  place.replaceChildren(
    make("p", { class: "traits" }, ...traits(chosen)),
    make("p", {}, history_(chosen)),
    make(
      "details",
      {},
      make("summary", {}, "Latest actions"),
      make("ul", {}, ...chosen.latest.map((action) => make("li", {}, `${day(action.on)}: ${action.did} `, make("b", {}, action.title ?? ""), ` for “${action.query}”`))),
    ),
  );
}

function traits(shopper) {
  return Object.entries(shopper.about).map(([name, value]) => {
    const shown = typeof value === "number" ? number(value, 1) : typeof value === "boolean" ? (value ? "yes" : "no") : value;
    return make("span", { class: "trait" }, `${words(name)}: ${shown}`);
  });
}

function history_(shopper) {
  const parts = [`${count(shopper.searches, "search", "searches")} from ${day(shopper.first)} to ${day(shopper.last)}`];
  const done = [];
  if (shopper.click) done.push(`clicked ${count(shopper.click, "product")}`);
  if (shopper.add_to_cart) done.push(`added ${number(shopper.add_to_cart, 0)} to the cart`);
  if (shopper.purchase) done.push(`bought ${number(shopper.purchase, 0)}`);
  let text = `${parts[0]}; ${done.join(", ")}.`;
  const liked = Object.entries(shopper.favourites)
    .filter(([name, values]) => values.length && ["brand", "category", "color"].includes(name))
    .map(([name, values]) => `${words(name)} ${values.map(([value, n]) => `${value} (${n})`).join(", ")}`);
  if (liked.length) text += ` Most often ${liked.join("; ")}.`;
  if (typeof shopper.price === "number") {
    const unit = state.about.features.find((feature) => feature.name === "price")?.unit;
    text += ` Median price: ${money(shopper.price, unit)}.`;
  }
  return text;
}

function label(shopper) {
  const favourite = shopper.favourites.category?.[0]?.[0] ?? shopper.favourites.brand?.[0]?.[0];
  return `${shopper.id}: ${count(shopper.click, "click")}${favourite ? `, mostly ${favourite}` : ""}`;
}

// ---------------------------------------------------------------- weights

function drawSliders() {
  const total = state.about.tasks.reduce((sum, task) => sum + (state.about.task_weights[task] ?? 0), 0) || 1;
  at("sliders").replaceChildren(
    ...state.about.tasks.map((task) => {
      const share = Math.round(((state.about.task_weights[task] ?? 0) / total) * 100);
      const slider = make("input", { type: "range", min: 0, max: 100, step: 1, id: `weight-${task}`, "data-task": task });
      slider.value = String(share);
      slider.addEventListener("input", weigh);
      return make(
        "div",
        { class: "slider" },
        make("label", { for: `weight-${task}` }, words(task)),
        slider,
        make("output", { for: `weight-${task}`, id: `share-${task}` }),
      );
    }),
  );
  showShares();
}

function sliders() {
  return [...at("sliders").querySelectorAll("input")];
}

function showShares() {
  const total = sliders().reduce((sum, slider) => sum + Number(slider.value), 0);
  for (const slider of sliders()) {
    const share = total ? `${Math.round((Number(slider.value) / total) * 100)} %` : "–";
    at(`share-${slider.dataset.task}`).textContent = share;
    slider.setAttribute("aria-valuetext", share);
  }
  return total;
}

function weigh() {
  if (!showShares()) {
    tell(new Refused(422, "At least one weight must be above 0."));
    return;
  }
  state.weights = Object.fromEntries(sliders().map((slider) => [slider.dataset.task, Number(slider.value)]));
  search();
}

// ---------------------------------------------------------------- reasons

async function explain(id, which) {
  const { query, customer } = state.answer;
  const product = state.answer.products[id];
  state.explained = { id, position: product[which].rank };
  at("why-title").textContent = product.title || id;
  at("why-place").textContent =
    `Rank ${product.personalized.rank} for ${customer ?? "an anonymous visitor"}, ` +
    `${product.neutral.rank} for a neutral customer, ${product.engine_rank} by retrieval alone.`;
  at("why-body").replaceChildren(make("p", { class: "caption" }, "…"));
  at("why").showModal();
  try {
    const explained = await ask("/v1/shop/explain", {
      query,
      customer_id: customer,
      session_id: state.session,
      task_weights: state.weights,
      product_id: id,
    });
    if (state.explained?.id === id) at("why-body").replaceChildren(...reasons(explained));
  } catch (error) {
    at("why-body").replaceChildren(make("p", { class: "caption" }, error.message));
  }
}

function reasons(explained) {
  const unit = explained.bounded ? "log-odds" : "score";
  const parts = [
    make("h3", {}, "Contribution by group"),
    make("p", { class: "caption" }, `Loss of weighted ${unit} when all features of a group are set to their training means (${explained.method}).`),
    signed(explained.sides, (reason) => SIDES[reason.side] ?? reason.side),
    make("h3", {}, "Contribution by feature"),
    make("p", { class: "caption" }, "The same for one feature at a time, the strongest first."),
    signed(explained.features.slice(0, MAX_REASONS), (reason) => words(reason.feature), (reason) => SIDES[reason.side] ?? reason.side),
  ];
  if (explained.gates) {
    parts.push(
      make("h3", {}, "Expert weights by task"),
      make("p", { class: "caption" }, "Gate weights in percent; each row sums to 100."),
      gates(explained.gates),
    );
  }
  return parts;
}

function signed(list, name, side = () => null) {
  const max = Math.max(...list.map((reason) => Math.abs(reason.fused)), 1e-9);
  return make(
    "ul",
    { class: "signed" },
    ...list.map((reason) => {
      const kind = reason.fused >= 0 ? "plus" : "minus";
      const fill = make("span", { class: `fill ${kind}` });
      fill.style.width = `${(Math.abs(reason.fused) / max) * 50}%`;
      const value = `${reason.fused >= 0 ? "+" : "−"}${Math.abs(reason.fused).toFixed(2)}`;
      return make(
        "li",
        {},
        make("span", { class: "name" }, name(reason), side(reason) ? make("span", { class: "side" }, ` ${side(reason)}`) : null),
        make("span", { class: "axis", "aria-hidden": "true" }, fill),
        make("span", { class: "value" }, value),
      );
    }),
  );
}

function gates(byTask) {
  const rows = Object.entries(byTask).map(([task, weights]) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, words(task)),
      ...weights.map((weight) => {
        const cell = make("td", {}, `${Math.round(weight * 100)}`);
        cell.style.setProperty("--weight", `${Math.round(weight * 100)}%`);
        return cell;
      }),
    ),
  );
  const first = Object.values(byTask)[0] ?? [];
  const head = make("tr", {}, make("td"), ...first.map((_, i) => make("th", { scope: "col" }, `${i + 1}`)));
  return make("div", { class: "scroll", tabindex: 0 }, make("table", { class: "gates" }, make("thead", {}, head), make("tbody", {}, ...rows)));
}

async function act(event) {
  const { action } = event.target.dataset;
  if (!action || !state.explained) return;
  const { query, customer } = state.answer;
  const { id, position } = state.explained;
  try {
    await ask("/v1/shop/actions", { query, product_id: id, action, position, customer_id: customer, session_id: state.session });
    at("why").close();
    at("said").textContent = `${DONE[action]}. The page is ranked again.`;
    await search();
  } catch (error) {
    at("why").close();
    tell(error);
  }
}

// ---------------------------------------------------------------- suggestions

let typing = null;
let suggesting = null;

function suggestLater() {
  clearTimeout(typing);
  typing = setTimeout(suggest, TYPING_MS);
}

async function suggest() {
  suggesting?.abort();
  suggesting = new AbortController();
  const typed = at("query").value;
  try {
    const queries = await ask(`/v1/shop/suggest?q=${encodeURIComponent(typed)}`, null, suggesting.signal);
    if (document.activeElement === at("query") && at("query").value === typed) showSuggestions(queries);
  } catch (error) {
    if (error.name !== "AbortError") hideSuggestions();
  }
}

function showSuggestions(queries) {
  const options = queries.map((text, i) =>
    make("li", { role: "option", id: `suggestion-${i}`, "aria-selected": "false", onmousedown: (event) => choose(event, text) }, text),
  );
  at("suggestions").replaceChildren(...options);
  at("suggestions").hidden = !options.length;
  at("query").setAttribute("aria-expanded", String(Boolean(options.length)));
  at("query").removeAttribute("aria-activedescendant");
}

function hideSuggestions() {
  clearTimeout(typing);
  suggesting?.abort();
  showSuggestions([]);
}

function choose(event, text) {
  event?.preventDefault();
  at("query").value = text;
  hideSuggestions();
  search();
}

function onKey(event) {
  const options = [...at("suggestions").children];
  const current = options.findIndex((option) => option.getAttribute("aria-selected") === "true");
  if (event.key === "Escape" && options.length) {
    event.preventDefault();
    hideSuggestions();
  } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && options.length) {
    event.preventDefault();
    const step = event.key === "ArrowDown" ? 1 : -1;
    const next = current < 0 ? (step > 0 ? 0 : options.length - 1) : (current + step + options.length) % options.length;
    options.forEach((option, i) => option.setAttribute("aria-selected", String(i === next)));
    at("query").setAttribute("aria-activedescendant", options[next].id);
  } else if (event.key === "Enter" && current >= 0) {
    choose(event, options[current].textContent);
  }
}

// ---------------------------------------------------------------- start

function show(which) {
  at("columns").classList.toggle("only-neutral", which === "neutral");
  at("show-neutral").setAttribute("aria-pressed", String(which === "neutral"));
  at("show-personalized").setAttribute("aria-pressed", String(which !== "neutral"));
}

async function start() {
  let about;
  try {
    about = await ask("/v1/shop");
  } catch (error) {
    tell(error);
    return;
  }
  quiet();
  state.about = about;
  const asOf = new Date(about.now_us / 1000).toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" });
  at("served").textContent =
    `${about.name}, ${count(about.products, "product")}, ranked by ${about.label} (${about.bundle})` +
    (about.is_shifted ? `, as of ${asOf}, the end of its log` : "");
  at("k").textContent = String(about.k);
  at("shopper").replaceChildren(
    make("option", { value: "" }, "anonymous visitor"),
    ...about.shoppers.map((shopper) => make("option", { value: shopper.id }, label(shopper))),
  );
  at("examples").replaceChildren(
    make("span", {}, "Frequent queries:"),
    ...about.examples.map((text) => make("button", { type: "button", class: "plain", onclick: () => choose(null, text) }, text)),
  );
  drawSliders();
  restore();
}

function restore() {
  const kept = new URLSearchParams(location.hash.slice(1));
  at("query").value = kept.get("q") ?? "";
  const shopper = kept.get("c") ?? "";
  if (shopper && ![...at("shopper").options].some((option) => option.value === shopper)) {
    at("shopper").append(make("option", { value: shopper }, shopper));
  }
  at("shopper").value = shopper;
  drawShopper();
  search();
}

for (const panel of ["who", "weights"]) at(panel).addEventListener("toggle", drawMoves);
at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  hideSuggestions();
  search();
});
at("query").addEventListener("input", suggestLater);
at("query").addEventListener("keydown", onKey);
at("query").addEventListener("blur", hideSuggestions);
at("shopper").addEventListener("change", () => {
  drawShopper();
  search();
});
at("reset").addEventListener("click", () => {
  state.weights = null;
  drawSliders();
  search();
});
at("show-neutral").addEventListener("click", () => show("neutral"));
at("show-personalized").addEventListener("click", () => show("personalized"));
at("columns").addEventListener("pointerover", highlight);
at("columns").addEventListener("focusin", highlight);
at("columns").addEventListener("pointerleave", highlight);
at("actions").addEventListener("click", act);
at("key").addEventListener("submit", (event) => {
  event.preventDefault();
  state.key = at("key-text").value;
  sessionStorage.setItem("key", state.key);
  start();
});
// Results first on a phone.
if (matchMedia("(max-width: 860px)").matches) for (const id of ["who", "weights"]) at(id).open = false;
addEventListener("resize", drawMoves);
addEventListener("hashchange", restore);
start();
