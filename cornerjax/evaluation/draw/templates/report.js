"use strict";
// What is shown is a state of a few words; it stands behind the # of the address, so that a view can be linked.
const one = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const controls = all("[name]").filter(control => control.tagName !== "META");
const boxOf = rect => ({
  rect, isTrue: rect.classList[0] === "true-box", kind: rect.classList[1], label: Number(rect.dataset.class),
  score: Number(rect.dataset.score ?? -Infinity), mistaken: Number(rect.dataset.mistaken ?? -Infinity),
});
const cards = all(".card").map(figure => (
  {figure, image: figure.dataset.image, caption: one("figcaption span", figure), boxes: all("rect", figure).map(boxOf)}));
const rows = all("#classes tbody tr");
const names = rows.map(row => row.dataset.class);  // in the order of the labels
const dialog = one("dialog");
const valueOf = control => control.type === "checkbox" ? String(Number(control.checked)) : control.value;
const defaults = {sort: "", image: "", class: ""};
for (const control of controls) if (control.type !== "radio" || control.checked) defaults[control.name] = valueOf(control);
let state = {}, later;

function read() {
  state = {...defaults, ...Object.fromEntries(new URLSearchParams(location.hash.slice(1)))};
  show();
}

function change(changes) {
  Object.assign(state, changes);
  show();
  clearTimeout(later);  // browsers refuse to change the address hundreds of times while a slider moves
  later = setTimeout(() => {
    const changed = Object.entries(state).filter(([name, value]) => value !== defaults[name]);
    history.replaceState(null, "", `#${new URLSearchParams(changed)}`);
  }, 150);
}

function show() {
  for (const control of controls) {
    if (control.type === "checkbox") control.checked = state[control.name] === "1";
    else if (control.type === "radio") control.checked = control.value === state.kind;
    else if (control.value !== state[control.name]) control.value = state[control.name];
  }
  for (const {type, name} of controls) if (type === "checkbox") document.body.classList.toggle(`with-${name}`, state[name] === "1");
  showClasses();
  if (cards.length) {
    one("output").value = state.score;
    cards.forEach(showCard);
    one("#shown").textContent = `${cards.filter(card => !card.figure.hidden).length} of ${cards.length} shown`;
    showLarge();
  }
}

// What became of a true box changes with the threshold, the kind of a found box does not.
function kindAt(box, threshold) {
  if (!box.isTrue || box.kind === "crowd") return box.kind;
  return box.score >= threshold ? "found" : box.mistaken >= threshold ? "mistaken" : "missed";
}

function showCard(card) {
  const threshold = Number(state.score), label = names.indexOf(state.class), filtered = Boolean(state.class || state.kind);
  const counts = {right: 0, wrong: 0, missed: 0};
  let any = false;
  for (const box of card.boxes) {
    const there = box.isTrue || box.score >= threshold, kind = kindAt(box, threshold);
    const meant = there && (!state.class || box.label === label) && (!state.kind || kind === state.kind);
    const list = box.rect.classList;
    list.toggle("off", !there);
    list.toggle("dim", filtered && !meant);
    if (box.isTrue) for (const name of ["found", "mistaken", "missed"]) list.toggle(name, name === kind);
    any ||= meant;
    if (box.isTrue) counts.missed += kind === "mistaken" || kind === "missed";
    else if (there && kind !== "ignored") counts[kind === "correct" ? "right" : "wrong"] += 1;
  }
  const {right, wrong, missed} = counts, f1 = 2 * right / (2 * right + wrong + missed || 1);
  card.figure.hidden = filtered && !any;
  card.caption.textContent = `F1 ${f1.toFixed(2)}: ${right} right, ${wrong} wrong, ${missed} missed`;
}

function showClasses() {
  const column = state.sort.replace("-", ""), sign = state.sort.startsWith("-") ? -1 : 1;
  const value = row => column === "class" ? row.dataset.class : Number(one(`[data-column="${CSS.escape(column)}"]`, row)?.dataset.value);
  const compare = (a, b) => typeof a === "string" ? sign * a.localeCompare(b) : isNaN(a) - isNaN(b) || sign * (a - b) || 0;
  const sorted = column ? rows.map(row => [value(row), row]).sort(([a], [b]) => compare(a, b)).map(([, row]) => row) : rows;
  one("#classes tbody").replaceChildren(...sorted);
  for (const row of rows) {
    row.hidden = !row.dataset.class.toLowerCase().includes((state.search ?? "").toLowerCase());
    row.classList.toggle("chosen", row.dataset.class === state.class);
  }
  for (const head of all("#classes th[data-sort]"))
    head.ariaSort = head.dataset.sort !== column ? null : sign < 0 ? "descending" : "ascending";
}

function showLarge() {
  const card = cards.find(card => card.image === state.image);
  if (!card) return dialog.close();
  const svg = one("svg", card.figure).cloneNode(true);
  one(".stage", dialog).replaceChildren(svg);
  one("p", dialog).replaceChildren(...one("figcaption", card.figure).cloneNode(true).childNodes);
  const drawn = all("rect", svg).filter(rect => getComputedStyle(rect).display !== "none");
  const boxes = drawn.map(boxOf).sort((a, b) => b.isTrue - a.isTrue || b.score - a.score || 0);
  one("ul", dialog).replaceChildren(...boxes.map(({rect}) => {
    const item = document.createElement("li"), swatch = document.createElement("i");
    swatch.className = `swatch ${rect.getAttribute("class")}`;
    item.append(swatch, rect.textContent);
    item.tabIndex = 0;
    for (const on of ["mouseenter", "focus"]) item.addEventListener(on, () => rect.classList.add("on"));
    for (const off of ["mouseleave", "blur"]) item.addEventListener(off, () => rect.classList.remove("on"));
    return item;
  }));
  if (!dialog.open) dialog.showModal();
}

function step(by) {
  const shown = cards.filter(card => !card.figure.hidden || card.image === state.image);
  const at = shown.findIndex(card => card.image === state.image);
  change({image: shown[(at + by + shown.length) % shown.length].image});
}

document.addEventListener("input", ({target}) => change({[target.name]: valueOf(target)}));
document.addEventListener("reset", () => change({...defaults, sort: state.sort}));
document.addEventListener("click", ({target}) => {
  const button = target.closest("button");
  if (!button) return target === dialog && change({image: ""});
  const head = button.closest("[data-sort]"), row = button.closest("#classes tbody tr"), figure = button.closest(".card");
  if (head) change({sort: (state.sort === `-${head.dataset.sort}` ? "" : "-") + head.dataset.sort});
  else if (row) change({class: row.dataset.class === state.class ? "" : row.dataset.class});
  else if (figure) change({image: figure.dataset.image});
  else if (button.dataset.step === "0") change({image: ""});
  else if (button.dataset.step) step(Number(button.dataset.step));
});
dialog.addEventListener("close", () => state.image && change({image: ""}));
dialog.addEventListener("keydown", event => {
  if (event.key === "ArrowLeft" || event.key === "ArrowRight") step(event.key === "ArrowLeft" ? -1 : 1);
});
window.addEventListener("hashchange", read);
read();
