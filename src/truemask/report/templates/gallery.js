// A gallery draws its cards as they come into view, and a viewer flips through them by keys.
function gallery(root) {
  const { facts, numbers, items } = JSON.parse(root.querySelector("script").textContent);
  const [grid, said, more] = ["grid", "said", "more"].map((name) => root.querySelector(`[data-${name}]`));
  const find = root.querySelector("[data-find]");
  const order = root.querySelector("[data-order]");
  const choices = [...root.querySelectorAll("[data-choose]")];
  const viewer = root.querySelector("dialog");
  const MANY = 60;
  viewer.tabIndex = -1;
  let chosen = [], drawn = 0, place = 0, only = 0;

  const make = (kind, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(kind), properties);
    made.append(...children);
    return made;
  };
  const written = (value, name) => {
    if (value === null) return "–";
    if (!numbers.includes(name) || Number.isInteger(value)) return value.toLocaleString("en");
    return Number(value.toPrecision(3)).toString();
  };
  const picture = ([name, uri, width, height], of) =>
    make("img", { src: uri, width, height, alt: `${name} of ${of}`, decoding: "async", className: width < 200 ? "tiny" : "" });

  function card(at) {
    const [name, values, , cover, pictures] = items[chosen[at]];
    const column = facts.indexOf((order?.value ?? "").slice(1));
    const fact = column >= 0 ? `${facts[column]} ${written(values[column], facts[column])}` : "";
    const button = make("button", { type: "button", className: "shot" },
      picture(pictures[cover], name), make("b", {}, name), make("span", {}, fact));
    button.addEventListener("click", () => open(at));
    return button;
  }

  function draw(count) {
    const end = Math.min(chosen.length, drawn + count);
    const fresh = [];
    for (; drawn < end; drawn++) fresh.push(card(drawn));
    grid.append(...fresh);
    more.hidden = drawn >= chosen.length;
  }

  function choose() {
    const text = find ? find.value.trim().toLowerCase() : "";
    const wanted = choices.filter((select) => select.value !== "").map((select) => [facts.indexOf(select.dataset.choose), select.value]);
    chosen = items.map((_, at) => at).filter((at) =>
      items[at][0].toLowerCase().includes(text) && wanted.every(([column, word]) => items[at][1][column] === word));
    if (order?.value) {
      const sign = order.value[0] === "+" ? 1 : -1;
      const column = facts.indexOf(order.value.slice(1));
      chosen.sort((a, b) => {
        const [x, y] = [items[a][1][column], items[b][1][column]];
        if (x === null || y === null) return (x === null) - (y === null); // what has no number stays last
        return sign * (x - y) || a - b;
      });
    }
    drawn = 0;
    grid.replaceChildren();
    draw(MANY);
    said.textContent = chosen.length === items.length
      ? `${items.length.toLocaleString("en")} ${items.length === 1 ? "image" : "images"}`
      : `${chosen.length.toLocaleString("en")} of ${items.length.toLocaleString("en")} images`;
  }

  function show() {
    const [name, values, note, , pictures] = items[chosen[place]];
    const shown = only > 0 && only <= pictures.length ? [pictures[only - 1]] : pictures;
    viewer.querySelector("[data-name]").textContent = name;
    viewer.querySelector("[data-place]").textContent = `${(place + 1).toLocaleString("en")} of ${chosen.length.toLocaleString("en")}`;
    viewer.querySelector("[data-note]").textContent = note;
    const views = viewer.querySelector("[data-views]");
    views.classList.toggle("one", shown.length === 1);
    views.replaceChildren(...shown.map((layer) => make("figure", {}, picture(layer, name), make("figcaption", {}, layer[0]))));
    viewer.querySelector("[data-layers]").replaceChildren(...(pictures.length < 2 ? [] : ["All", ...pictures.map(([layer]) => layer)]).map((layer, at) => {
      const button = make("button", { type: "button", ariaPressed: String(at === (shown.length === 1 ? only : 0)), title: `key ${at}` }, layer);
      button.addEventListener("click", () => {
        only = at;
        show();
        viewer.querySelector("[data-layers]").children[at].focus();
      });
      return button;
    }));
    viewer.querySelector("[data-facts]").replaceChildren(...facts.flatMap((fact, column) =>
      [make("dt", {}, fact), make("dd", {}, written(values[column], fact))]));
    if (viewer.open && !viewer.contains(document.activeElement)) viewer.focus();
  }

  function open(at) {
    place = at;
    show();
    viewer.showModal();
    viewer.focus();
  }
  function move(to) {
    place = Math.max(0, Math.min(chosen.length - 1, to));
    show();
  }
  const keys = {
    ArrowRight: () => move(place + 1), ArrowLeft: () => move(place - 1), PageDown: () => move(place + 10),
    PageUp: () => move(place - 10), Home: () => move(0), End: () => move(chosen.length - 1),
  };
  viewer.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const layer = event.key.length === 1 && event.key >= "0" && event.key <= "9" ? Number(event.key) : null;
    if (layer === null && !(event.key in keys)) return;
    event.preventDefault();
    if (layer === null) keys[event.key]();
    else if (layer <= items[chosen[place]][4].length) { only = layer; show(); }
  });
  viewer.querySelector("[data-back]").addEventListener("click", () => move(place - 1));
  viewer.querySelector("[data-next]").addEventListener("click", () => move(place + 1));
  viewer.querySelector("[data-close]").addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.addEventListener("close", () => {
    if (place >= drawn) draw(place + 1 - drawn);
    const card = grid.children[place];
    card?.scrollIntoView({ block: "nearest" });
    card?.focus();
  });
  grid.addEventListener("keydown", (event) => {
    const at = [...grid.children].indexOf(document.activeElement);
    const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + columns, ArrowUp: at - columns }[event.key];
    if (at < 0 || to === undefined || to < 0 || to >= chosen.length) return;
    event.preventDefault();
    if (to >= drawn) draw(MANY);
    grid.children[to].focus();
  });
  more.addEventListener("click", () => draw(MANY));
  new IntersectionObserver((seen) => { if (seen.some((entry) => entry.isIntersecting)) draw(MANY); }, { rootMargin: "600px" }).observe(more);
  find?.addEventListener("input", choose);
  [order, ...choices].forEach((select) => select?.addEventListener("change", choose));
  root.querySelector("[data-bar]").hidden = items.length < 2;
  choose();
}

document.querySelectorAll(".gallery").forEach(gallery);
