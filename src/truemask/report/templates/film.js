// A film shows the frames that stand below it one after the other: by itself once it is seen, unless
// the reader wants no motion, and by its button and its slider.
function film(root) {
  const frames = [...root.querySelectorAll("[data-frame]")];
  const [screen, slider, play, said] = ["screen", "slider", "play", "said"].map((name) => root.querySelector(`[data-${name}]`));
  if (frames.length < 2) return;
  let timer = 0;
  const show = (place) => {
    screen.src = frames[place].src;
    screen.alt = frames[place].alt;
    said.textContent = frames[place].dataset.frame;
    slider.value = place;
    slider.setAttribute("aria-valuetext", frames[place].dataset.frame);
  };
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    play.textContent = "Play";
  };
  const start = () => {
    let place = Number(slider.value) + 1;
    if (place >= frames.length) place = 0;
    show(place);
    play.textContent = "Pause";
    timer = setInterval(() => {
      place += 1;
      if (place >= frames.length) return stop();
      show(place);
    }, 600);
  };
  slider.max = frames.length - 1;
  show(frames.length - 1);
  root.querySelector(".tools").hidden = false;
  play.addEventListener("click", () => (timer ? stop() : start()));
  slider.addEventListener("input", () => {
    stop();
    show(Number(slider.value));
  });
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const watch = new IntersectionObserver(([seen]) => {
    if (!seen.isIntersecting) return;
    watch.disconnect();
    if (!timer) start();
  }, { threshold: 0.6 });
  watch.observe(screen);
}

document.querySelectorAll(".film").forEach(film);
