// A photo goes to the server once a model; all colouring is done here, from the mask of class ids.
(() => {
  "use strict";
  const $ = (name) => document.getElementById(name);
  const about = JSON.parse($("about").textContent);
  const MOST_SHOWN = 1600; // pixels of a side that is drawn on the screen; downloads have all
  const hidden = new Set(about.models.flatMap((model) => model.classes)
    .map((kind) => kind.name).filter((name) => ["background", "bg"].includes(name.toLowerCase())));
  let photo = null, shown = [], asked = 0, name = "photo";

  const percent = (share) => share > 0 && share < 5e-5 ? "< 0.01 %" : `${(100 * share).toFixed(share < 0.0995 ? 2 : 1)} %`;
  const count = (number) => number.toLocaleString("en");
  const megabytes = (bytes) => count(Number((bytes / 1e6).toPrecision(3)));
  const color = (kind) => [1, 3, 5].map((at) => parseInt(kind.color.slice(at, at + 2), 16));

  $("served").textContent = `Truemask · ${about.models.map((model) => `${model.name} (${model.engine})`).join(" and ")}`;
  $("rules").textContent =
    `JPEG, PNG, WebP, TIFF, GIF or BMP, up to ${megabytes(about.bytes)} MB and ${count(Math.floor(about.pixels / 1e6))} megapixels.`;
  $("curl").textContent =
    `curl --data-binary @photo.jpg ${location.origin}/predict\n` +
    `curl --data-binary @photo.jpg '${location.origin}/predict?format=mask' > mask.png`;
  band(about.models[0].classes.map((kind) => ({ ...kind, share: 1 })));

  function band(kinds) {
    $("band").replaceChildren(...kinds.filter((kind) => kind.share > 0).map((kind) => {
      const part = document.createElement("i");
      part.style.setProperty("--color", kind.color);
      part.style.setProperty("--share", kind.share);
      return part;
    }));
  }

  function complain(said) {
    $("problem").textContent = said;
    $("problem").hidden = !said;
  }

  async function ask(model, file) {
    const answer = await fetch(`/predict?mask=true&model=${encodeURIComponent(model.name)}`, { method: "POST", body: file });
    const said = await answer.json().catch(() => null);
    if (!answer.ok || !said) throw new Error(said?.detail ?? `the server answered with ${answer.status}`);
    const bytes = Uint8Array.from(atob(said.mask), (sign) => sign.charCodeAt(0));
    const blob = new Blob([bytes], { type: "image/png" });
    return { said, blob, ids: await read(blob, said.width, said.height) };
  }

  async function read(blob, width, height) {
    // Exactly the file's grey levels: no colour management may touch them.
    const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    const pixels = context.getImageData(0, 0, width, height).data;
    const ids = new Uint8Array(width * height);
    for (let at = 0; at < ids.length; at++) ids[at] = pixels[4 * at];
    return ids;
  }

  // What a model answers, or why it does not: of two, the other one's answer is shown all the same.
  function attempt(model, file) {
    return ask(model, file).catch((error) => ({ model, refused: error }));
  }

  function reason({ refused }, whose = "") {
    if (refused instanceof TypeError) return "The server cannot be reached."; // of fetch: there was no answer
    return `This photo was not predicted: ${whose}${refused.message}.`;
  }

  async function predict(file) {
    if (!file) return;
    complain("");
    if (file.size > about.bytes) {
      complain(`This file has ${megabytes(file.size)} megabytes; the server takes up to ${megabytes(about.bytes)}.`);
      return;
    }
    const turn = ++asked, started = performance.now();
    $("status").textContent = "Looking at your photo …";
    $("result").classList.add("stale");
    const [bitmap, ...answers] = await Promise.all([
      createImageBitmap(file).catch(() => null), // such as TIFF, which browsers do not show
      ...about.models.map((model) => attempt(model, file)),
    ]);
    if (turn !== asked) return;
    $("result").classList.remove("stale");
    const first = answers.find((answer) => !answer.refused);
    if (!first) {
      $("status").textContent = "";
      complain(reason(answers[0], answers.length > 1 ? `${answers[0].model.name}: ` : ""));
      return;
    }
    photo = bitmap;
    name = (file.name || "photo").replace(/\.[^.]*$/, "");
    present(answers);
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    $("status").textContent = `${first.said.width} × ${first.said.height} pixels, in ${seconds} seconds.`;
    band(first.said.classes);
  }

  function present(answers) {
    $("models").classList.toggle("two", answers.length > 1);
    const cards = answers.map((answer) => (answer.refused ? refusal(answer) : card(answer)));
    shown = cards.filter((one) => one.answer);
    $("models").replaceChildren(...cards.map((one) => one.root));
    $("result").hidden = false;
    $("drop").classList.add("done");
    $("agree").textContent = agreement(answers);
    draw();
  }

  function agreement([first, second]) {
    if (!second || first.refused || second.refused) return "";
    const names = (answer) => JSON.stringify(answer.said.classes.map((kind) => kind.name));
    if (names(first) !== names(second)) return "";
    let same = 0;
    for (let at = 0; at < first.ids.length; at++) same += first.ids[at] === second.ids[at];
    return `The two models agree on ${percent(same / first.ids.length)} of the pixels.`;
  }

  function card(answer) {
    const root = $("model").content.firstElementChild.cloneNode(true);
    const find = (kind) => root.querySelector(kind);
    const { said } = answer;
    find(".called").textContent = said.model;
    find(".doubt").textContent = `Do not trust this mask without looking: your photo is ${said.warnings.join(" ")}.`;
    find(".doubt").hidden = !said.warnings.length;
    find(".said").textContent = `Mean confidence ${percent(said.confidence)}`;
    const canvas = find("canvas");
    const scale = Math.min(1, MOST_SHOWN / Math.max(said.width, said.height));
    canvas.width = Math.max(1, Math.round(said.width * scale));
    canvas.height = Math.max(1, Math.round(said.height * scale));
    canvas.classList.toggle("small", said.width < 400);
    const seen = said.classes.filter((kind) => kind.pixels).sort((a, b) => b.pixels - a.pixels);
    canvas.setAttribute("aria-label", `Your photo with the mask of ${said.model}: ` +
      seen.map((kind) => `${kind.name} ${percent(kind.share)}`).join(", "));
    const most = Math.max(...said.classes.map((kind) => kind.share));
    const absent = said.classes.filter((kind) => !kind.pixels);
    find(".classes").append(...[...seen, ...absent].map((kind) => row(kind, most)));
    const mask = find(".mask");
    mask.href = URL.createObjectURL(answer.blob);
    mask.download = `${name}.${said.model}.mask.png`;
    find(".overlay").addEventListener("click", () => save(answer));
    return { root, canvas, answer };
  }

  function refusal(failed) {
    const root = $("refused").content.firstElementChild.cloneNode(true);
    root.querySelector(".called").textContent = failed.model.name;
    root.querySelector(".notice").textContent = reason(failed);
    return { root };
  }

  function row(kind, most) {
    const make = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
    const item = make("li", kind.pixels ? "" : "absent");
    const label = make("label", "");
    label.title = `${kind.name}: ${count(kind.pixels)} pixels`;
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: !hidden.has(kind.name) });
    box.dataset.kind = kind.name;
    box.addEventListener("change", () => toggle([kind.name], box.checked));
    const swatch = make("i", "swatch"), bar = make("span", "bar"), fill = make("i", "");
    for (const part of [swatch, fill]) part.style.setProperty("--color", kind.color);
    fill.style.setProperty("--share", most ? kind.share / most : 0);
    if (kind.pixels) bar.append(fill);
    label.append(box, swatch, make("b", "", kind.name), bar, make("span", "share", kind.pixels ? percent(kind.share) : "none"));
    item.append(label);
    return item;
  }

  function toggle(names, on) {
    for (const each of names) on ? hidden.delete(each) : hidden.add(each);
    for (const box of document.querySelectorAll(".classes input")) box.checked = !hidden.has(box.dataset.kind);
    draw();
  }

  function draw() {
    for (const { canvas, answer } of shown) paint(canvas, answer);
  }

  // The photo, each visible class tinted, and its border in full colour.
  function paint(canvas, { said, ids }) {
    const { width, height } = canvas, context = canvas.getContext("2d");
    const opacity = $("opacity").value / 100;
    context.fillStyle = "#777";
    context.fillRect(0, 0, width, height);
    if (photo) context.drawImage(photo, 0, 0, width, height);
    const tint = new ImageData(width, height), rows = new Int32Array(height), columns = new Int32Array(width);
    for (let y = 0; y < height; y++) rows[y] = said.width * Math.floor((y + 0.5) * said.height / height);
    for (let x = 0; x < width; x++) columns[x] = Math.floor((x + 0.5) * said.width / width);
    const table = new Uint32Array(256), border = new Uint32Array(256);
    const edge = Math.min(255, Math.round(510 * opacity)), inner = Math.round(255 * opacity);
    for (const kind of said.classes) {
      if (hidden.has(kind.name)) continue;
      const [red, green, blue] = color(kind), solid = red | (green << 8) | (blue << 16);
      table[kind.id] = (solid | (inner << 24)) >>> 0;
      border[kind.id] = (solid | (edge << 24)) >>> 0;
    }
    const out = new Uint32Array(tint.data.buffer);
    for (let y = 0, at = 0; y < height; y++) {
      const below = rows[Math.min(height - 1, y + 1)];
      for (let x = 0; x < width; x++, at++) {
        const id = ids[rows[y] + columns[x]];
        const next = columns[Math.min(width - 1, x + 1)];
        const rim = id !== ids[rows[y] + next] || id !== ids[below + columns[x]];
        out[at] = (rim ? border : table)[id];
      }
    }
    const layer = new OffscreenCanvas(width, height);
    layer.getContext("2d").putImageData(tint, 0, 0);
    context.drawImage(layer, 0, 0);
  }

  function save(answer) {
    const canvas = document.createElement("canvas");
    canvas.width = answer.said.width;
    canvas.height = answer.said.height;
    paint(canvas, answer);
    canvas.toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = `${name}.${answer.said.model}.overlay.png`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    }, "image/png");
  }

  // Ways for a photo to come in.
  for (const input of [$("file"), $("capture")]) {
    input.addEventListener("change", () => { predict(input.files[0]); input.value = ""; });
  }
  addEventListener("paste", (event) => predict([...event.clipboardData.files].find((file) => file.type.startsWith("image/"))));
  addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    predict(event.dataTransfer.files[0]);
  });

  // The camera, or the phone's own one where the browser gives none to the page.
  let stream = null;
  const close = () => {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    if ($("viewfinder").open) $("viewfinder").close();
  };
  $("camera").addEventListener("click", async () => {
    complain("");
    if (!navigator.mediaDevices?.getUserMedia) { $("capture").click(); return; }
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1920 } } });
    } catch (error) {
      complain(error.name === "NotAllowedError" ? "The camera may not be used here: choose a photo instead." : "There is no camera: choose a photo instead.");
      return;
    }
    $("video").srcObject = stream;
    $("viewfinder").showModal();
    await $("video").play();
  });
  $("cancel").addEventListener("click", close);
  $("viewfinder").addEventListener("close", close);
  $("shoot").addEventListener("click", () => {
    const video = $("video"), canvas = document.createElement("canvas");
    if (!video.videoWidth) return;
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    close();
    canvas.toBlob((blob) => predict(new File([blob], "camera.jpg", { type: "image/jpeg" })), "image/jpeg", 0.95);
  });

  $("opacity").addEventListener("input", () => { $("opacity-said").textContent = `${$("opacity").value} %`; draw(); });
  const names = about.models.flatMap((model) => model.classes.map((kind) => kind.name));
  $("all").addEventListener("click", () => toggle(names, true));
  $("none").addEventListener("click", () => toggle(names, false));
})();
